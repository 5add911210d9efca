"""Measures every method under each condition, and writes the results into docs/balancing.md.

    python docs/make_balancing_table.py

A cell is a training of a few steps of a small network in float64, against the claim of its column;
`tests/balancing/test_table.py` measures again and compares with the file.
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "balancing.md"
MARKS = ("<!-- table: begin -->", "<!-- table: end -->")


def written() -> str:
    """Return the table that the page has."""
    begin, end = (re.escape(mark) for mark in MARKS)
    found = re.search(f"{begin}\n(.*?)\n{end}", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def main() -> None:
    """Measure, and replace the table of the page."""
    sys.path.insert(0, str(ROOT))
    from tests.balancing.test_table import table

    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(text.replace(written(), table(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
