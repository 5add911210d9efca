from mtl_lightning.config.values import PlainScalar, display, plain_values


def test_plain_values_are_what_yaml_says():
    value = {"a": [PlainScalar("1e3", 1000.0), "x"], "b": PlainScalar("~", None)}
    assert plain_values(value) == {"a": [1000.0, "x"], "b": None}


def test_a_scalar_is_shown_as_it_was_written():
    assert display(PlainScalar("1e3", 1000.0)) == "1e3"
    assert display([PlainScalar("010", 10)]) == "[010]"


def test_values_are_shown_short():
    assert display(None) == "null"
    assert display("a") == '"a"'
    assert display(1.5) == "1.5"
    assert display("x" * 100) == '"' + "x" * 56 + "..."
