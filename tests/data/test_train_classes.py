import numpy as np
import pytest

from mtl_lightning.data.fields import fields_of
from mtl_lightning.data.splits import assign
from mtl_lightning.data.train_classes import LEAST_LEFT, Occurrences, keep_in_train
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from tests.helpers.data import column

TASKS = {
    "kind": Classification(),
    "tags": MultiLabel(["hat", "bag"]),
    "size": Regression(),
}


def occurrences(**cells):
    columns = {name.replace("__", "/"): column(values) for name, values in cells.items()}
    fields = fields_of(TASKS, {})
    return Occurrences.of(columns, {name: fields[name] for name in columns})


def pairs(found):
    return sorted(zip(found.rows.tolist(), found.classes.tolist(), strict=True))


def test_classes_of_all_tasks_are_numbered_by_name():
    found = occurrences(
        kind=["b", "a", None, "a:2|b:1|c:0"],
        tags=["hat;bag", None, "none", None],
        tags__hat=[None, "yes", "no", "1"],
        size=["1", "2", "3", "4"],
    )
    a, b, bag, hat = range(4)
    assert pairs(found) == [(0, b), (0, bag), (0, hat), (1, a), (1, hat), (3, a), (3, b), (3, hat)]
    assert pairs(occurrences(size=["1", "2"])) == []


def split(cells, groups=None, seed=0, fractions=None, named=None):
    n = len(cells)
    return assign(
        column([None] * n if named is None else named),
        None if groups is None else column(groups),
        column([f"{i:04}" for i in range(n)]),
        fractions or {"val": 0.1, "test": 0.2},
        seed,
        classes=lambda: occurrences(kind=cells),
    ).splits


@pytest.mark.parametrize("seed", range(8))
def test_rare_classes_stay_in_train_and_sizes_stay_what_they_were(seed):
    cells = ["common"] * 90 + [f"rare {i}" for i in range(10)]
    splits = split(cells, seed=seed)
    assert np.bincount(splits).tolist() == [70, 10, 20]
    assert (splits[90:] == 0).all()
    twice = ["common"] * 80 + [f"rare {i // 2}" for i in range(20)]
    splits = split(twice, seed=seed)
    assert np.bincount(splits).tolist() == [70, 10, 20]
    assert set(np.array(twice)[splits == 0]) == set(twice)


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_not_cut_for_it(seed):
    draw = np.random.default_rng(seed)
    groups = [f"g{i}" for i in draw.integers(0, 60, 400)]
    cells = [f"rare {g}" if int(g[1:]) < 12 else "common" for g in groups]
    splits = split(cells, groups, seed)
    for group in set(groups):
        assert len(set(splits[np.array(groups) == group])) == 1
    assert set(np.array(cells)[splits == 0]) == set(cells)
    assert 0.02 < (splits == 1).mean() < 0.25
    assert 0.1 < (splits == 2).mean() < 0.35


def test_the_order_of_rows_does_not_matter():
    cells = np.array(["common"] * 90 + [f"rare {i}" for i in range(10)], dtype=object)
    keys = column([f"{i:04}" for i in range(100)])
    order = np.random.default_rng(0).permutation(100)

    def run(cells, keys):
        classes = occurrences(kind=cells)
        return assign(column([None] * 100), None, keys, {"test": 0.4}, 3, classes=lambda: classes)

    assert (run(cells[order], keys[order]).splits == run(cells, keys).splits[order]).all()


def test_nothing_moves_where_train_has_all():
    cells = ["a", "b"] * 50
    plain = assign(column([None] * 100), None, column(range(100)), {"test": 0.3}, 1)
    same = assign(
        column([None] * 100),
        None,
        column(range(100)),
        {"test": 0.3},
        1,
        classes=lambda: occurrences(kind=cells),
    )
    assert (plain.splits == same.splits).all()


def test_val_that_is_taken_from_train_leaves_it_its_classes():
    cells = ["common"] * 30 + ["rare"] + ["common"] * 9
    for seed in range(20):
        splits = split(
            cells, seed=seed, fractions={"val": 0.4}, named=["train"] * 31 + ["test"] * 9
        )
        assert splits[30] == 0
        assert (splits == 1).sum() == 12


def test_what_a_table_names_stays():
    cells = ["a", "b", "rare", "a", "b", "a"]
    named = [None, None, "test", None, None, None]
    assert split(cells, named=named)[2] == 2


def test_where_each_image_is_a_class_of_its_own_splits_are_not_emptied():
    splits = split([f"{i}" for i in range(100)])
    assert (splits == 1).sum() >= LEAST_LEFT * 10
    assert (splits == 2).sum() >= LEAST_LEFT * 20
    assert (split(["a", "b", "c"]) == 2).sum() == 1


def test_a_unit_is_not_moved_that_would_take_the_last_of_a_split():
    splits = np.array([0, 0, 1], dtype=np.int8)
    found = occurrences(kind=["a", "b", "c"])
    keep_in_train(splits, np.array([2]), np.array([0]), [0], found)
    assert splits.tolist() == [0, 0, 1]
    keep_in_train(splits, np.arange(3), np.arange(3), [0, 1, 2], occurrences(kind=["a", "a", "c"]))
    assert splits.tolist() == [1, 0, 0]


def test_many_rare_classes_take_no_time():
    cells = [f"{i // 2}" for i in range(40_000)]
    splits = split(cells)
    assert np.bincount(splits).tolist() == [28_000, 4000, 8000]
    assert len(set(np.array(cells)[splits == 0])) == 20_000
