import pytest

from mtl_lightning.data.sources.meanings import Meanings
from mtl_lightning.system.errors import UserError


def test_a_text_has_one_meaning():
    assert Meanings("values", {"1": "yes", "1.0": "yes"}).translated(["1", "2"]) == ["yes", "2"]
    with pytest.raises(UserError, match=r'`values` gives "1\.0" two meanings; expected one'):
        Meanings("values", {"1": "yes", "1.0": "no"})


def test_a_later_option_prevails():
    meanings = Meanings("missing", {"?": None, "-": None})
    meanings.update("values", {"-1.0": "5.0", "-": "dash"})
    assert meanings.translated(["-1", "?", "-", None]) == ["5", None, "dash", None]
    assert meanings.knows("5")
    assert not meanings.knows("-1")
    assert meanings.unused() == []


def test_none_at_all():
    assert not Meanings("values", {})
    assert Meanings("values", {}).translated(["a", None]) == ["a", None]


def test_numbers_in_python_are_texts_of_cells():
    meanings = Meanings("values", {-1: None, 1: 2})
    assert meanings.translated(["-1", "1", "3"]) == [None, "2", "3"]
    assert meanings.unused() == []
