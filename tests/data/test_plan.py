import itertools
from dataclasses import replace

import numpy as np
import pytest

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.plan import StepPlan

GRID = list(itertools.product((1, 2, 7, 16, 17, 45), (1, 4, 8), (1, 2, 3), (1, 2, 5)))


def make(rows=45, batch_size=4, world_size=1, accumulate=1, **arguments):
    """A plan of ``rows`` rows out of a larger table, with labels of two tasks."""
    draw = np.random.default_rng(rows)
    labels = {"a": draw.integers(0, 2, rows), "cells": draw.integers(0, 6, rows)}
    options = {"shuffle_seed": 5} | arguments
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


@pytest.mark.parametrize(("rows", "batch_size", "world_size", "accumulate"), GRID)
def test_every_row_once_and_the_counts_are_those_of_the_whole_step(
    rows, batch_size, world_size, accumulate
):
    plan = make(rows, batch_size, world_size, accumulate)
    micro = dealt(plan, epoch=3)
    everything = [row for requests in micro for row in real(requests)]
    assert sorted(everything) == plan.rows.tolist()
    for number, requests in enumerate(micro):
        first = number - number % accumulate
        step = [row for part in micro[first : first + accumulate] for row in real(part)]
        positions = [(row - 100) // 3 for row in step]
        for request in requests:
            assert 1 <= len(request.rows) <= batch_size
            assert request.step_rows == len(step)
            assert request.parts == world_size * accumulate
            assert request.epoch == 3
            for task, labels in plan.labels.items():
                assert request.counts[task] == sum(labels[i] for i in positions)
    for requests in micro[:-1]:
        assert len(real(requests)) == batch_size * world_size
    sizes = [len(real([request])) for request in micro[-1]]
    assert max(sizes) - min(sizes) <= 1, "the last micro-batch is dealt out evenly"


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


def test_the_rows_of_a_step_do_not_depend_on_how_it_is_divided():
    def steps(batch_size, world_size, accumulate):
        plan = make(45, batch_size, world_size, accumulate)
        rows = [sorted(real(requests)) for requests in dealt(plan)]
        return [
            sorted(itertools.chain(*rows[i : i + accumulate]))
            for i in range(0, len(rows), accumulate)
        ]

    whole = steps(16, 1, 1)
    assert steps(4, 4, 1) == steps(4, 2, 2) == steps(4, 1, 4) == steps(8, 2, 1) == whole


@pytest.mark.parametrize("limit", [1, 4, 5, 11, 100])
def test_a_limit_cuts_the_epoch_and_the_counts_of_its_last_step(limit):
    whole, plan = make(accumulate=3), make(accumulate=3, limit=limit)
    assert len(plan) == min(limit, len(whole))
    micro = dealt(plan)
    for one, other in zip(micro, dealt(whole), strict=False):
        assert one[0].rows.tolist() == other[0].rows.tolist()
    last_step = micro[(len(plan) - 1) // 3 * 3 :]
    rows = [row for requests in last_step for row in real(requests)]
    assert {request.step_rows for (request,) in last_step} == {len(rows)}
    labels = plan.labels["cells"]
    expected = sum(labels[(row - 100) // 3] for row in rows)
    assert {request.counts["cells"] for (request,) in last_step} == {expected}


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
def test_starting_later_gives_the_tail_of_the_sequence(start):
    plan = make(accumulate=2, world_size=1)
    whole, tail = list(plan.requests(1, 0)), list(plan.requests(1, 0, start))
    assert len(tail) == len(plan) - start
    for one, other in zip(whole[start:], tail, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert (one.counts, one.step_rows) == (other.counts, other.step_rows)


def test_no_row_is_no_step():
    assert len(make(rows=0)) == 0
    assert list(make(rows=0).requests(0, 0)) == []


def test_counts_are_plain_numbers():
    request = next(make().requests(0, 0))
    assert {type(count) for count in request.counts.values()} == {int}


ELASTIC = [(1, 4, 1), (2, 4, 1), (1, 4, 2), (3, 1, 2), (2, 3, 3), (4, 4, 5)]


@pytest.mark.parametrize("batches", [1, 2, 4, 6])
@pytest.mark.parametrize(("world_size", "batch_size", "accumulate"), ELASTIC)
def test_what_remains_of_an_epoch_is_seen_once_by_other_ranks(
    world_size, batch_size, accumulate, batches
):
    before = make(batch_size=3, world_size=2)
    rows = before.taken(1, batches)
    assert rows == batches * 6
    after = make(45, batch_size, world_size, accumulate, resumed=(1, rows))
    micro = [list(after.requests(1, rank)) for rank in range(world_size)]
    assert {len(requests) for requests in micro} == {len(after) - after.first(1)}
    seen = [row for request in itertools.chain(*micro) for row in request.rows.tolist()]
    expected = after.rows[after.order(1)[rows:]].tolist()
    assert sorted(row for row in seen if row != PADDING) == sorted(expected)
    micro = list(zip(*micro, strict=True))
    steps: dict[int, list[int]] = {}
    for number, requests in enumerate(micro, start=after.first(1)):
        steps.setdefault(number // accumulate, []).extend(real(requests))
    for number, requests in enumerate(micro, start=after.first(1)):
        step = steps[number // accumulate]
        assert requests[0].step_rows == len(step)
        assert requests[0].counts["a"] == sum(after.labels["a"][(r - 100) // 3] for r in step)
    assert sorted(real(itertools.chain(*dealt(after, epoch=2)))) == after.rows.tolist()
    assert after.taken(1, len(after)) == after.taken(2, len(after)) == 45


def test_resumed_alike_an_epoch_goes_on_as_if_nothing_had_been():
    whole = make(accumulate=2)
    for batches in range(0, len(whole), 2):
        again = make(accumulate=2, resumed=(1, whole.taken(1, batches)))
        assert again.first(1) == batches
        rest = zip(whole.requests(1, 0, batches), again.requests(1, 0, batches), strict=True)
        for one, other in rest:
            assert one.rows.tolist() == other.rows.tolist()
            assert (one.counts, one.step_rows) == (other.counts, other.step_rows)
