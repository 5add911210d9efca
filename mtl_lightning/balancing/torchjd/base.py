"""The common part of TorchJD's methods that read gradients."""

import warnings
from collections.abc import Callable

import torch
from rich import get_console
from torch import Tensor, nn

from mtl_lightning.balancing.base import GradientBalancingMethod


class TorchJDMethod(GradientBalancingMethod):
    """An aggregator or weighting of TorchJD, as a method that supports absent tasks.

    Args:
        named: The object that the config names.
    """

    def __init__(self, named: nn.Module) -> None:
        super().__init__()
        self.named = named
        self._explained = False

    @property
    def title(self) -> str:
        """TorchJD's name of the method."""
        return type(self.named).__name__

    def _solve(self, solve: Callable[[], Tensor], gramian: Tensor) -> Tensor:
        """Return the solution of a step, or equal weights, with a note, if a solver fails."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of solvers, about their speed and accuracy
                return solve()
        except Exception as error:  # each solver has its own
            if not self._explained:
                self._explained = True
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                get_console().print(
                    f"[yellow]note:[/] {self.title} could not solve a step ({reason}): in such "
                    f"steps all tasks have the same weight",
                    highlight=False,
                )
            return self._equal_weights(gramian)

    def _equal_weights(self, gramian: Tensor) -> Tensor:
        return torch.full((len(gramian),), 1 / len(self.tasks), dtype=gramian.dtype)
