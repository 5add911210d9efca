from mtl_lightning.errors import did_you_mean, listed


def test_the_nearest_name_is_suggested_whatever_its_case():
    assert did_you_mean("vgg16", ["VGG16", "Timm"]) == '; did you mean "VGG16"?'
    assert did_you_mean("clases", ["class_weights", "classes"]) == '; did you mean "classes"?'


def test_nothing_is_suggested_where_nothing_is_near():
    assert did_you_mean("x", ["VGG16", "Timm"]) == ""
    assert did_you_mean("x", []) == ""


def test_listed():
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdef", limit=4) == "a, b, c, d and 2 more"
    assert listed([]) == ""
