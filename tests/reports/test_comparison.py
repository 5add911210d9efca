import csv
import io
import math

from rich.console import Console

from mtl_lightning.reports import comparison
from mtl_lightning.runs.comparison import Difference, Row

NAN = (math.nan, math.nan)
ROWS = [
    Row("kind", "accuracy", "only-kind", 0.8, 0.01, (0.78, 0.82), None),
    Row(
        "kind", "accuracy", "all", 0.85, 0.02, (0.83, 0.87), Difference(6.25, (4, 8), 3.0, "better")
    ),
    Row("", "", "all", math.nan, math.nan, NAN, Difference(6.25, (4, 8), math.nan, "")),
]


def test_the_terminal_shows_changes_in_80_columns():
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison.table(ROWS))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines[0] == ["variant", "value", "change", "95", "%", "verdict"]
    assert lines[2:] == [
        ["kind", "accuracy"],
        ["only-kind", "0.8000", "±", "0.0100"],
        ["all", "0.8500", "±", "0.0200", "+6.25", "%", "[+4.00,", "+8.00]", "better"],
        ["mean", "change"],
        ["all", "+6.25", "%", "[+4.00,", "+8.00]"],
    ]


def test_csv_has_all_numbers():
    rows = list(csv.DictReader(io.StringIO(comparison.csv(ROWS))))
    assert rows[0]["mean"] == "0.8"
    assert rows[0]["change_percent"] == ""
    assert rows[1]["change_percent"] == "6.25"
    assert rows[1]["noise_of_seeds_percent"] == "3.0"
    assert rows[1]["verdict"] == "better"
    assert rows[2]["mean"] == ""


def test_markdown_escapes_what_would_end_a_cell():
    odd = Row("a|b", "accuracy", "all", 0.5, math.nan, (0.4, 0.6), None)
    assert comparison.markdown([odd]).splitlines()[2] == (
        r"| a\|b | accuracy | all | 0.5000 | [0.4000, 0.6000] |  |  |  |"
    )


def test_latex_escapes_names():
    odd = Row("a_b", "macro_f1", "all", 0.5, 0.1, (0.4, 0.6), None)
    found = comparison.latex([odd])
    assert r"a\_b & macro\_f1 & all & 0.5000 $\pm$ 0.1000 &" in found
    assert found.startswith(r"\begin{tabular}")


def test_the_caption_says_what_was_measured():
    assert comparison.caption("val", [1, 2], 1000).startswith(
        "On val. Value: mean ± standard deviation over seeds 1, 2. Interval: 95 %, over 1,000 boot"
    )
    assert "Value: seed 3." in comparison.caption("test", [3], 10)
