"""Nash-MTL: the update is what the tasks would agree on in a bargain."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchjd.aggregation import NashMTL

from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from mtl_lightning.system.errors import UserError

Vector = NDArray[np.float64]


class NashMTLMethod(TorchJDMethod):
    """Nash-MTL, with each task's last weight, from which the next search starts, kept by task.

    Equal to TorchJD's while all tasks are active. Only the active tasks bargain. The norm of the
    update grows with the root of their number, and so does its bound ``max_norm``.

    Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, algorithm 1.

    Args:
        named: The object that the config names.
        method: The same.

    Raises:
        UserError: If TorchJD is to hold the weights, which it does by position, and saves nowhere.
    """

    def __init__(self, named: NashMTL, method: NashMTL) -> None:
        super().__init__(named)
        if method.update_weights_every != 1:
            raise UserError(
                f"model.balancing: NashMTL: update_weights_every should be 1, or left out. Found "
                f"{method.update_weights_every}; model.balance_every_n_steps does the same by "
                f"task, where one is absent, and after a resume"
            )
        self.max_norm, self.iterations = method.max_norm, method.optim_niter
        self._bargains: dict[int, _Bargain] = {}

    def initial_state(self) -> dict[str, Tensor]:
        """Return weights of 1."""
        return {"last": torch.ones(len(self.tasks))}

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the bargained weights, scaled down if the update would exceed its bound."""
        del losses
        rows = list(active)

        def solve() -> Tensor:
            weights = torch.ones(1, dtype=torch.float64)  # of a task that is alone
            if len(rows) > 1:
                bargain = self._bargains.setdefault(len(rows), _Bargain(len(rows)))
                last = self.state["last"][rows].numpy()
                solution = bargain.solve(gramian.double().numpy(), last, self.iterations)
                weights = self.state["last"][rows] = torch.from_numpy(solution)
            bound = self.max_norm * (len(rows) / len(self.tasks)) ** 0.5
            norm = (weights @ gramian.double() @ weights).clamp(min=0).sqrt()
            if 0 < bound < norm:
                weights = weights / norm * bound
            return weights.to(gramian.dtype)

        return self._solve(solve, gramian)


class _Bargain:
    """The convex problem of one step of the search, for a number of tasks; compiled once.

    The weights a sought have ``G a = 1 / a``, with G the gramian (section 3). Each step minimises
    the sum of ``G a`` and of ``log a + log G a`` linearised about the last weights, where
    ``log a + log G a`` is nowhere below 0.
    """

    def __init__(self, tasks: int) -> None:
        cp: Any = importlib.import_module("cvxpy")  # it comes with the extra
        self._ecos, self._error = cp.ECOS, cp.SolverError
        self.weights: Any = cp.Variable(tasks, nonneg=True)
        self.last: Any = cp.Parameter(tasks, value=np.ones(tasks))
        self.gramian: Any = cp.Parameter((tasks, tasks), value=np.eye(tasks))
        self.scale: Any = cp.Parameter(1, value=np.ones(1))
        products = self.gramian @ self.weights
        slope = 1 / self.last + (1 / (self.gramian @ self.last)) @ self.gramian
        linear = slope @ (self.weights - self.last)
        self.problem: Any = cp.Problem(
            cp.Minimize(cp.sum(products) + linear / self.scale),
            [
                -cp.log(weight * self.scale) - cp.log(product) <= 0
                for weight, product in zip(self.weights, products, strict=True)
            ],
        )

    def solve(self, gramian: NDArray[np.float64], last: Vector, iterations: int) -> Vector:
        """Return the (n,) weights, searched for from the last ones."""
        norm = np.linalg.norm(gramian)
        gramian = gramian / norm
        self.gramian.value, self.scale.value = gramian, norm.reshape(1)
        for _ in range(iterations):
            self.weights.value = self.last.value = last
            try:
                self.problem.solve(solver=self._ecos, warm_start=True, max_iters=100)
            except (self._error, ValueError):
                self.weights.value = last
            found = self.weights.value
            if (
                found is None
                or np.linalg.norm(gramian @ last - 1 / (last + 1e-10)) < 1e-3
                or np.linalg.norm(found - last) < 1e-6
            ):
                break
            last = found
        return np.asarray(last, np.float64)
