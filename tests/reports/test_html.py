import base64
import io
import re

import jinja2
import numpy as np
import pytest
from PIL import Image

from mtl_lightning.reports import html
from mtl_lightning.reports.html import BINS, Histogram, Thumbnail, render


@pytest.fixture
def template():
    """Renders the source of a template, beside those of the package."""

    def rendered(source: str, **values: object) -> str:
        package = html._environment().loader
        with pytest.MonkeyPatch.context() as patch:
            own = jinja2.ChoiceLoader([jinja2.DictLoader({"own": source}), package])
            patch.setattr(html, "PackageLoader", lambda _: own)
            return render("own", **values)

    return rendered


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&#34;&#39;"),
        ("a\x00\x1bb\n", r"a\x00\x1bb\n"),
        ("\udcff", r"\udcff"),
        ("ü 漢", "ü 漢"),
        (3, "3"),
    ],
)
def test_values_are_escaped_inside_and_in_attributes(template, value, escaped):
    found = template('<p title="{{ value }}">{{ value }}</p>', value=value)
    assert found == f'<p title="{escaped}">{escaped}</p>'


def test_parts_are_not_escaped_twice(template):
    table = '{% from "parts.html.j2" import table %}{{ table(["<a>", "n"], [["<x>", 5]]) }}'
    text = template(table)
    assert '<th scope="col">&lt;a&gt;</th>' in text
    assert '<td class="number">5</td>' in text
    assert "<td>&lt;x&gt;</td>" in text
    assert "<x>" not in text


def test_a_name_that_a_template_misspells_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="valeu"):
        template("{{ valeu }}", value=1)


def test_counts_are_read_in_thousands(template):
    assert template("{{ 1234567|thousands }}") == "1,234,567"


DISTRIBUTION = '{% from "parts.html.j2" import distribution %}{{ distribution(bars) }}'


def test_a_histogram_has_its_counts(template):
    bars = Histogram("how often", [1, 0, 4], ["a", "b", "<c>"])
    text = template(DISTRIBUTION, bars=bars)
    assert re.findall("<title>(.*?)</title>", text) == ["how often", "a: 1", "b: 0", "&lt;c&gt;: 4"]
    assert text.count("<rect") == 3
    assert 'height="120.0"' in text
    assert re.findall(r"<text.*?>(.*?)</text>", text) == ["a", "b", "&lt;c&gt;"]


def test_where_all_are_the_same_there_is_nothing_to_draw(template):
    bars = Histogram.of(np.array([7.0, 7.0]), "t")
    assert template(DISTRIBUTION, bars=bars).strip() == "<p>All are 7.</p>"


def test_distributions_of_whole_numbers_have_whole_bars():
    assert Histogram.of(np.array([1.0, 1, 3]), "t") == Histogram("t", [2, 0, 1], ["1", "2", "3"])
    hundred = Histogram.of(np.arange(100.0), "t")
    assert (hundred.names[0], hundred.counts[0]) == ("0 to 3", 4)
    assert sum(hundred.counts) == 100
    halves = Histogram.of(np.array([0.5, 1.0]), "t")
    assert len(halves.counts) == len(halves.names) == BINS


def test_a_thumbnail_holds_its_image(template):
    thumbnail = Thumbnail.of(Image.new("RGB", (20, 10), "red"), ["<label>", "name"])
    content = base64.b64decode(thumbnail.source.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(content)).size == (20, 10)
    figure = '{% from "parts.html.j2" import figure %}{{ figure(thumbnail) }}'
    text = template(figure, thumbnail=thumbnail)
    assert 'width="20" height="10" alt="&lt;label&gt;"' in text
    assert "<div>&lt;label&gt;</div><div>name</div>" in text
    text = template(figure, thumbnail=Thumbnail.of(None, ["x"]))
    assert '<p class="error">cannot be read</p>' in text
    assert "<img" not in text
