from pathlib import Path

import pytest

from mtl_lightning.system.errors import (
    LONGEST,
    MOST,
    SourceError,
    UserError,
    did_you_mean,
    image_error,
    listed,
    one_line,
    os_errors_named,
    quoted,
    short,
)


def test_the_nearest_name_is_suggested_whatever_its_case():
    assert did_you_mean("vgg16", ["VGG16", "Timm"]) == '; did you mean "VGG16"?'
    assert did_you_mean("clases", ["class_weights", "classes"]) == '; did you mean "classes"?'


def test_a_name_that_looks_the_same_is_named_with_the_difference():
    composed, decomposed = "caf\u00e9.csv", "cafe\u0301.csv"
    for one, other in ((composed, decomposed), (decomposed, composed)):
        assert did_you_mean(one, ["tea.csv", other]) == (
            f'; did you mean "{other}"? It differs in the Unicode normalization of its accents '
            "(NFC or NFD, as macOS writes them)"
        )
    assert did_you_mean("CAFE\u0301.csv", [composed]) == f'; did you mean "{composed}"?'


def test_nothing_is_suggested_where_nothing_is_near():
    assert did_you_mean("x", ["VGG16", "Timm"]) == ""
    assert did_you_mean("x", []) == ""


def test_nothing_is_suggested_where_looking_would_take_for_ever():
    known = [f"image{i}" for i in range(MOST + 1)]
    assert did_you_mean("imge7", known) == ""
    assert did_you_mean("imge7", known[:MOST]) == '; did you mean "image7"?'
    assert did_you_mean("a" * (LONGEST + 1), ["a" * LONGEST]) == ""
    assert did_you_mean("a" * LONGEST, ["a" * (LONGEST + 1)]) == ""


def test_listed():
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdef", limit=4) == "a, b, c, d and 2 more"
    assert listed([]) == ""
    assert len(listed(["x" * 1_000_000] * 30)) < 13 * (LONGEST + 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 😀", "plain é 漢 😀"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[2J\x07\x9b", r"\x1b[2J\x07\x9b"),
        ("a\u202eb\u2028\xa0", r"a\u202eb\u2028\xa0"),
        ("\udce9\ud800\x00", r"\udce9\ud800\x00"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown
    assert quoted(text) == f'"{shown}"'


def test_of_a_long_text_both_ends_are_shown():
    assert short("a" * 8, 8) == "a" * 8
    assert short("abcdefghij", 8) == "abc...ij"
    assert len(short("x" * 1_000_000)) == LONGEST
    assert quoted("abcdefghij" * 1000, 8) == '"abc...ij" (10,000 characters)'


def test_a_source_that_fails_is_no_fault_of_an_image():
    assert image_error(UserError("broken")) == "broken"
    with pytest.raises(SourceError, match=r"^gone$"):
        image_error(SourceError("gone"))


def test_an_error_of_the_system_names_its_file():
    message = r"^nowhere/a: No such file or directory$"
    with pytest.raises(UserError, match=message), os_errors_named():
        Path("nowhere/a").read_text()
    with pytest.raises(OSError, match="no file"), os_errors_named():
        raise OSError("no file")
