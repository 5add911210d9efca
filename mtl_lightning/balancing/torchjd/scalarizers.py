"""TorchJD's scalarizers, extended to absent tasks, several ranks and checkpoints.

Each sees the losses of the active tasks. The state of those that have one is kept here, by task:
TorchJD's own has one shape for good, and is in no checkpoint.
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
from mtl_lightning.balancing.base import MIN_LOSS, LossBalancingMethod
from mtl_lightning.balancing.torchjd.subset import TaskSubset, scale_of
from mtl_lightning.system.errors import UserError

_OF_THE_WEIGHTS_ALONE = (Sum, Mean, Constant, Random)
"""Scalarizers whose weights do not depend on the losses."""


class ScalarizerMethod(LossBalancingMethod):
    """A scalarizer of TorchJD without state.

    Args:
        method: The scalarizer that the config names.
    """

    def __init__(self, method: Scalarizer) -> None:
        super().__init__()
        self.method = method
        self.reads_losses = not isinstance(method, _OF_THE_WEIGHTS_ALONE)
        self.supports_accumulation = isinstance(method, (*_OF_THE_WEIGHTS_ALONE, UW, IMTLL, DWA))
        theirs = type(method).__module__.startswith("torchjd")
        self.stochastic = isinstance(method, Random) or not theirs

    @property
    def title(self) -> str:
        """TorchJD's name of the method."""
        return type(self.method).__name__

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks, and compare their number with the settings."""
        super().attach(tasks)
        for value in self.method.parameters():
            if value.shape != (len(tasks),):
                raise UserError(
                    f"model.balancing: {self.title}: shape should be {len(tasks)}, the number of "
                    f"tasks. Found {tuple(value.shape)}; leave it out"
                )
        if isinstance(self.method, STCH) and self.method.weights is None:
            # Its default is uniform over the tasks that it sees, so one alone would get K times it.
            self.method.weights = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64)
        self._subset = TaskSubset(self.method, tasks)
        self._scale = scale_of(self.method, len(tasks))

    def combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return TorchJD's combination of the active tasks, times the factor of `scale_of`."""
        return self._combine(losses, active) * self._scale(active)

    def _combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        if isinstance(self.method, GeometricMean):
            losses = losses.clamp(min=MIN_LOSS)
        with self._subset.restricted_to(active, losses):
            combined: Tensor = self.method(losses)
        return combined


class LearnedMethod(ScalarizerMethod):
    """UW, IMTL-L, and other scalarizers with a learnable value for each task.

    Each value is a parameter of its own, so that an optimizer skips those of absent tasks, momentum
    included; it would keep moving the entries of one common vector.
    """

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks."""
        super().attach(tasks)
        self._initial = {n: v.detach().clone() for n, v in self.method.named_parameters()}
        self.learned: dict[str, list[nn.Parameter]] = {}

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Set the parameters to their initial values."""
        super().begin(device, dtype)
        self.learned = {
            name: [nn.Parameter(v.clone().to(device=device, dtype=dtype)) for v in value]
            for name, value in self._initial.items()
        }

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of each task."""
        return {
            task: [values[index] for values in self.learned.values()]
            for index, task in enumerate(self.tasks)
        }

    def _combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        vectors = {
            name: torch.stack([values[index] for index in active]).to(losses.dtype)
            for name, values in self.learned.items()
        }
        with self._subset.restricted_to(active, losses):
            combined: Tensor = functional_call(self.method, vectors, (losses,))
        return combined

    def state_dict(self) -> dict[str, Any]:
        """Return the learned values, too."""
        saved = super().state_dict()
        learned = {n: torch.stack(list(v)).detach().cpu() for n, v in self.learned.items()}
        saved["state"] |= learned
        return saved

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the learned values, too."""
        super().load_state_dict(saved)
        for name, parameters in self.learned.items():
            for parameter, value in zip(parameters, self.state.pop(name), strict=True):
                parameter.copy_(value)


class DWAMethod(ScalarizerMethod):
    """DWA, with the average loss of each task over the steps in which it was active.

    A task that was absent for a whole epoch keeps its last two averages. Before it has two, its
    relative descending rate counts as 1.

    Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.
    """

    method: DWA

    def initial_state(self) -> dict[str, Tensor]:
        """Return the sums of the current epoch, and the averages of the last two."""
        zeros, ones = torch.zeros(len(self.tasks)), torch.ones(len(self.tasks))
        return {"sum": zeros, "steps": zeros, "known": zeros, "older": ones, "newer": ones}

    def _combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        rows = list(active)
        self.state["sum"][rows] += losses.detach().to(self.state["sum"].dtype)
        self.state["steps"][rows] += 1
        older, newer = (self.state[name][rows].to(losses.dtype) for name in ("older", "newer"))
        weights = torch.softmax((newer / older) / self.method.temperature, dim=0)  # eq. 7
        return (losses.numel() * weights * losses).sum()

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Turn the epoch's sums into averages."""
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


class FAMOMethod(ScalarizerMethod):
    """FAMO, with its logits and their Adam kept by task.

    The losses are computed again after the update. Absent tasks keep their logits; the others share
    the weights among themselves as FAMO does without it.

    Liu, Feng, Stone and Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm
    1.
    """

    method: FAMO
    needs_second_forward = True
    _before: Tensor | None = None

    def initial_state(self) -> dict[str, Tensor]:
        """Return the logits, and Adam's moments."""
        return {"logits": torch.zeros(len(self.tasks)), **adam_state(len(self.tasks))}

    def _combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        self._before = losses.detach()
        shares = self.state["logits"][list(active)].to(losses.dtype).softmax(0)
        above = self._above_minimum(losses, active)
        total = (shares / above).sum().detach()
        return ((shares / total) * above.log()).sum()

    def after_update(self, losses: Tensor, active: Sequence[int]) -> None:
        """Move the logits according to how much each loss fell."""
        before, self._before = self._before, None
        if before is None:
            return
        rows = list(active)
        fall = self._above_minimum(before, rows).log() - self._above_minimum(losses, rows).log()
        fall = fall.to(self.state["logits"].dtype)
        if not torch.isfinite(fall).all():  # a loss below its minimum, or not a number
            return
        logits = self.state["logits"][rows]
        shares = logits.softmax(0)
        gradient = shares * (fall - (shares * fall).sum())  # through the softmax
        self.state["logits"][rows] = adam_step(
            self.state, logits, gradient, rows, self.method.lr, self.method.weight_decay
        )

    def _above_minimum(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        return losses - self.method.min_losses[list(active)].to(losses) + MIN_LOSS


def from_scalarizer(method: Scalarizer) -> ScalarizerMethod:
    """Return a scalarizer, TorchJD's or one derived from it, as a balancing method.

    Raises:
        UserError: If it has a state that cannot be kept by task.
    """
    if isinstance(method, DWA):
        return DWAMethod(method)
    if isinstance(method, FAMO):
        return FAMOMethod(method)
    if list(method.parameters()):
        return LearnedMethod(method)
    if isinstance(method, Stateful):
        raise UserError(
            f"model.balancing: {type(method).__name__} should have no state of its own, which "
            f"cannot be divided by task. Found a Stateful scalarizer; derive it from "
            f"mtl_lightning.balancing.LossBalancingMethod"
        )
    return ScalarizerMethod(method)
