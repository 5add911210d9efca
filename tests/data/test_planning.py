"""From the table of labels to the step plan of a split; the plan itself: test_plan.py."""

from dataclasses import replace

import numpy as np
import pytest

from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.merging import MergeOptions
from mtl_lightning.data.planning import limit_plan, plan_split, plan_training, sampling_notes
from mtl_lightning.data.sampling import AtLeast, Shards
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiLabel, Regression
from tests.helpers.data import Memory


class InShards(Memory):
    """Images that lie in files of two."""

    def read(self, tasks):
        table = super().read(tasks)
        return replace(table, shards=np.arange(len(table.images)) // 2)


def labels(source=Memory):
    """Seven training rows, of which one carries no label, and two of validation."""
    size = ["1", "2", None, "4", None, "6", "7", "8", None]
    hat = ["yes", None, None, None, "no", "yes", None, None, "no"]
    bag = ["no", None, None, None, None, "yes", None, None, "no"]
    cells = {"size": size, "tags/hat": hat, "tags/bag": bag}
    own = {"size": Regression(), "tags": MultiLabel(["hat", "bag"])}
    table = LabelTable(own, {"m": source(cells, ["train"] * 7 + ["val"] * 2)}, MergeOptions())
    table.encode()
    return table


def test_a_split_is_its_labelled_rows_in_order_with_the_number_of_their_labels():
    plan = plan_split(labels(), "train", batch_size=2, world_size=3)
    assert plan.rows.tolist() == [0, 1, 3, 4, 5, 6]
    assert {name: counts.tolist() for name, counts in plan.labels.items()} == {
        "size": [1, 1, 1, 0, 1, 1],
        "tags": [2, 0, 0, 1, 2, 0],
    }
    assert (plan.batch_size, plan.world_size, plan.accumulate) == (2, 3, 1)
    assert (plan.shuffle_seed, plan.draw) == (None, None)
    assert plan_split(labels(), "val", 2, 1).rows.tolist() == [7, 8]
    assert len(plan_split(labels(), "test", 2, 1)) == 0


def test_the_counts_of_a_step_are_over_ranks_and_accumulated_micro_batches():
    plan = plan_training(
        labels(), None, batch_size=1, world_size=2, accumulate=2, shuffle_seed=None
    )
    steps = [list(plan.requests(0, rank)) for rank in (0, 1)]
    assert [request.rows.tolist() for request in steps[0]] == [[0], [3], [5]]
    assert [request.rows.tolist() for request in steps[1]] == [[1], [4], [6]]
    assert [request.counts for request in steps[1]] == [
        {"size": 3, "tags": 3},
        {"size": 3, "tags": 3},
        {"size": 2, "tags": 2},
    ]


def test_without_a_sampling_an_epoch_is_a_permutation_of_the_images():
    plan = plan_training(labels(), None, 2, 1, 1, shuffle_seed=3)
    assert plan.draw is None
    assert sorted(plan.order(0)) == list(range(6))
    assert plan.order(0).tolist() != plan.order(1).tolist()


def test_a_sampling_draws_from_the_images_of_the_plan():
    plan = plan_training(labels(), AtLeast(1), 2, 1, 1, shuffle_seed=3)
    for epoch in range(3):
        for request in plan.requests(epoch, 0):
            assert all(request.counts.values()), "each step has a label of each task"


def test_a_sampling_that_asks_too_much_of_a_step_is_refused():
    with pytest.raises(UserError, match="3 labelled images of each of 2 tasks are 6, and a step"):
        plan_training(labels(), AtLeast(3), 2, 1, 2, shuffle_seed=3)
    plan_training(labels(), AtLeast(3), 2, 1, 3, shuffle_seed=3)


def test_overfitting_takes_each_image_in_order_whatever_the_sampling():
    plan = plan_training(labels(), AtLeast(1), 2, 1, 1, shuffle_seed=None)
    assert plan.draw is None
    assert plan.order(0).tolist() == plan.order(1).tolist() == list(range(6))


def test_images_in_shards_are_taken_shard_by_shard():
    plan = plan_training(labels(InShards), None, 2, 1, 1, shuffle_seed=3)
    assert plan.draw is not None
    assert sorted(plan.order(0)) == list(range(6))
    assert isinstance(plan.draw.func.__self__, Shards)


@pytest.mark.parametrize(
    ("limit", "batches"), [(1.0, 3), (0.67, 2), (0.3, 0), (2, 2), (1, 1), (99, 3)]
)
def test_a_limit_is_a_share_or_a_number_of_micro_batches(limit, batches):
    assert len(limit_plan(plan_split(labels(), "train", 2, 1), limit)) == batches


def test_the_counts_of_the_last_step_respect_the_limit():
    plan = plan_training(labels(), None, 2, 1, accumulate=2, shuffle_seed=None)
    (first,) = limit_plan(plan, 1).requests(0, 0)
    assert (first.counts, first.step_rows) == ({"size": 2, "tags": 2}, 2)


def test_notes_say_what_the_first_epoch_takes_and_which_sampling_ignores_shards():
    table = labels()
    (note,) = sampling_notes(table, AtLeast(1), plan_training(table, AtLeast(1), 2, 1, 1, 3))
    assert note.startswith("AtLeast: of 6 training images the first epoch takes ")
    table = labels(InShards)
    notes = sampling_notes(table, AtLeast(1), plan_training(table, AtLeast(1), 2, 1, 1, 3))
    assert notes[1].startswith("AtLeast ignores shards: each step opens many")
    assert len(sampling_notes(table, Shards(), plan_training(table, Shards(), 2, 1, 1, 3))) == 1
