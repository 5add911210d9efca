import pytest

from mtl_lightning.reports.html import (
    Html,
    histogram,
    joined,
    node,
    table,
)


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        ("a\x00\x1bb\n", r"a\x00\x1bb\n"),
        ("\udcff", r"\udcff"),
        ("ü 漢", "ü 漢"),
        (3, "3"),
    ],
)
def test_values_are_escaped_inside_and_in_attributes(value, escaped):
    assert node("p", value, title=value) == f'<p title="{escaped}">{escaped}</p>'


def test_elements_are_not_escaped_twice():
    inner = node("i", "<")
    assert node("p", inner, "<") == "<p><i>&lt;</i>&lt;</p>"
    assert isinstance(joined(inner, "<"), Html)
    assert not isinstance(inner + "<", Html), "what is put together elsewhere is text again"


def test_attributes():
    assert node("img", alt=None, class_="a", aria_label="b") == '<img class="a" aria-label="b">'


def test_a_table_escapes_and_aligns():
    text = table(["<a>", "n"], [["<x>", 5]])
    assert '<th scope="col">&lt;a&gt;</th>' in text
    assert '<td class="number">5</td>' in text
    assert "<x>" not in text


def test_a_histogram_has_its_counts():
    text = histogram([1, 0, 4], ["a", "b", "<c>"], "how often")
    assert text.count("<rect") == 3
    assert "<title>&lt;c&gt;: 4</title>" in text
    assert 'height="120.0"' in text
    assert histogram([], [], "nothing").count("<rect") == 0
