import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.plan import StepPlan


def make(rows=45, batch_size=4, world_size=1, accumulate=1, **arguments):
    """A plan of ``rows`` rows out of a larger table, with labels of two tasks."""
    draw = np.random.default_rng(rows)
    labels = {"a": draw.integers(0, 2, rows), "cells": draw.integers(0, 6, rows)}
    options = {"shuffle_seed": 5} | arguments
    if options.pop("again", False):  # an epoch that takes some rows several times, others never
        options["draw"] = lambda _, random: random.integers(0, rows, rows)
    return StepPlan(
        100 + 3 * np.arange(rows), labels, batch_size, world_size, accumulate, **options
    )


def dealt(plan, epoch=0):
    """Requests by micro-batch, then rank."""
    ranks = [list(plan.requests(epoch, rank)) for rank in range(plan.world_size)]
    assert {len(requests) for requests in ranks} == {len(plan)}, "all ranks do as many steps"
    return list(zip(*ranks, strict=True))


def real(requests):
    return [row for request in requests for row in request.rows.tolist() if row != PADDING]


plans = st.builds(
    make,
    rows=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    accumulate=st.integers(1, 5),
    limit=st.none() | st.integers(0, 20),
    shuffle_seed=st.none() | st.integers(0, 9),
    again=st.booleans(),
)
epochs = st.integers(0, 3)


@given(plans, epochs)
def test_every_row_once_and_the_counts_are_those_of_the_whole_step(plan, epoch):
    micro = dealt(plan, epoch)
    everything = [row for requests in micro for row in real(requests)]
    fits = len(plan) * plan.batch_size * plan.world_size
    assert sorted(everything) == sorted(plan.rows[plan.order(epoch)][:fits].tolist())
    if plan.limit is None and (plan.draw is None or plan.shuffle_seed is None):
        assert sorted(everything) == plan.rows.tolist()
    for first in range(0, len(micro), plan.accumulate):
        step = micro[first : first + plan.accumulate]
        rows = [row for requests in step for row in real(requests)]
        positions = [(row - 100) // 3 for row in rows]
        for request in itertools.chain(*step):
            assert request.step_rows == len(rows)
            assert request.gradient_divisor == plan.world_size * plan.accumulate
            assert request.epoch == epoch
            for task, labels in plan.labels.items():
                assert request.counts[task] == sum(labels[i] for i in positions)


@given(plans, epochs)
def test_micro_batches_are_full_but_the_last_which_is_dealt_out_evenly(plan, epoch):
    for number, requests in enumerate(dealt(plan, epoch)):
        sizes = [len(real([request])) for request in requests]
        whole = [plan.batch_size] * plan.world_size
        assert sizes == whole or (number == len(plan) - 1 and max(sizes) - min(sizes) <= 1)
        for request, size in zip(requests, sizes, strict=True):
            assert len(request.rows) == max(size, 1), "padding is for a rank without any row"


@given(plans, epochs, st.integers(0, 20))
def test_starting_later_gives_the_tail_of_the_sequence(plan, epoch, start):
    for rank in range(plan.world_size):
        whole, tail = list(plan.requests(epoch, rank)), list(plan.requests(epoch, rank, start))
        assert len(tail) == max(len(plan) - start, 0)
        for one, other in zip(whole[start:], tail, strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert (one.counts, one.step_rows) == (other.counts, other.step_rows)


@given(plans, epochs)
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_divided(plan, epoch):
    def steps(plan):
        rows = [real(requests) for requests in dealt(plan, epoch)]
        return [
            sorted(itertools.chain(*rows[i : i + plan.accumulate]))
            for i in range(0, len(rows), plan.accumulate)
        ]

    plan = replace(plan, limit=None)
    at_once = plan.batch_size * plan.world_size * plan.accumulate
    whole = replace(plan, batch_size=at_once, world_size=1, accumulate=1)
    assert steps(plan) == steps(whole)


def test_padding_is_only_where_a_rank_would_have_nothing():
    micro = dealt(make(rows=9, batch_size=2, world_size=4))
    assert [len(real(requests)) for requests in micro] == [8, 1]
    assert sum((request.rows == PADDING).sum() for request in micro[0]) == 0
    assert [request.rows.tolist() == [PADDING] for request in micro[1]] == [False, True, True, True]


def test_another_epoch_or_seed_is_another_order_and_the_same_is_the_same():
    plan = make()
    orders = [plan.order(epoch).tolist() for epoch in range(4)]
    orders.append(replace(plan, shuffle_seed=6).order(0).tolist())
    assert len({tuple(order) for order in orders}) == 5
    assert all(sorted(order) == list(range(45)) for order in orders)
    assert make().order(2).tolist() == orders[2]


def test_without_a_seed_rows_keep_their_order():
    plan = make(rows=10, world_size=2, shuffle_seed=None)
    for epoch in (0, 5):
        micro = dealt(plan, epoch)
        assert sorted(real(micro[0])) == plan.rows[:8].tolist()
        assert [r.rows.tolist() for r in micro[0]] == [
            plan.rows[0:8:2].tolist(),
            plan.rows[1:8:2].tolist(),
        ]


def test_no_row_is_no_step():
    assert len(make(rows=0)) == 0
    assert list(make(rows=0).requests(0, 0)) == []


def test_counts_are_plain_numbers():
    request = next(make().requests(0, 0))
    assert {type(count) for count in request.counts.values()} == {int}


unlimited = plans.filter(lambda plan: plan.limit is None and len(plan.rows))


@given(unlimited, unlimited, st.data())
def test_what_remains_of_an_epoch_is_seen_once_by_other_ranks(before, after, data):
    batches = data.draw(st.integers(0, len(before)))
    after = replace(before, **{name: getattr(after, name) for name in RANKS})
    rows = before.rows_before(1, batches)
    assert rows == min(batches * before.batch_size * before.world_size, len(before.rows))
    after = replace(after, resumed=(1, rows))
    ranks = [list(after.requests(1, rank)) for rank in range(after.world_size)]
    assert {len(requests) for requests in ranks} == {len(after) - after.start(1)}
    micro = list(zip(*ranks, strict=True))
    assert sorted(real(itertools.chain(*micro))) == sorted(after.rows[after.order(1)[rows:]])
    steps: dict[int, list[int]] = {}
    for number, requests in enumerate(micro, start=after.start(1)):
        steps.setdefault(number // after.accumulate, []).extend(real(requests))
    for number, requests in enumerate(micro, start=after.start(1)):
        step = steps[number // after.accumulate]
        labels = sum(after.labels["a"][(row - 100) // 3] for row in step)
        assert {request.step_rows for request in requests} == {len(step)}
        assert {request.counts["a"] for request in requests} == {labels}
    assert sorted(real(itertools.chain(*dealt(after, epoch=2)))) == sorted(
        after.rows[after.order(2)]
    )
    assert after.rows_before(1, len(after)) == after.rows_before(2, len(after)) == len(after.rows)


RANKS = ("batch_size", "world_size", "accumulate")


def test_resumed_an_epoch_continues_as_if_uninterrupted():
    whole = make(accumulate=2)
    for batches in range(0, len(whole), 2):
        again = make(accumulate=2, resumed=(1, whole.rows_before(1, batches)))
        assert again.start(1) == batches
        rest = zip(whole.requests(1, 0, batches), again.requests(1, 0, batches), strict=True)
        for one, other in rest:
            assert one.rows.tolist() == other.rows.tolist()
            assert (one.counts, one.step_rows) == (other.counts, other.step_rows)


@pytest.mark.parametrize(
    ("rows", "ranks", "expected"), [(17, 1, 1), (18, 1, 2), (16, 1, 8), (17, 2, 1), (19, 2, 1)]
)
def test_the_fewest_rows_of_any_rank(rows, ranks, expected):
    plan = StepPlan(np.arange(rows), {}, 8, ranks)
    sizes = [len(each.rows) for rank in range(ranks) for each in plan.requests(0, rank)]
    assert plan.fewest_rows(0) == min(sizes) == expected


@given(plans, st.integers(0, 2))
def test_tasks_with_a_single_labelled_row_in_a_batch_of_a_rank(plan, epoch):
    position = {int(row): i for i, row in enumerate(plan.rows)}
    batches = [
        [position[row] for row in request.rows.tolist() if row != PADDING]
        for requests in dealt(plan, epoch)
        for request in requests
    ]
    expected = [
        task
        for task, labels in plan.labels.items()
        if any((labels[rows] > 0).sum() == 1 for rows in batches if rows)
    ]
    assert plan.single_labels(epoch) == expected
    resumed = replace(plan, resumed=(epoch, min(3, len(plan.rows))))
    assert len(resumed.single_labels(epoch)) <= len(plan.labels)


def test_a_resumed_epoch_has_other_batches():
    plan = StepPlan(np.arange(6), {"a": np.array([1, 1, 1, 1, 0, 1])}, 2)
    assert plan.single_labels(0) == ["a"]
    assert replace(plan, resumed=(0, 5)).single_labels(0) == ["a"]
    assert replace(plan, resumed=(0, 3)).single_labels(0) == ["a"]
    assert replace(plan, resumed=(0, 3), batch_size=3).single_labels(0) == []
