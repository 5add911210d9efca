import numpy as np
import pytest

from mtl_lightning.data.splits import SPLITS, assign, divided_by, hashed
from mtl_lightning.system.errors import UserError


def column(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def keys(n):
    return column(*(f"images/{i:05d}.jpg" for i in range(n)))


def nothing(n):
    return column(*[None] * n)


def counts(splits):
    return np.bincount(splits, minlength=3).tolist()


THIRD = {"val": 0.1, "test": 0.2}


@pytest.mark.parametrize(("n", "expected"), [(1000, [700, 100, 200]), (11, [8, 1, 2])])
def test_fractions_are_exact(n, expected):
    assert counts(assign(nothing(n), None, keys(n), THIRD, 7).splits) == expected


def test_pinned_so_that_no_release_or_machine_divides_otherwise():
    assert hashed(["image:a", "group:ü"], 7).tolist() == [
        14036677483333407292,
        2625443333494321502,
    ]


def test_order_of_rows_does_not_matter_but_the_seed_does():
    random = np.random.default_rng(0)
    names = keys(200)
    groups = column(*(None if i % 3 else f"g{i // 20}" for i in range(200)))
    named = column(*("test" if i < 10 else None for i in range(200)))
    base = assign(named, groups, names, THIRD, 7).splits
    for _ in range(5):
        order = random.permutation(200)
        again = assign(named[order], groups[order], names[order], THIRD, 7).splits
        assert (again == base[order]).all()
    assert (assign(named, groups, names, THIRD, 8).splits != base).any()


def test_groups_are_never_cut_and_shares_stay_near():
    for seed in range(20):
        random = np.random.default_rng(seed)
        n = int(random.integers(50, 400))
        groups = column(*(f"g{g}" for g in random.integers(0, n // 4, n)))
        splits = assign(nothing(n), groups, keys(n), THIRD, seed).splits
        for group in set(groups):
            assert len(set(splits[groups == group])) == 1
        largest = max(int((groups == g).sum()) for g in set(groups))
        assert abs(counts(splits)[1] - 0.1 * n) <= largest
        assert abs(counts(splits)[2] - 0.2 * n) <= largest


def test_named_rows_stay_and_pull_their_group():
    named = column("val", None, None, "train", None, None)
    groups = column("a", "a", None, "b", "b", None)
    splits = assign(named, groups, keys(6), {}, 0).splits
    assert [SPLITS[s] for s in splits] == ["val", "val", "train", "train", "train", "train"]


def test_group_in_two_named_splits_names_both_rows():
    with pytest.raises(UserError, match=r'group "a" .* row 0 says val, row 2 says test'):
        assign(column("val", None, "test"), column("a", "a", "a"), keys(3), THIRD, 0)


def test_every_split_gets_a_unit_where_there_are_enough():
    groups = column(*(f"g{i // 10}" for i in range(30)))
    assert counts(assign(nothing(30), groups, keys(30), THIRD, 3).splits) == [10, 10, 10]
    assert counts(assign(nothing(4), None, keys(4), {"val": 0.01}, 3).splits) == [3, 1, 0]
    assert counts(assign(nothing(1), None, keys(1), THIRD, 3).splits) == [1, 0, 0]


def test_val_is_taken_from_train_only_if_nothing_is_undecided():
    named = column(*["train"] * 80, *["test"] * 20)
    groups = column(*(f"g{i // 2}" for i in range(100)))
    splits, from_train = assign(named, groups, keys(100), THIRD, 0)
    assert from_train
    assert counts(splits) == [72, 8, 20]
    assert (splits[80:] == 2).all()
    for group in set(groups):
        assert len(set(splits[groups == group])) == 1

    splits, from_train = assign(named, None, keys(100), {"test": 0.2}, 0)
    assert not from_train
    assert counts(splits) == [80, 0, 20]

    named[:20] = None
    splits, from_train = assign(named, None, keys(100), THIRD, 0)
    assert not from_train
    assert counts(splits[:20])[1] == 2


def test_a_named_val_is_not_filled_up():
    named = column("val", *[None] * 3)
    assert counts(assign(named, None, keys(4), {"val": 0.1}, 0).splits) == [3, 1, 0]


def test_equal_keys_go_together():
    splits = assign(nothing(100), None, column(*(f"k{i // 2}" for i in range(100))), THIRD, 0)
    assert (splits.splits[::2] == splits.splits[1::2]).all()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"vall": 0.1}, 'should name val and test. Found "vall".*did you mean "val"'),
        ({"train": 0.7}, "is the rest"),
        ({"val": -0.1}, "val should be .* Found -0.1"),
        ({"val": 1.0}, "val should be .* Found 1.0"),
        ({"val": float("nan")}, "val should be .* Found nan"),
        ({"val": 0.5, "test": 0.5}, "val 0.5, test 0.5 leave nothing to train"),
    ],
)
def test_senseless_fractions(fractions, message):
    with pytest.raises(UserError, match=message):
        assign(nothing(3), None, keys(3), fractions, 0)


def test_val_stays_empty_where_what_was_undecided_did_not_suffice():
    named = column(*["train"] * 10, None)
    splits, from_train = assign(named, None, keys(11), {"val": 0.1}, 0)
    assert not from_train
    assert counts(splits) == [11, 0, 0]


def days(*numbers):
    return np.datetime64("2024-01-01", "us") + np.array(numbers) * np.timedelta64(1, "D")


def by_date(dates, named=None, groups=None, shares=THIRD):
    n = len(dates)
    named = nothing(n) if named is None else named
    return assign(named, groups, keys(n), shares, 7, "row {}".format, dates=dates)


def test_the_latest_dates_are_test_and_those_before_val():
    order = np.random.default_rng(0).permutation(1000)
    splits = by_date(days(*order)).splits
    assert counts(splits) == [700, 100, 200]
    assert (splits == np.digitize(order, [700, 800])).all()


def test_no_date_is_in_two_splits():
    numbers = np.random.default_rng(0).integers(0, 20, 500)
    splits = by_date(days(*numbers)).splits
    train, val, test = (numbers[splits == code] for code in range(3))
    assert train.max() < val.min() <= val.max() < test.min()
    assert abs(len(test) - 100) < 60
    assert len(val)


def test_a_group_has_the_date_of_its_latest_row():
    groups = column(*(f"g{i % 50}" for i in range(500)))
    numbers = np.arange(500)
    splits = by_date(days(*numbers), groups=groups).splits
    latest = {group: numbers[groups == group].max() for group in set(groups)}
    for group in latest:
        assert len(set(splits[groups == group])) == 1
    of_row = np.array([latest[group] for group in groups])
    assert of_row[splits == 0].max() < of_row[splits == 1].min()
    assert of_row[splits == 1].max() < of_row[splits == 2].min()
    assert (numbers[splits == 0] < of_row[splits == 2].min()).all()


def test_named_rows_stay_and_val_is_the_latest_of_train():
    named = column(*["train"] * 80, *["test"] * 20)
    numbers = np.random.default_rng(0).permutation(100)
    found = by_date(days(*numbers), named=named)
    assert found.val_from_train
    assert counts(found.splits) == [72, 8, 20]
    train, val = numbers[found.splits == 0], numbers[found.splits == 1]
    assert train.max() < val.min()


def test_dates_before_1970_are_in_their_order():
    numbers = np.random.default_rng(0).permutation(100)
    splits = by_date(days(*(numbers - 25_000))).splits
    assert (splits == np.digitize(numbers, [70, 80])).all()


def test_every_split_by_date_gets_a_date_where_there_are_enough():
    numbers = [0] * 98 + [1, 2]
    assert counts(by_date(days(*numbers)).splits) == [98, 1, 1]
    with pytest.raises(UserError, match=r"Found 2 \(the last is 2024-01-02\), where a group"):
        by_date(days(*[0] * 98, 1, 1))


def test_a_row_to_divide_without_a_date():
    dates = days(*range(10))
    dates[[3, 5]] = np.datetime64("NaT")
    with pytest.raises(UserError) as caught:
        by_date(dates)
    assert str(caught.value) == (
        "row 3 has neither a date nor a split (2 rows like this); expected a date, for data.splits "
        "divides by date"
    )
    named = column(*(("train" if i in (3, 5) else None) for i in range(10)))
    assert by_date(dates, named=named).splits[[3, 5]].tolist() == [0, 0]
    named[:] = ["train"] * 9 + ["test"]
    with pytest.raises(UserError, match=r"row 3 has no date, and val is taken from train \(2 ro"):
        by_date(dates, named=named)
    with pytest.raises(UserError, match="needs a source that names its column of dates"):
        by_date(np.full(10, np.datetime64("NaT", "us")))


def test_settings_of_the_division():
    assert divided_by({"val": 0.1}) == ("random", {"val": 0.1})
    assert divided_by({"by": "date", "test": 0.2}) == ("date", {"test": 0.2})
    with pytest.raises(UserError, match=r"splits: by should be random or date\. Found group"):
        divided_by({"by": "group"})
    with pytest.raises(UserError, match=r"splits: val should be a fraction in 0\.\.1. Found date"):
        divided_by({"val": "date"})
