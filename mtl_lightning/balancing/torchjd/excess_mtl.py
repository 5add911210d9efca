"""ExcessMTL: more weight for the tasks that are further from convergence."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchjd.aggregation import ExcessMTLWeighting

from mtl_lightning.balancing.torchjd.base import TorchJDMethod


class ExcessMTLMethod(TorchJDMethod):
    """ExcessMTL, with its squared gradients, weights and baselines kept by task.

    Equal to TorchJD's while all tasks are active. The weights of all tasks sum to 1; the active
    ones share what they have in sum. A task's baseline is the mean excess risk over its own first
    ``n_warmup_steps``, or that of its first step.

    He, Zhou, Zhang and Zhao, "Robust Multi-Task Learning with Excess Risks", ICML 2024.

    Args:
        named: The object that the config names.
        weighting: TorchJD's weighting, with the settings.
    """

    needs_jacobian = True

    def __init__(self, named: nn.Module, weighting: ExcessMTLWeighting) -> None:
        super().__init__(named)
        self.step_size, self.warmup = weighting.robust_step_size, weighting.n_warmup_steps

    def initial_state(self) -> dict[str, Tensor]:
        """Return equal weights, and nothing known of the gradients."""
        zeros = torch.zeros(len(self.tasks), dtype=torch.float64)
        return {
            "squares": torch.zeros(len(self.tasks), 0),
            "weights": zeros + 1 / len(self.tasks),
            "baseline": zeros,
            "warmup_sum": zeros,
            "steps": zeros,
        }

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Not possible: the excess risks need the gradients themselves."""
        raise NotImplementedError

    def aggregate(self, jacobian: Tensor, active: Sequence[int]) -> Tensor:
        """Return the weighted sum of the gradients, after an update of the weights."""
        rows, state = list(active), self.state
        if state["squares"].shape[1] != jacobian.shape[1]:
            state["squares"] = jacobian.new_zeros(len(self.tasks), jacobian.shape[1])
        state["squares"] = state["squares"].to(jacobian)
        gradient_squares = jacobian**2
        squares = state["squares"][rows] + gradient_squares  # eq. 7, the diagonal of the Hessian
        state["squares"][rows] = squares
        excess = (gradient_squares / (squares + 1e-7).sqrt()).sum(1)  # eq. 6
        relative = self._relative_to_baseline(excess.to("cpu", torch.float64), rows)
        before = state["weights"][rows]
        share = before.sum()
        logits = (before / share).log() + self.step_size * relative
        state["weights"][rows] = share * logits.softmax(0)  # eq. 9
        return state["weights"][rows].to(jacobian) @ jacobian

    def _relative_to_baseline(self, excess: Tensor, rows: list[int]) -> Tensor:
        """Return the (n,) excess risks over the tasks' baselines; 0 for a task in its warm-up."""
        state, steps = self.state, self.state["steps"][rows]
        warming, first = steps < self.warmup, steps == self.warmup
        state["warmup_sum"][rows] += torch.where(warming, excess, 0.0)
        start = state["warmup_sum"][rows] / self.warmup if self.warmup else excess
        baseline = torch.where(first, start, state["baseline"][rows])
        state["baseline"][rows] = baseline
        state["steps"][rows] += 1
        if not self.warmup and bool(first.all()):
            return excess  # as in the authors' code, the very first step takes them as they are
        return torch.where(warming, 0.0, excess / (baseline + 1e-7))
