import numpy as np

from mtl_lightning.data.plan import StepPlan
from mtl_lightning.data.sampling import composition


def test_what_is_taken_again_counts_again():
    plan = StepPlan(
        rows=np.array([1, 3, 4, 5]),
        labels={"kind": np.array([1, 0, 1, 0]), "tags": np.array([0, 3, 0, 0])},
        batch_size=2,
        shuffle_seed=0,
        draw=lambda step_rows, random: np.array([1, 0, 1, 3]),
    )
    assert composition(plan, np.array([0, 0, 9, 1, 9, 1]), ["old", "new"]) == (
        "of 4 training images the first epoch takes 3; with repetitions, "
        "by source: old 1, new 3; labels: kind 1, tags 6"
    )
