"""The page about a run in a real browser."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.reports.run_page import page
from mtl_lightning.runs.facts import Example, SliceResults
from mtl_lightning.tasks.plot_records import ConfusionCounts
from tests.helpers.browser import browser
from tests.reports.test_run_page import made


def whole():
    """A run with everything that a page shows."""
    facts = made()
    evaluation = facts.evaluations["test"]
    names = [f"class {3 * letter}" for letter in "abcdefghijkl"]
    counts = np.full((12, 12), 3) + np.diag(np.arange(12) * 10)
    evaluation.plots["kind"] = ConfusionCounts(names, counts)
    picture = io.BytesIO()
    Image.new("RGB", (96, 64), "teal").save(picture, "JPEG")
    text = base64.b64encode(picture.getvalue()).decode()
    seen = [Example(f"{n}.png", f"t.csv row {n}", 1.0, "cat", "dog", {}, text) for n in range(7)]
    lost = Example("c.png", "t.csv row 9", 1.0, "cat", "dog", {}, why="cannot be read")
    evaluation.mistakes = {"kind": [*seen, lost]}
    counted = [
        SliceResults(name, {"n_labelled": rows, "accuracy": value})
        for name, rows, value in (("anna", 9, 0.5), ("bob", 1200, float("nan")), (None, 80, 0.75))
    ]
    evaluation.slices = {"kind": {"sender": counted}}
    return facts


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page(whole(), "tasks: {}\n"), encoding="utf-8")
    with browser(folder / "profile") as own:
        own.open(path)
        yield own, path


ROWS = "[...document.querySelectorAll('table')].find(t => t.textContent.includes('anna'))"
FIRST = f"[...{ROWS}.tBodies[0].rows].map(row => row.cells[0].textContent.trim())"


def test_the_console_is_empty_and_every_link_leads_somewhere(opened):
    own, path = opened
    for width, dark in ((1200, False), (390, False), (1200, True)):
        own.open(path, width, dark)
        assert own.run("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        ground = own.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    links = own.run("[...document.links].map(a => a.getAttribute('href'))")
    assert len(links) > 6
    for link in links:
        assert link.startswith("#")
        assert own.run(f"document.getElementById({link[1:]!r}) !== null"), link
    assert own.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert own.complaints == []


def test_a_column_sorts_by_numbers_and_unknown_values_stay_last(opened):
    own, path = opened
    own.open(path)
    assert own.run(FIRST) == ["anna", "bob", "no value"]
    head = f"{ROWS}.tHead.rows[0].cells"
    for column, expected in (
        (1, ["anna", "no value", "bob"]),
        (1, ["bob", "no value", "anna"]),
        (2, ["anna", "no value", "bob"]),
        (2, ["no value", "anna", "bob"]),
        (0, ["anna", "bob", "no value"]),
    ):
        own.run(f"{head}[{column}].querySelector('button').click()")
        assert own.run(FIRST) == expected
    assert own.run(f"[...{head}].map(h => h.getAttribute('aria-sort'))") == [
        "ascending",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-02-01", "2024-03-15"),
        ("9", "10"),
        ("1.5 (few)", "12"),
        ("2024-02 to 2024-03", "2025"),
    ],
)
def test_dates_are_compared_as_a_whole_and_numbers_by_size(opened, first, second):
    own, path = opened
    own.open(path)
    assert own.run(f"compare({first!r}, {second!r}) < 0 && compare({second!r}, {first!r}) > 0")


def test_a_long_table_has_a_filter(opened):
    own, path = opened
    own.open(path)
    assert own.run("document.querySelectorAll('input').length") == 1, "the classes alone"
    field = "document.querySelector('input')"
    own.run(f"{field}.value = 'CLASS lll'; {field}.dispatchEvent(new Event('input'))")
    shown = f"[...{field}.parentElement.querySelectorAll('tbody tr')].filter(r => !r.hidden).length"
    assert own.run(shown) == 1
    own.run(f"{field}.value = ''; {field}.dispatchEvent(new Event('input'))")
    assert own.run(shown) == 12


def test_what_is_pointed_at_is_named(opened):
    own, path = opened
    own.open(path)
    spot = "[...document.querySelectorAll('.spots')][1].children[0]"  # the largest cell
    own.run(f"{spot}.scrollIntoView({{block: 'center'}})")
    x, y = own.run(
        f"(b => [b.x + b.width / 2, b.y + b.height / 2])({spot}.getBoundingClientRect())"
    )
    assert own.run("document.querySelector('.tip').hidden")
    own.point_at(x, y)
    assert own.run("document.querySelector('.tip').hidden") is False
    assert (
        own.run("document.querySelector('.tip').textContent") == "class lll → class lll: 113 of 146"
    )
    own.point_at(1, 1)
    assert own.run("document.querySelector('.tip').hidden")


def test_another_script_does_not_run(opened):
    own, path = opened
    bad = path.with_name("bad.html")
    text = path.read_text(encoding="utf-8")
    bad.write_text(text.replace("</body>", "<script>window.ran = true</script></body>"), "utf-8")
    own.open(bad)
    assert own.run("window.ran === undefined")
    assert "script" in " ".join(own.complaints)
    own.complaints.clear()
