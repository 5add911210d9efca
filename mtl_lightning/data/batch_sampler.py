"""The step plan as the batch sampler of a loader."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch.utils.data import Sampler

from mtl_lightning.data.plan import Request, StepPlan


class PlanSampler(Sampler[Request]):
    """Yields one rank's requests, starting at the current position of training.

    Epoch and position are read when iteration starts, not when the loader is built: only then does
    a resuming trainer know them.

    Args:
        plan: The plan of the split.
        rank: The rank of this process.
        position: Returns ``(epoch, micro-batches of it already done)``.
        whole_steps: Start at the beginning of the current optimizer step.
    """

    def __init__(
        self,
        plan: StepPlan,
        rank: int,
        position: Callable[[], tuple[int, int]],
        whole_steps: bool = False,
    ) -> None:
        self.plan = plan
        self.rank = rank
        self.position = position
        self.whole_steps = whole_steps

    def __len__(self) -> int:
        """The number of micro-batches of an epoch, before the trainer applies its limit."""
        return len(replace(self.plan, limit=None))

    def __iter__(self) -> Iterator[Request]:
        """Yield requests from the current position on."""
        epoch, start = self.position()
        if self.whole_steps:
            start = self.plan.step_start(epoch, start)
        return self.plan.requests(epoch, self.rank, start)
