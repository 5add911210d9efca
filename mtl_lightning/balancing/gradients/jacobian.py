"""K gradients side by side, and what is made of them, tensor by tensor of the network."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mtl_lightning.balancing.ranks import mean_over_ranks


class Jacobian:
    """A gradient of each task, as a row, with respect to each of some parameters.

    The memory is taken once: rows and columns are those of each step, without being concatenated.
    """

    def __init__(self) -> None:
        self._memory: dict[nn.Parameter, Tensor] = {}
        self._written: set[tuple[nn.Parameter, int]] = set()
        self.parameters: list[nn.Parameter] = []
        self.rows = 0

    def begin(self, parameters: Iterable[nn.Parameter], rows: int) -> None:
        """Forget the last step; there will be so many rows."""
        self.parameters, self.rows = list(parameters), rows
        self._written.clear()
        wanted = set(self.parameters)
        self._memory = {p: kept for p, kept in self._memory.items() if p in wanted}
        for parameter in self.parameters:
            kept = self._memory.get(parameter)
            if kept is None or len(kept) < rows:
                self._memory[parameter] = parameter.new_empty(rows, parameter.numel())

    def add(self, parameter: nn.Parameter, row: int, gradient: Tensor) -> None:
        """Add a part of a row."""
        # In the parameter's own order in memory, in which the gradient comes, too.
        place = self._shaped(parameter, self._memory[parameter][row])
        if (parameter, row) in self._written:
            place.add_(gradient)
        else:
            place.copy_(gradient)
            self._written.add((parameter, row))

    def finish(self) -> None:
        """Fill with 0 what nothing was added to, and take the mean over ranks."""
        for parameter in self.parameters:
            for row in range(self.rows):
                if (parameter, row) not in self._written:
                    self._memory[parameter][row].zero_()
            mean_over_ranks([self._matrix(parameter)])

    def gramian(self) -> Tensor:
        """Return the (n, n) inner products of the rows, summed in float64."""
        total: Tensor | None = None
        for parameter in self.parameters:
            matrix = self._matrix(parameter)
            matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
            part = (matrix @ matrix.T).to(torch.float64)
            total = part if total is None else total + part
        return torch.zeros(self.rows, self.rows) if total is None else total

    def combine(self, weights: Tensor) -> None:
        """Make each parameter's gradient the sum of its rows times the (n,) weights."""
        for parameter in self.parameters:
            matrix = self._matrix(parameter)
            parameter.grad = self._shaped(parameter, weights.to(matrix) @ matrix)

    def aggregate(self, method: Callable[[Tensor], Tensor], columns_apart: bool) -> None:
        """Make each parameter's gradient what the method makes of the (n, P) rows.

        Args:
            method: (n, P) to (P,).
            columns_apart: It may be given the parameters one by one.
        """
        if columns_apart:
            for parameter in self.parameters:
                parameter.grad = self._shaped(parameter, method(self._matrix(parameter)))
            return
        whole = method(torch.cat([self._matrix(p) for p in self.parameters], dim=1))
        parts = torch.split(whole, [p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = self._shaped(parameter, part.clone())

    def _matrix(self, parameter: nn.Parameter) -> Tensor:
        return self._memory[parameter][: self.rows]

    @staticmethod
    def _shaped(parameter: nn.Parameter, numbers: Tensor) -> Tensor:
        return numbers.as_strided(parameter.shape, parameter.stride(), numbers.storage_offset())
