import itertools

import numpy as np
import pandas as pd
import pytest

from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import SPLITS, assign
from mtl_lightning.data.stratified import stratify
from tests.helpers.data import Memory

SHARES = (0.6, 0.2, 0.2)


def columns(rows, seed=0):
    """Labels of three tasks, of which images have some: common, rare and very rare ones."""
    draw = np.random.default_rng(seed)
    kinds = draw.choice(["a", "b", "c", None], rows, p=[0.6, 0.15, 0.05, 0.2])
    rare = draw.choice(["x", "y", None], rows, p=[0.02, 0.03, 0.95])
    ages = np.array([str(n) if n % 3 == 0 else None for n in range(rows)], dtype=object)
    return {"kind": texts(kinds.tolist()), "rare": texts(rare.tolist()), "age": ages}


def farthest(splits, labels, shares=SHARES):
    """Return by how many rows a split has more or less of a label than it should, at most."""
    most = 0.0
    for cells in labels.values():
        codes, _ = pd.factorize(cells)
        for part in [codes >= 0, *(codes == code for code in set(codes.tolist()) - {-1})]:
            if part.sum() >= 3:
                found = np.bincount(splits[part], minlength=3)
                most = max(most, np.abs(found - np.array(shares) * part.sum()).max())
    return most


@pytest.mark.parametrize("seed", range(5))
def test_each_split_has_its_share_of_each_label(seed):
    labels = columns(500, seed)
    units = np.arange(500)
    ranks = np.random.default_rng(seed).permutation(500).tolist()
    splits = stratify(units, ranks, labels, SHARES)
    assert farthest(splits, labels) <= 3
    at_random = np.random.default_rng(seed).permutation(splits)
    assert farthest(at_random, labels) > 3 * farthest(splits, labels)
    assert np.abs(np.bincount(splits) - [300, 100, 100]).max() <= 5


def test_groups_are_not_cut_and_their_labels_are_shared_out_all_the_same():
    labels = columns(900)
    units = np.random.default_rng(1).integers(0, 150, 900)
    splits = stratify(units, list(range(150)), labels, SHARES)[units]
    assert farthest(splits, labels) <= 12


def test_neither_the_order_of_rows_nor_of_tasks_matters():
    labels, keys = columns(200), texts([f"k{i}" for i in range(200)])
    named = np.full(200, None, dtype=object)
    fractions = {"val": 0.2, "test": 0.2}
    splits = assign(named, None, keys, fractions, 7, labels=labels).splits
    order = np.random.default_rng(0).permutation(200)
    turned = {name: labels[name][order] for name in reversed(labels)}
    again = assign(named, None, keys[order], fractions, 7, labels=turned).splits
    assert again.tolist() == splits[order].tolist()
    other = assign(named, None, keys, fractions, 8, labels=labels).splits
    assert other.tolist() != splits.tolist()


@pytest.mark.parametrize("shares", [(0.9, 0.1, 0.0), (0.5, 0.0, 0.5)])
def test_a_split_without_a_share_stays_empty(shares):
    labels = columns(300)
    splits = stratify(np.arange(300), list(range(300)), labels, shares)
    assert np.bincount(splits, minlength=3)[np.array(shares) == 0].tolist() == [0]
    assert farthest(splits, labels, shares) <= 3


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_small_data_leave_no_split_empty_that_can_have_a_unit(rows):
    labels = {"kind": texts(["a"] * rows)}
    splits = stratify(np.arange(rows), list(range(rows)), labels, (0.8, 0.1, 0.1), (1, 2))
    found = np.bincount(splits, minlength=3)
    assert found[0] >= 1
    assert (found[1:] > 0).all() == (rows > 2)


def test_rows_that_a_table_names_stay_and_val_is_taken_from_train():
    rows = 120
    cells = {"kind": ["a", "b", "b", "b"] * 30, "rare": ["x", *[None] * 11] * 10}
    source = Memory(cells, ["train"] * 100 + ["test"] * 20)
    table = merge({"m": source}, [*cells, "never"], MergeOptions({"val": 0.2}, stratify=True))
    splits = np.array(SPLITS)[table.splits]
    assert table.val_from_train
    assert (splits[100:] == "test").all()
    for task, word in itertools.chain([("kind", "a"), ("kind", "b"), ("rare", "x")]):
        has = np.array(cells[task][:100], dtype=object) == word
        assert abs((splits[:100][has] == "val").sum() - 0.2 * has.sum()) <= 1
    assert rows == len(table)
