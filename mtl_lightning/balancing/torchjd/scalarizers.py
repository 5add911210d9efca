"""TorchJD's scalarizers: what they lack of absent tasks, ranks and checkpoints is added here.

Each is shown the losses of the tasks that have a label in the step. What some of them remember is
kept here, by task, and lent to them: TorchJD's own have one shape for good, and save nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchjd import Stateful
from torchjd.scalarization import (
    DWA,
    FAMO,
    IMTLL,
    STCH,
    UW,
    Constant,
    GeometricMean,
    Mean,
    Random,
    Scalarizer,
    Sum,
)

from mtl_lightning.balancing.adam import adam_state, adam_step
from mtl_lightning.balancing.base import LossBalancing
from mtl_lightning.balancing.torchjd.subset import Cut, scale_of
from mtl_lightning.system.errors import UserError

SMALLEST = 1e-8
"""Losses under it count as it, where a logarithm is taken: at 0 there is no direction."""

_OF_THE_WEIGHTS_ALONE = (Sum, Mean, Constant, Random)


class FromScalarizer(LossBalancing):
    """Any of TorchJD's scalarizers that remembers nothing.

    Args:
        method: What the config names.
    """

    def __init__(self, method: Scalarizer) -> None:
        super().__init__()
        self.method = method
        self.reads_values = not isinstance(method, _OF_THE_WEIGHTS_ALONE)
        self.accumulates = isinstance(method, (*_OF_THE_WEIGHTS_ALONE, UW, IMTLL, DWA))
        self.draws = isinstance(method, Random) or not type(method).__module__.startswith("torchjd")

    @property
    def title(self) -> str:
        """TorchJD's name of it."""
        return type(self.method).__name__

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks, and compare them with the settings."""
        super().attach(tasks)
        if isinstance(self.method, STCH) and self.method.weights is None:
            # Its own default is uniform over those it is shown: alone, a task would get K times it.
            self.method.weights = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        self._cut = Cut(self.method, tasks)
        self._scale = scale_of(self.method, len(tasks))

    def combine(self, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return TorchJD's combination of what is present, times the factor of `scale_of`."""
        if isinstance(self.method, GeometricMean):
            values = values.clamp(min=SMALLEST)
        with self._cut.to(present, values):
            return self._combined(values, present) * self._scale(present)

    def _combined(self, values: Tensor, present: Sequence[int]) -> Tensor:
        del present
        combined: Tensor = self.method(values)
        return combined


class Learned(FromScalarizer):
    """UW, IMTL-L, and others with a learnable number for each task.

    Each number is a parameter of its own, so that an optimizer passes by those of absent tasks,
    its momentum included. An optimizer that moved one vector of all would go on moving them.
    """

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks."""
        for name, value in self.method.named_parameters():
            if value.shape != (len(tasks),):
                raise UserError(
                    f"model.balancing: {self.title}: shape should be {len(tasks)}, the number of "
                    f"tasks. Found {tuple(value.shape)} of {name}; leave it out"
                )
        super().attach(tasks)
        self._first = {n: v.detach().clone() for n, v in self.method.named_parameters()}
        self.learned: dict[str, list[nn.Parameter]] = {}

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Set the parameters to their first values."""
        super().begin(device, dtype)
        self.learned = {
            name: [nn.Parameter(v.clone().to(device=device, dtype=dtype)) for v in value]
            for name, value in self._first.items()
        }

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the numbers of each task."""
        return {
            task: [numbers[index] for numbers in self.learned.values()]
            for index, task in enumerate(self.tasks)
        }

    def _combined(self, values: Tensor, present: Sequence[int]) -> Tensor:
        lent = {
            name: torch.stack([numbers[index] for index in present]).to(values.dtype)
            for name, numbers in self.learned.items()
        }
        combined: Tensor = functional_call(self.method, lent, (values,))
        return combined

    def state_dict(self) -> dict[str, Any]:
        """Return the learned numbers too."""
        saved = super().state_dict()
        learned = {n: torch.stack(list(v)).detach().cpu() for n, v in self.learned.items()}
        saved["state"] |= learned
        return saved

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take the learned numbers too."""
        super().load_state_dict(saved)
        for name, numbers in self.learned.items():
            for parameter, value in zip(numbers, self.state.pop(name), strict=True):
                parameter.copy_(value)


class FromDWA(FromScalarizer):
    """DWA, with the averages of each task over the steps in which it was present.

    A task that was absent for a whole epoch keeps its last two averages; before it has two, it
    counts as falling neither faster nor slower than it did.
    """

    method: DWA

    def initial_state(self) -> dict[str, Tensor]:
        """Sums of the running epoch, and the averages of the last two."""
        zeros, ones = torch.zeros(len(self.tasks)), torch.ones(len(self.tasks))
        return {"sum": zeros, "steps": zeros, "known": zeros, "older": ones, "newer": ones}

    def _combined(self, values: Tensor, present: Sequence[int]) -> Tensor:
        rows = list(present)
        self.state["sum"][rows] += values.detach().to(self.state["sum"].dtype)
        self.state["steps"][rows] += 1
        self.method.reset()
        self.method._previous_averages = [
            self.state[name][rows].to(values.dtype) for name in ("older", "newer")
        ]
        return super()._combined(values, present)

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Make averages of the epoch's sums."""
        del scores
        state = self.state
        seen = state["steps"] > 0
        average = state["sum"] / state["steps"].clamp(min=1)
        state["older"] = torch.where(
            seen, torch.where(state["known"] > 0, state["newer"], average), state["older"]
        )
        state["newer"] = torch.where(seen, average, state["newer"])
        state["known"] += seen
        state["sum"], state["steps"] = torch.zeros_like(average), torch.zeros_like(average)


class FromFAMO(FromScalarizer):
    """FAMO, with its logits and their Adam kept by task.

    The second look at the losses comes after the update. Tasks that are absent keep their logits,
    and the share of the others among themselves is what FAMO gives them without it.
    """

    method: FAMO
    looks_again = True
    _before: Tensor | None = None

    def initial_state(self) -> dict[str, Tensor]:
        """Logits, and Adam's moments."""
        return {"logits": torch.zeros(len(self.tasks)), **adam_state(len(self.tasks))}

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks."""
        if self.method._w.shape != (len(tasks),):
            raise UserError(
                f"model.balancing: FAMO: shape should be {len(tasks)}, the number of tasks. "
                f"Found {tuple(self.method._w.shape)}; leave it out"
            )
        super().attach(tasks)

    def _combined(self, values: Tensor, present: Sequence[int]) -> Tensor:
        self._before = values.detach()
        logits = self.state["logits"][list(present)].to(values.dtype)
        combined: Tensor = functional_call(self.method, {"_w": logits}, (values,))
        return combined

    def seen_again(self, values: Tensor, present: Sequence[int]) -> None:
        """Move the logits by how much each loss fell."""
        before, self._before = self._before, None
        if before is None:
            return
        rows = list(present)
        with self._cut.to(present, values):
            above = [v - self.method.min_losses + SMALLEST for v in (before, values)]
        fall = (above[0].log() - above[1].log()).to(self.state["logits"].dtype)
        if not torch.isfinite(fall).all():  # a loss under its bound, or one that is not a number
            return
        logits = self.state["logits"][rows]
        shares = logits.softmax(0)
        gradient = shares * (fall - (shares * fall).sum())  # of the softmax
        self.state["logits"][rows] = adam_step(
            self.state, logits, gradient, rows, self.method.lr, self.method.weight_decay
        )


def from_scalarizer(method: Scalarizer) -> FromScalarizer:
    """Return a scalarizer of TorchJD, or one's own, as a method of ours.

    Raises:
        UserError: If it remembers something that nobody here knows how to keep by task.
    """
    if isinstance(method, DWA):
        return FromDWA(method)
    if isinstance(method, FAMO):
        return FromFAMO(method)
    if list(method.parameters()):
        return Learned(method)
    if isinstance(method, Stateful):
        raise UserError(
            f"model.balancing: {type(method).__name__} keeps a state that cannot be told apart by "
            f"task; derive it from mtl_lightning.balancing.LossBalancing"
        )
    return FromScalarizer(method)
