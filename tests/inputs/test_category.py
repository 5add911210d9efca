import pytest

from mtl_lightning.inputs import Category
from mtl_lightning.system.errors import UserError
from tests.helpers.data import column


def learned(cells, **options):
    category = Category(**options)
    category.learn(column(cells))
    return category


def test_missing_and_unknown_have_codes_of_their_own():
    category = learned(["b", "a", None, "b"])
    assert category.values == ["a", "b"]
    assert category.sizes == (4,)
    codes = category.encode(column(["b", "new", None, "a"])).values
    assert codes.dtype == "int64"
    assert codes[:, 0].tolist() == [3, 1, 0, 2]


def test_texts_of_one_number_are_one_category():
    category = learned(["1.0", "2", "1"])
    assert category.values == ["1", "2"]
    assert category.encode(column(["1.00", "+2"])).values[:, 0].tolist() == [2, 3]
    assert category.meaning("1.0") == category.meaning("1")


def test_rare_values_are_unknown():
    category = learned(["a", "a", "b"], min_count=2)
    assert category.encode(column(["a", "b"])).values[:, 0].tolist() == [2, 1]


def test_a_given_vocabulary_is_kept_in_its_order():
    category = learned(["a", "b"], values=["b", "1.0"])
    assert category.identity() == {"values": ["b", "1"], "min_count": 1}


def test_a_column_of_names_is_refused():
    with pytest.raises(UserError, match=r"a category should have 10,000 values at most"):
        learned(range(10_001))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": ["1", "1.0"]}, "values should be distinct. Found 1 twice"),
        ({"min_count": 0}, "min_count should be 1 or more"),
    ],
)
def test_arguments_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Category(**options)
