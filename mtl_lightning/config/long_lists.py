"""Long lists of a config, such as 10,000 classes, without jsonargparse's copy for each entry."""

from copy import deepcopy
from typing import Any

from jsonargparse import _typehints

LONG = 50
"""Entries of a list from which on it is shared instead of copied."""


def share_long_lists() -> None:
    """Let jsonargparse check a list in time proportional to its length.

    For each entry it copies its own arguments, two of which are the whole list (4.50), so that
    1,200 classes take 40 s.
    """
    vars(_typehints)["deepcopy"] = copy_arguments


def copy_arguments(value: Any) -> Any:
    """Return a deep copy that shares long lists of texts or numbers."""
    held = value.values() if isinstance(value, dict) else ()
    shared = {id(each): each for each in held if isinstance(each, list) and _is_long_and_flat(each)}
    return deepcopy(value, shared)


def _is_long_and_flat(values: list[Any]) -> bool:
    # To look at each entry would be as slow as to copy it; a long list of a config is of one kind.
    return len(values) > LONG and all(
        isinstance(end, str | int | float) for end in (values[0], values[-1])
    )
