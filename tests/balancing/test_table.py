"""Measures every cell of the table in docs/balancing.md again."""

import runpy
from pathlib import Path

import pytest

from tests.helpers.conditions import CONDITIONS, names, row

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_balancing_table.py"
WRITTEN = runpy.run_path(str(SCRIPT))["written"]().splitlines()


def test_the_table_has_every_method_and_condition():
    assert WRITTEN[0] == "| method | " + " | ".join(CONDITIONS) + " |"
    assert [line.split("`")[1] for line in WRITTEN[2:]] == names()


@pytest.mark.parametrize("name", names())
def test_every_cell_is_what_is_measured(by_hand, name):
    (written,) = [line for line in WRITTEN if line.startswith(f"| `{name}` |")]
    assert row(name, by_hand) == written
