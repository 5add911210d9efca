import numpy as np
import pytest

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.class_cells import class_positions, encode_votes
from tests.helpers.data import column

POSITIONS = {"a": 0, "b": 1, "1": 2}


def votes(*annotators):
    return np.stack([column(cells) for cells in annotators], axis=1)


def test_votes_are_shares_of_those_who_voted():
    cells = votes(["a", "a", None, "1.0"], ["b", "a", None, None], ["a", None, None, "b"])
    found = encode_votes(cells, POSITIONS)
    expected = [[2 / 3, 1 / 3, 0], [1, 0, 0], [0, 0, 0], [0, 0.5, 0.5]]
    assert found.targets == pytest.approx(np.array(expected))
    assert found.targets.dtype == np.float32
    assert found.labelled.tolist() == [True, True, False, True]
    assert not found.bad.any()


def test_an_unknown_vote_is_bad_in_its_column():
    found = encode_votes(votes(["a", None], ["x", "b"]), POSITIONS)
    assert found.bad.tolist() == [[False, True], [False, False]]
    assert encode_votes(column(["a", "x"]), POSITIONS).bad.tolist() == [False, True]


def test_positions_of_classes():
    assert class_positions(column(["b", None, "x", "a"]), POSITIONS).tolist() == [1, -1, -1, 0]


def test_annotators_have_a_column_each_and_their_classes_are_found():
    task = Classification(annotators=["anna", "ben"])
    assert task.fields == ("anna", "ben")
    task.infer_classes(votes(["b", None, "a"], ["b", "c", None]))
    assert task.classes == ["a", "b", "c"]
    assert task.encode(votes(["b", None], ["c", None])).targets.tolist() == [[0, 0.5, 0.5], [0] * 3]


def test_unknown_is_never_a_class_by_accident():
    for word in ("unknown", "n/a", "none"):
        task = Classification(annotators=["anna", "ben"])
        with pytest.raises(UserError, match=f'"{word}" may be a class or a missing label: name it'):
            task.infer_classes(votes(["b", word], ["b", "a"]))


@pytest.mark.parametrize("annotators", [[], ["a", "a"], ["a/b"], [""]])
def test_annotators_that_cannot_be_are_refused(annotators):
    with pytest.raises(UserError, match="annotators should be different names"):
        Classification(["a", "b"], annotators=annotators)
