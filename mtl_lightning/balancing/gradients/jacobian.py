"""The Jacobian of K losses: one gradient per task, kept parameter by parameter."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mtl_lightning.balancing.ranks import mean_over_ranks


class Jacobian:
    """The gradients of several tasks, as rows, with respect to each of some parameters.

    Memory is allocated once. Each step uses as many of its rows as it has active tasks, and the
    matrices of the parameters are never concatenated, unless a method needs the whole.
    """

    def __init__(self) -> None:
        self._memory: dict[nn.Parameter, Tensor] = {}
        self._written: set[tuple[nn.Parameter, int]] = set()
        self.parameters: list[nn.Parameter] = []
        self.rows = 0

    def begin(self, parameters: Iterable[nn.Parameter], rows: int) -> None:
        """Start a step with this number of rows."""
        self.parameters, self.rows = list(parameters), rows
        self._written.clear()
        used = set(self.parameters)
        self._memory = {p: matrix for p, matrix in self._memory.items() if p in used}
        for parameter in self.parameters:
            matrix = self._memory.get(parameter)
            if matrix is None or len(matrix) < rows:
                self._memory[parameter] = parameter.new_empty(rows, parameter.numel())

    def add(self, parameter: nn.Parameter, row: int, gradient: Tensor) -> None:
        """Add to the gradient of one parameter in a row."""
        # In the parameter's own memory format, which is that of the gradient, too.
        target = _as_shaped(parameter, self._memory[parameter][row])
        if (parameter, row) in self._written:
            target.add_(gradient)
        else:
            target.copy_(gradient)
            self._written.add((parameter, row))

    def add_all(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Add to a row one gradient per parameter; None adds nothing."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                self.add(parameter, row, gradient)

    def finish(self) -> None:
        """Set to 0 whatever nothing was added to, and take the mean over ranks."""
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
        """Set each parameter's gradient to the sum of its rows times the (n,) weights."""
        for parameter in self.parameters:
            matrix = self._matrix(parameter)
            parameter.grad = _as_shaped(parameter, weights.to(matrix) @ matrix)

    def aggregate(self, method: Callable[[Tensor], Tensor], columnwise: bool) -> None:
        """Set each parameter's gradient to what the method makes of the (n, P) rows.

        Args:
            method: (n, P) to (P,).
            columnwise: Whether the parameters may be given to it one by one.
        """
        if columnwise:
            for parameter in self.parameters:
                parameter.grad = _as_shaped(parameter, method(self._matrix(parameter)))
            return
        whole = method(torch.cat([self._matrix(p) for p in self.parameters], dim=1))
        parts = torch.split(whole, [p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = _as_shaped(parameter, part.clone())

    def _matrix(self, parameter: nn.Parameter) -> Tensor:
        return self._memory[parameter][: self.rows]


def _as_shaped(parameter: nn.Parameter, values: Tensor) -> Tensor:
    """View (P,) values, in the order of the parameter's memory, in its shape."""
    return values.as_strided(parameter.shape, parameter.stride(), values.storage_offset())
