"""The probability that a batch has no label of a task: exact, from the counts of labelled rows."""

from dataclasses import dataclass

import numpy as np


def chance_of_none(rows: int, labelled: int, drawn: int) -> float:
    """Return the chance that of ``drawn`` rows, drawn without replacement, none is labelled.

    It is the hypergeometric C(rows - labelled, drawn) / C(rows, drawn).

    Args:
        rows: Number of rows.
        labelled: Number of rows that carry a label.
        drawn: Number of rows that are drawn.
    """
    if drawn > rows - labelled:
        return 0.0
    # The product over the drawn rows of the share of unlabelled rows among those left.
    left = rows - np.arange(drawn, dtype=np.float64)
    return float(np.exp(np.log1p(-labelled / left).sum())) if labelled else 1.0


@dataclass(frozen=True)
class StepSize:
    """The size of one optimizer step of a :class:`~mtl_lightning.data.plan.StepPlan`.

    Attributes:
        batch_size: Rows of one device in one micro-batch.
        world_size: Number of devices.
        accumulate: Micro-batches of one step.
    """

    batch_size: int
    world_size: int = 1
    accumulate: int = 1

    @property
    def rank(self) -> int:
        """Rows of one device in one step."""
        return self.batch_size * self.accumulate

    @property
    def whole(self) -> int:
        """Rows of one step."""
        return self.rank * self.world_size


@dataclass(frozen=True)
class Absence:
    """How often a task is absent from a step, in an epoch in random order.

    Attributes:
        rows: Number of training rows.
        labelled: Number of rows with a label of the task.
        batch: Probability that one device's batch has no label of the task.
        rank: Probability that one device has none in a whole step.
        step: Probability that a whole step has none.
        steps: Number of steps of an epoch.
        share: Expected share of steps that have none; the last step may be smaller.
    """

    rows: int
    labelled: int
    batch: float
    rank: float
    step: float
    steps: int
    share: float

    @classmethod
    def of(cls, rows: int, labelled: int, size: StepSize) -> "Absence":
        """Compute it for a task with ``labelled`` of ``rows`` training rows."""
        whole, last = divmod(rows, size.whole)
        steps = whole + (last > 0)
        step = chance_of_none(rows, labelled, min(size.whole, rows))
        lacking = whole * step + (chance_of_none(rows, labelled, last) if last else 0.0)
        return cls(
            rows,
            labelled,
            batch=chance_of_none(rows, labelled, min(size.batch_size, rows)),
            rank=chance_of_none(rows, labelled, min(size.rank, rows)),
            step=step,
            steps=steps,
            share=lacking / steps if steps else 1.0,
        )
