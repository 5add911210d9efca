"""What TorchJD's stateful methods remember, kept by task and lent to them for a step.

Their own state has one row for each of the tasks they saw last: another number of tasks would
reset it, or be refused, and most of it is in no checkpoint.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchjd import Stateful
from torchjd.aggregation import (
    PCD,
    CRMOGMWeighting,
    ExcessMTL,
    ExcessMTLWeighting,
    GradVac,
    GradVacWeighting,
    NashMTL,
    PCDWeighting,
)

from mtl_lightning.balancing.torchjd.subset import scale_of
from mtl_lightning.system.errors import UserError

State = dict[str, Tensor]


class TaskMemory(ABC):
    """The memory of one part of a method.

    Args:
        part: TorchJD's module.
        count: The number of all tasks.
    """

    axes: ClassVar[Mapping[str, int]]
    """The tensors by name, and how many of their leading axes are tasks."""

    def __init__(self, part: Any, count: int) -> None:
        self.part = part
        self.count = count

    @abstractmethod
    def initial(self) -> State:
        """Return what is remembered before the first step."""

    @abstractmethod
    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Give the part the rows of the tasks present.

        Args:
            state: Of all tasks.
            rows: The numbers of those present.
            matrix: What the part is about to see, (n, n) or (n, P).
        """

    @abstractmethod
    def store(self, state: State, rows: list[int]) -> float:
        """Take the rows back; return what the weights are multiplied by, mostly 1."""


class GradVacMemory(TaskMemory):
    """The wanted cosine of each pair of tasks."""

    axes: ClassVar[Mapping[str, int]] = {"cosines": 2}

    def initial(self) -> State:
        """Begin with 0, as TorchJD."""
        return {"cosines": torch.zeros(self.count, self.count, dtype=torch.float64)}

    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Lend the pairs that are present."""
        self.part._phi_t = state["cosines"][rows][:, rows].to(matrix.dtype)
        self.part._state_key = (len(rows), matrix.dtype)

    def store(self, state: State, rows: list[int]) -> float:
        """Take the pairs back."""
        index = torch.tensor(rows)
        state["cosines"][index[:, None], index] = self.part._phi_t.to(torch.float64)
        return 1.0


class PCDMemory(TaskMemory):
    """The mean square of each task's gradient norm, and over how many steps.

    TorchJD counts the steps once for all tasks. What is lent is chosen so that its next mean is
    that of the task's own steps.
    """

    axes: ClassVar[Mapping[str, int]] = {"squares": 1, "squares_seen": 1}

    def initial(self) -> State:
        """Begin without a step."""
        zeros = torch.zeros(self.count, dtype=torch.float64)
        return {"squares": zeros, "squares_seen": zeros.clone()}

    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Lend such means as become the right ones."""
        beta = self.part.beta
        now = matrix.diagonal().to(torch.float64)
        seen = state["squares_seen"][rows] + 1
        self._next = beta * state["squares"][rows] + (1 - beta) * now
        self._seen = seen
        steps = int(seen.max()) - 1
        wanted = self._next / (1 - beta**seen) * (1 - beta ** (steps + 1))
        lent = (wanted - (1 - beta) * now) / beta if beta else torch.zeros_like(now)
        self.part._sq_norm_ema = lent
        self.part._n_steps = torch.tensor(steps)
        self.part._state_key = len(rows)

    def store(self, state: State, rows: list[int]) -> float:
        """Keep the means of the tasks that were seen."""
        state["squares"][rows], state["squares_seen"][rows] = self._next, self._seen
        return 1.0


class NashMemory(TaskMemory):
    """Each task's last weight, from which the next step's search begins.

    One problem is compiled for each number of tasks. The norm of the update, which TorchJD holds
    under ``max_norm``, grows with the root of their number, and so does what it is held under.

    Raises:
        UserError: If weights are to be held by TorchJD, which counts steps and keeps no names.
    """

    axes: ClassVar[Mapping[str, int]] = {"last": 1}
    _COMPILED = (
        "alpha_param",
        "prvs_alpha_param",
        "G_param",
        "normalization_factor_param",
        "phi_alpha",
        "prob",
    )

    def __init__(self, part: Any, count: int) -> None:
        super().__init__(part, count)
        if part.update_weights_every != 1:
            raise UserError(
                f"model.balancing: NashMTL: update_weights_every should be 1, or left out. Found "
                f"{part.update_weights_every}; model.balance_every_n_steps does the same by task, "
                f"where one is absent, and after a resume"
            )
        self.max_norm = part.max_norm
        self._problems: dict[int, dict[str, Any]] = {}

    def initial(self) -> State:
        """Begin with 1, as TorchJD."""
        return {"last": torch.ones(self.count, dtype=torch.float64)}

    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Lend the last weights, and the problem of this size."""
        del matrix
        part, size = self.part, len(rows)
        part.n_tasks, part.max_norm = size, self.max_norm * (size / self.count) ** 0.5
        part.init_gtg = np.eye(size)
        part.prvs_alpha = state["last"][rows].numpy()
        part.step = 1.0 if size in self._problems else 0.0
        for name, value in self._problems.get(size, {}).items():
            setattr(part, name, value)

    def store(self, state: State, rows: list[int]) -> float:
        """Take the last weights back, and keep the problem."""
        if len(rows) == 1:  # there was nothing to solve
            return 1.0
        self._problems.setdefault(len(rows), {n: getattr(self.part, n) for n in self._COMPILED})
        state["last"][rows] = torch.as_tensor(self.part.prvs_alpha, dtype=torch.float64)
        return 1.0


class ExcessMemory(TaskMemory):
    """ExcessMTL's squared gradients, weights and baselines.

    The weights of all tasks sum to 1; those present share what they had together.
    """

    axes: ClassVar[Mapping[str, int]] = {
        "gradients": 1,
        "shares": 1,
        "baselines": 1,
        "warm": 1,
        "excess_seen": 1,
    }

    def initial(self) -> State:
        """Begin with equal weights."""
        zeros = torch.zeros(self.count, dtype=torch.float64)
        return {
            "gradients": torch.zeros(self.count, 0),
            "shares": zeros + 1 / self.count,
            "baselines": zeros,
            "warm": zeros.clone(),
            "excess_seen": zeros.clone(),
        }

    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Lend the rows; a task's baseline is what it shows when it is first seen."""
        part = self.part
        if state["gradients"].shape[1] != matrix.shape[1]:
            state["gradients"] = matrix.new_zeros(self.count, matrix.shape[1])
        state["gradients"] = state["gradients"].to(matrix)
        squares = state["gradients"][rows]
        seen = state["excess_seen"][rows]
        now = (matrix**2 / (squares + matrix**2 + 1e-7).sqrt()).sum(1).to("cpu", torch.float64)
        warming = seen < part.n_warmup_steps
        state["warm"][rows] += torch.where(warming, now, 0.0)
        first = seen == part.n_warmup_steps
        begun = state["warm"][rows] / max(part.n_warmup_steps, 1) if part.n_warmup_steps else now
        state["baselines"][rows] = torch.where(first, begun, state["baselines"][rows])
        self._mass = float(state["shares"][rows].sum())
        # Still warming up: a baseline so high that its excess counts for nothing.
        baseline = torch.where(warming, torch.inf, state["baselines"][rows])
        part._sq_grad_sum = squares
        part._warmup_w_sum = matrix.new_zeros(len(rows))
        part._weights = (state["shares"][rows] / self._mass).to(matrix)
        part._initial_w = baseline.to(matrix)
        part._n_steps = part.n_warmup_steps
        part._state_key = (*matrix.shape, matrix.dtype, matrix.device)
        if not part.n_warmup_steps and bool(first.all()):
            part._initial_w = None  # TorchJD's very first step takes the excess as it is

    def store(self, state: State, rows: list[int]) -> float:
        """Take the rows back."""
        state["gradients"][rows] = self.part._sq_grad_sum
        state["excess_seen"][rows] += 1
        state["shares"][rows] = self._mass * self.part._weights.to("cpu", torch.float64)
        self.part.reset()
        return self._mass


class SmoothedMemory(TaskMemory):
    """CR-MOGM's moving average of each task's weight."""

    axes: ClassVar[Mapping[str, int]] = {"smooth": 1, "smoothed": 1}

    def __init__(self, part: Any, count: int, scale: Callable[[Sequence[int]], float]) -> None:
        super().__init__(part, count)
        self.scale = scale

    def initial(self) -> State:
        """Begin with what is first seen, or as the config says."""
        zeros = torch.zeros(self.count, dtype=torch.float64)
        return {"smooth": zeros, "smoothed": zeros.clone()}

    def load(self, state: State, rows: list[int], matrix: Tensor) -> None:
        """Lend the averages, in the scale that the weights of so many tasks have."""
        known = state["smoothed"][rows] > 0
        self._new = ~known
        self.part._lambda = None
        self._state, self._rows = state, rows
        self._lent = (state["smooth"][rows] / self.scale(rows)).to(matrix.dtype)
        self.part._ensure_state = self._ensure

    def _ensure(self, now: Tensor) -> Tensor:
        begun = self.part._initial_weights
        first = now if begun is None else begun.to(now)
        return torch.where(self._new, first, self._lent)

    def store(self, state: State, rows: list[int]) -> float:
        """Take the averages back."""
        state["smooth"][rows] = self.part._lambda.to(torch.float64) * self.scale(rows)
        state["smoothed"][rows] = 1.0
        return 1.0


_KEPT: dict[type, type[TaskMemory]] = {
    GradVacWeighting: GradVacMemory,
    PCDWeighting: PCDMemory,
    ExcessMTLWeighting: ExcessMemory,
}

_AROUND = (GradVac, PCD, ExcessMTL, NashMTL)  # around one of those parts


def memories_of(method: nn.Module, count: int) -> list[TaskMemory]:
    """Return the memories of a method's parts.

    Raises:
        UserError: If one of them remembers what nobody here knows how to keep by task.
    """
    found: list[TaskMemory] = []
    nash = [part.weighting for part in method.modules() if isinstance(part, NashMTL)]
    for part in method.modules():
        kind = _KEPT.get(type(part))
        if kind is not None:
            found.append(kind(part, count))
        elif part in nash:
            found.append(NashMemory(part, count))
        elif isinstance(part, CRMOGMWeighting):
            found.append(SmoothedMemory(part, count, scale_of(part.weighting, count)))
        elif isinstance(part, Stateful) and not isinstance(part, _AROUND):
            raise UserError(
                f"model.balancing: {type(part).__name__} keeps a state that cannot be told apart "
                f"by task; derive it from mtl_lightning.balancing.GradientBalancingMethod"
            )
    return found
