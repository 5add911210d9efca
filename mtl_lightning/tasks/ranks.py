"""The order that the names of classes have by themselves: numbers, bands of numbers and sizes."""

import math
import re
from collections.abc import Collection, Iterable
from itertools import pairwise

from mtl_lightning.tasks.cells import number

SIZES = ("xxxs", "xxs", "xs", "s", "m", "l", "xl", "xxl", "xxxl")
_NUMBER = r"\d+(?:\.\d+)?"
_BAND = re.compile(
    rf"(?P<low>{_NUMBER})(?:\s*(?:-|\u2013|to)\s*(?P<high>{_NUMBER})|\s*(?P<more>\+))?"
    rf"|(?:>=?|over|above)\s*(?P<over>{_NUMBER})"
    rf"|(?:<=?|under|below)\s*(?P<under>{_NUMBER})"
)
_FEWEST = 3
"""Classes from which on an order says anything."""


def by_rank(classes: Iterable[str]) -> list[str] | None:
    """Return classes in their order, lowest first; None if it cannot be inferred.

    It can for numbers, bands of numbers (``0-9``, ``10 to 19``, ``<18``, ``70+``) and sizes (``S``,
    ``XL``).
    """
    names = sorted(classes)
    for rank in (_size, _lowest):
        ranks = {name: value for name in names if (value := rank(name)) is not None}
        if len(ranks) == len(names) == len(set(ranks.values())):
            return sorted(names, key=ranks.__getitem__)
    return None


def evident_order(classes: Collection[str]) -> list[str] | None:
    """Return classes that can hardly be anything but steps, lowest first; None for others.

    They are three or more sizes, or bands of numbers that do not overlap. Numbers alone may as well
    be names.
    """
    ordered = by_rank(classes)
    if ordered is None or len(ordered) < _FEWEST:
        return None
    if all(_size(name) is not None for name in ordered):
        return ordered
    bounds = [_bounds(name) for name in ordered]
    apart = all(low <= high for low, high in bounds)
    apart &= all(one[1] <= other[0] for one, other in pairwise(bounds))
    return ordered if apart and any(low < high for low, high in bounds) else None


def _size(name: str) -> float | None:
    return float(SIZES.index(name.lower())) if name.lower() in SIZES else None


def _lowest(name: str) -> float | None:
    """Return a number, or the one from which a band starts."""
    value = number(name)
    found = _BAND.fullmatch(name.lower())
    if value is not None or found is None:
        return value
    return -math.inf if found["under"] else float(found["low"] or found["over"])


def _bounds(name: str) -> tuple[float, float]:
    """Return the lowest and highest number of a band, or a number twice."""
    found = _BAND.fullmatch(name.lower())
    if number(name) is not None or found is None:
        return float(name), float(name)
    if found["under"]:
        return -math.inf, float(found["under"])
    low = float(found["low"] or found["over"])
    if found["more"] or found["over"]:
        return low, math.inf
    return low, float(found["high"])
