import re

import pytest
import torch

from mtl_lightning.tasks import (
    Classification,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Segmentation,
)
from mtl_lightning.tasks.growth import names_of

LEVELS = {"group": {"t": ["a"], "u": ["b", "c"]}, "half": {"l": ["a", "b"], "r": ["c"]}}
MOVED = {"group": {"t": ["a", "b"], "u": ["c", "d"]}, "half": LEVELS["half"] | {"r": ["c", "d"]}}


@pytest.mark.parametrize(
    ("task", "key", "trained", "expected"),
    [
        (Classification(["c", "a", "b"]), "classes", ["a", "b"], None),
        (Classification(["a", "c"]), "classes", ["a", "b"], '"b", which is not among the classes'),
        (MultiLabel(["hat", "bag"]), "labels", ["bat"], '"bat", .*; did you mean "hat"'),
        (MultiRegression(["x", "1.0"]), "numbers", ["1"], None),
        (Segmentation({0: "bg", 2: "car"}), "classes", ["bg", "fg"], '"fg", which is not among'),
        (Segmentation({7: "road", 9: "car"}), "classes", {7: "road", 8: "side"}, '"side", which'),
        (Segmentation(["bg", "fg", "car"]), "classes", ["bg", "fg"], None),
        (Ordinal(["z", "a", "b"]), "classes", ["a", "b"], None),
        (Ordinal(["c", "b", "a"]), "classes", ["a", "b"], "another order of the classes: a, b"),
        (HierarchicalClassification(LEVELS), "levels", LEVELS, None),
        (
            HierarchicalClassification({"group": LEVELS["group"]}),
            "levels",
            LEVELS,
            "a in l of leve",
        ),
        (HierarchicalClassification(MOVED), "levels", LEVELS, "b in u of level group, which is no"),
    ],
)
def test_what_is_lost(task, key, trained, expected):
    found = task.lost(key, trained)
    if expected is None:
        assert found is None
    else:
        assert re.match(expected, found), found


def test_rows_by_their_place():
    rows = Classification(["n", "a", "b"]).grown_rows(
        torch.zeros(3, 2), torch.tensor([[1.0, 2], [3, 4]]), [None, 1, 0]
    )
    assert rows.tolist() == [[0, 0], [3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("were", "expected"),
    [
        ([None, 0, 1], [4, 3, 2]),
        ([0, 1, None], [3, 2, 1]),
        ([0, None, None, 1], [3, 2 + 2 / 3, 2 + 1 / 3, 2]),
        ([None, None], [3.5, 1.5]),
    ],
)
def test_new_thresholds_leave_the_others_in_their_order(were, expected):
    task = Ordinal([str(i) for i in range(len(were) + 1)], "coral")
    fresh = torch.linspace(1, -1, len(were))
    rows = task.grown_rows(fresh, torch.tensor([2.0, 3.0]), were)  # sorted in use: 3, 2
    assert rows.tolist() == pytest.approx(expected)
    assert rows.dtype == torch.float32


def test_names_of_lists_and_mappings():
    assert names_of(["a", "b"]) == ["a", "b"]
    assert names_of({7: "road"}) == ["road"]
