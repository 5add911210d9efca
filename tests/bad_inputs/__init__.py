"""Broken and hostile inputs, and what a user reads about each: the corpus of docs/bad-inputs.md.

A module here whose name has no underscore is an area: the first line of its docstring is its
heading, ``CASES`` its inputs.
After a change, write the document again, and read its diff as a user would:

    python -m tests.bad_inputs
"""

import contextlib
import functools
import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mtl_lightning.system.errors import UserError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bad-inputs.md"
HERE = "/here"
"""What the folder of a case is called in its outcome."""

_HEAD = """\
# Bad inputs, and what comes of them

{count} broken or hostile inputs, each tried by a test. An `error:` is the one line that
`mtl-lightning` prints, before training where the input can be known by then, and its exit status is
2; `{here}` is the folder of the run. What is handled says how.

This page is made by `python -m tests.bad_inputs` from the cases in
[`tests/bad_inputs/`](../tests/bad_inputs/); a test checks that it is up to date.
"""


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: What is wrong with it, as a row of the document; no two of an area alike.
        make: Writes the input into the current folder, which is empty.
        read: Has the package read it as a command would, by relative paths: raises the `UserError`
            that the user reads, or returns in a few words how it was handled, checked by itself.
        expected: Regular expression of the whole outcome: ``error: ...`` or ``handled: ...``.
    """

    name: str
    make: Callable[[], object]
    read: Callable[[], str]
    expected: str


@functools.cache
def outcome(case: Case) -> str:
    """Try a case in a folder of its own; return what the user reads, whatever the machine."""
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        case.make()
        try:
            text = f"handled: {case.read()}"
        except UserError as error:
            text = f"error: {error}"
        return text.replace(os.path.realpath(folder), HERE).replace(folder, HERE)


@contextlib.contextmanager
def _inside(folder: str):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def areas() -> list[ModuleType]:
    """Return the modules of cases, by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


def document() -> str:
    """Return what docs/bad-inputs.md should hold."""
    parts = [_HEAD.format(count=sum(len(area.CASES) for area in areas()), here=HERE)]
    for area in areas():
        rows = "".join(f"| {c.name} | {_code(outcome(c))} |\n" for c in area.CASES)
        parts.append(f"## {area.__doc__.splitlines()[0]}\n\n| input | outcome |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    space = " " if text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")
