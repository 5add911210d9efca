import io

import numpy as np
import pytest
from rich.console import Console

from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.report import Report
from mtl_lightning.reports.audit_console import (
    class_words,
    numbers_line,
    parts,
    share,
)
from tests.helpers.data import make_data
from tests.helpers.files import messy


def printed(report, width=80, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    for part in parts(report):
        console.print(part, highlight=False)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_everything_has_room(messy_report, width):
    lines = printed(messy_report, width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for words in (
        "labelled images",
        "T-shirt",
        "0.5 to 49.5, median 25",
        "(40 training images)",
        "batch of 8",
        "step of 16",
        "training images with labels of both",
        "to 200 x 100, median 40 x 48",
        "decoded 50 of 50 images, 2 cannot be read",
        "messy: 8 errors, ",
    ):
        assert words in text, words
    assert "…" not in text


def test_findings_come_last_with_their_places(messy_report):
    lines = [line.rstrip() for line in printed(messy_report, 200).splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    assert lines[start : start + 4] == [
        "error: data.sources.types: 2 rows name images that do not exist",
        "    types.csv row 52: photos/98.jpg",
        "    types.csv row 53: photos/99.jpg",
        "    -> correct the paths, or `root`, or leave the rows out",
    ]
    assert lines[-1].startswith("messy: 8 errors, ")


def test_what_a_table_says_moves_no_cursor(messy_report):
    plain = printed(messy_report)
    assert "\x1b" not in plain
    assert r"a\x1b[31mred" in plain
    assert messy.HOSTILE in plain
    coloured = printed(messy_report, force_terminal=True, color_system="standard")
    assert "\x1b[1;31merror: " in coloured
    assert "a\x1b[31mred" not in coloured


def test_names_that_look_like_markup():
    report = Report("[bold]name", make_data(), StepSize(8))
    report.findings = [Finding(Level.WARNING, "[red]x[/]", "[blue]", ("[y]",))]
    text = printed(report)
    for words in ("warning: [red]x[/]", "    [y]", "-> [blue]", "[bold]name: 1 warning\n"):
        assert words in text


def test_of_many_places_and_classes_some_are_shown():
    report = Report("r", make_data(), StepSize(8))
    report.findings = [Finding(Level.NOTE, "x", where=tuple("abcdefgh"))]
    lines = [line.rstrip() for line in printed(report).splitlines()]
    assert lines[-3:-1] == ["    c", "    and 5 more (--output lists them)"]
    counts = {f"k{i:02}": np.array([100 - i, 0, 1]) for i in range(30)}
    words = class_words(counts)
    assert words[0] == "k00 100/0/1"
    assert words[8:] == ["... 18 more ...", *(f"k{i} {100 - i}/0/1" for i in (26, 27, 28, 29))]


def test_nothing_found():
    text = printed(Report("r", make_data(), StepSize(8)))
    assert text.strip() == "r: nothing to complain about"


def test_numbers_in_words():
    assert share(0.0) == "0 %"
    assert share(1e-9) == "< 0.01 %"
    assert share(0.1234) == "12.34 %"
    assert numbers_line(np.array([1.0, 2.0, 6.0])) == (
        "1 to 6, median 2, mean 3, standard deviation 2.16"
    )
