"""The current folder on the import path, only if the user names a class in it.

A folder that was downloaded with a checkpoint is not trusted either. While it is on the path, late
imports of packages that are not installed (timm alone looks for several) are taken from it.
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
    """Return the import path without the current folder, unless this package itself lies in it."""
    here = os.getcwd()
    kept = here == str(Path(__file__).resolve().parents[2])
    return [folder for folder in sys.path if kept or os.path.abspath(folder) != here]


def remove_cwd() -> None:
    """Remove the current folder, which ``python -m`` adds, from the import path."""
    sys.path[:] = without_cwd()


def add_cwd_for(given: Any) -> None:
    """Append the current folder to the import path if one of its modules is named.

    Args:
        given: The user's own arguments, or config.
    """
    names = {name for text in _texts(given) for name in _FIRST.findall(text)}
    if any(PathFinder.find_spec(name, [os.getcwd()]) for name in names):
        sys.path[:] = [*without_cwd(), os.getcwd()]


def _texts(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping | list):
        for entry in given.values() if isinstance(given, Mapping) else given:
            yield from _texts(entry)
