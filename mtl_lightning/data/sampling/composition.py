"""A summary of an epoch under a sampling."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.plan import StepPlan


def composition(plan: StepPlan, source: NDArray[np.integer], names: Sequence[str]) -> str:
    """Describe what the first epoch of a plan takes.

    Args:
        plan: The plan of the training images.
        source: (N,) the number of the source of each row of the merged table.
        names: The names of the sources.
    """
    taken = plan.order(0)
    numbers = np.bincount(source[plan.rows[taken]], minlength=len(names)).tolist()
    sources = ", ".join(f"{name} {n:,}" for name, n in zip(names, numbers, strict=True))
    labels = ", ".join(f"{task} {int(n[taken].sum()):,}" for task, n in plan.labels.items())
    return (
        f"of {len(taken):,} training images the first epoch takes {len(np.unique(taken)):,}; "
        f"with repetitions, by source: {sources}; labels: {labels}"
    )
