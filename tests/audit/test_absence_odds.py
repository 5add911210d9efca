from math import comb

import numpy as np
import pytest

from mtl_lightning.audit.absence_odds import Absence, StepSize, chance_of_none
from mtl_lightning.data.plan import StepPlan


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
def test_the_chance_is_the_hypergeometric(rows):
    for labelled in range(rows + 1):
        for drawn in range(rows + 1):
            exact = comb(rows - labelled, drawn) / comb(rows, drawn)
            assert chance_of_none(rows, labelled, drawn) == pytest.approx(exact, rel=1e-12, abs=0)


def test_the_chance_stays_exact_where_factorials_overflow():
    exact = comb(999_000, 512) / comb(1_000_000, 512)
    assert chance_of_none(1_000_000, 1_000, 512) == pytest.approx(exact, rel=1e-12)


def test_a_step_is_of_all_devices_and_micro_batches():
    size = StepSize(batch_size=4, world_size=3, accumulate=2)
    assert (size.rank, size.whole) == (8, 24)
    absence = Absence.of(100, 5, size)
    for chance, drawn in ((absence.batch, 4), (absence.rank, 8), (absence.step, 24)):
        assert chance == pytest.approx(comb(95, drawn) / comb(100, drawn))
    assert absence.steps == 5
    last = comb(95, 4) / comb(100, 4)
    assert absence.share == pytest.approx((4 * absence.step + last) / 5)


def test_the_share_is_that_of_the_step_plan():
    """Counted over many epochs of the plan that training follows."""
    size, rows, labelled = StepSize(3, 2, 2), 50, 4
    has = np.zeros(rows, dtype=np.int64)
    has[:labelled] = 1
    plan = StepPlan(np.arange(rows), {"t": has}, 3, 2, 2, shuffle_seed=5)
    counts = [
        [request.counts["t"] for request in plan.requests(epoch, 0)][::2] for epoch in range(2000)
    ]
    absence = Absence.of(rows, labelled, size)
    assert len(counts[0]) == absence.steps
    assert (np.array(counts) == 0).mean() == pytest.approx(absence.share, abs=0.01)


def test_a_task_on_every_row_or_on_none():
    assert Absence.of(10, 10, StepSize(4)).share == 0
    assert Absence.of(10, 0, StepSize(4)).share == 1
    assert Absence.of(3, 1, StepSize(8)).batch == 0, "an epoch of one batch has all rows"
    assert Absence.of(0, 0, StepSize(4)).share == 1
