"""The current folder as a place for classes of one's own: open only where the user names one.

A folder that was downloaded with a checkpoint is a stranger's too. While it is on the path, what is
imported late and is not installed (timm alone looks for several such packages) is taken from it.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_FIRST = re.compile(r"(?<![\w./\\])([^\W\d]\w*)\.[^\W\d]")  # `shop` of `shop.FileNames`


def without_cwd() -> list[str]:
    """Return the path without the current folder, unless this package itself lies in it."""
    here = os.getcwd()
    kept = here == str(Path(__file__).resolve().parents[2])
    return [folder for folder in sys.path if kept or os.path.abspath(folder) != here]


def remove_cwd() -> None:
    """Take the current folder, with which ``python -m`` begins, from the path."""
    sys.path[:] = without_cwd()


def add_cwd_for(said: Any) -> None:
    """Search the current folder too, after all others, if a module of it is named.

    Args:
        said: The user's own arguments, or config.
    """
    names = {name for text in _texts(said) for name in _FIRST.findall(text)}
    if any(PathFinder.find_spec(name, [os.getcwd()]) for name in names):
        sys.path[:] = [*without_cwd(), os.getcwd()]


def _texts(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping | list):
        for entry in said.values() if isinstance(said, Mapping) else said:
            yield from _texts(entry)
