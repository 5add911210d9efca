"""Which rows when: the step plan as the batch sampler of a loader."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch.utils.data import Sampler

from mtl_lightning.data.plan import Request, StepPlan


class PlanSampler(Sampler[Request]):
    """Yields one rank's requests, starting where training is.

    The epoch and the position are asked for when iteration begins, not when the loader is built:
    only then does a trainer that resumes know them.

    Args:
        plan: The plan of the split.
        rank: This process.
        position: Gives ``(epoch, micro-batches of it already done)``.
        whole_steps: Start at the beginning of the optimizer step in which training is.
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
        """The number of micro-batches of a whole epoch, to which the trainer applies its limit."""
        return len(replace(self.plan, limit=None))

    def __iter__(self) -> Iterator[Request]:
        """Yield requests from the present position on."""
        epoch, start = self.position()
        if self.whole_steps:
            start = self.plan.step_start(epoch, start)
        return self.plan.requests(epoch, self.rank, start)
