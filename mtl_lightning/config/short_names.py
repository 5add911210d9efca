"""Short names of the package's own classes, read from its files without importing any class."""

import ast
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def short_names(folder: str) -> tuple[str, ...]:
    """Return the names of the classes that a config may name from a folder of the package.

    They are those that its ``__init__`` imports, except from ``base``.

    Args:
        folder: Such as ``models/backbones``.
    """
    init = _PACKAGE / folder / "__init__.pyi"
    if not init.exists():
        init = init.with_suffix(".py")
    return tuple(
        alias.name
        for statement in ast.parse(init.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ImportFrom)
        and (statement.module or "").rpartition(".")[2] != "base"
        for alias in statement.names
        if alias.name[0].isupper()
    )
