"""A short form of benchmarks/toy_balancing.py: where the plain sum hangs, methods go on."""

import runpy
from pathlib import Path

import pytest

TOY = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "toy_balancing.py"))
START = (9.0, 9.0)
"""From here, a loss that is ten times as steep as the other takes the sum into a valley."""


def left_over(name: str) -> float:
    """Return the distance from the front after 700 steps, of 18 at first."""
    end = TOY["descend"](TOY["METHODS"][name], START, 700, lr=0.02)
    distance: float = TOY["distance"](end, TOY["front"]())
    return distance


def test_the_plain_sum_hangs_where_the_losses_conflict():
    assert left_over("Sum") > 9


@pytest.mark.parametrize("name", ["MGDA", "IMTLG", "FAMO"])
def test_a_method_goes_on_to_the_front(name):
    assert left_over(name) < 3.5
