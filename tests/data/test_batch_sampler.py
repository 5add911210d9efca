import numpy as np

from mtl_lightning.data.batch_sampler import PlanSampler
from mtl_lightning.data.plan import StepPlan

PLAN = StepPlan(np.arange(10), {}, batch_size=2, world_size=2, shuffle_seed=1)


def rows(requests):
    return [request.rows.tolist() for request in requests]


def test_it_yields_one_ranks_requests():
    for rank in (0, 1):
        sampler = PlanSampler(PLAN, rank, lambda: (0, 0))
        assert rows(sampler) == rows(PLAN.requests(0, rank))
        assert len(sampler) == 3


def test_progress_is_asked_for_when_iteration_begins():
    now = [0, 0]
    sampler = PlanSampler(PLAN, 0, lambda: (now[0], now[1]))
    now[:] = [4, 1]
    assert rows(sampler) == rows(PLAN.requests(4, 0))[1:]
    now[:] = [5, 0]
    assert rows(sampler) == rows(PLAN.requests(5, 0))


def test_its_length_is_the_whole_epochs_for_the_trainer_applies_its_limit_itself():
    limited = StepPlan(np.arange(10), {}, batch_size=2, limit=3)
    sampler = PlanSampler(limited, 0, lambda: (0, 0))
    assert len(sampler) == 5
    assert len(list(sampler)) == 3


def test_it_may_begin_with_the_whole_step_in_which_training_is():
    plan = StepPlan(np.arange(14), {}, batch_size=2, accumulate=3)
    for start, first in enumerate([0, 0, 0, 3, 3, 3, 6]):
        sampler = PlanSampler(plan, 0, lambda start=start: (0, start), whole_steps=True)
        assert rows(sampler) == rows(plan.requests(0, 0))[first:]
