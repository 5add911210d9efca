"""Gradients of a trunk's weights by groups of rows, at the price of one backward pass.

Where images do not mix inside the trunk, what a row adds to the gradient of a weight depends on
that row alone. So one pass carries the derivatives of all rows down, whatever task each is of, and
only the last product, of a layer's input with the derivative of its output, is taken for each
task's rows apart. All of it costs what a plain backward pass costs, for any number of tasks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Rows = slice | Tensor
"""Some rows of a batch: a stretch of them, or (n,) int64."""


class Groups:
    """Which rows a backward pass carries for which task, and who takes their gradients.

    Attributes:
        rows: (number of the task's gradient, its rows).
        add: Takes a parameter, the number, and the gradient of that parameter.
    """

    def __init__(self, add: Callable[[nn.Parameter, int, Tensor], None]) -> None:
        self.rows: Sequence[tuple[int, Rows]] = ()
        self.add = add


@contextmanager
def recording(trunk: nn.Module, groups: Groups) -> Iterator[None]:
    """Compute so that a later backward pass gives gradients by group.

    Every module that has trained parameters of its own must be called with one tensor whose first
    axis are the rows, and give one like that: `mtl_lightning.balancing.gradients.probe` finds out.
    """
    owners = [
        module
        for module in trunk.modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    ]
    for module in owners:
        module.forward = _recorded(module, groups)
    try:
        yield
    finally:
        for module in owners:
            del module.forward  # the class's own comes back


def _recorded(module: nn.Module, groups: Groups) -> Callable[[Tensor], Tensor]:
    kind: type[torch.autograd.Function] = _Recomputed
    if type(module) is nn.Linear:
        kind = _Linear
    elif type(module) is nn.Conv2d and not isinstance(module.padding, str):
        kind = _Conv if module.padding_mode == "zeros" else _Recomputed
    own = [p for p in module.parameters(recurse=False) if p.requires_grad]

    def forward(inputs: Tensor) -> Tensor:
        outputs: Tensor = kind.apply(inputs, module, groups, *own)
        return outputs

    return forward


def _plain(module: nn.Module, inputs: Tensor) -> Tensor:
    outputs: Tensor = type(module).forward(module, inputs)
    return outputs


class _Layer(torch.autograd.Function):
    """A module whose backward pass hands parameters' gradients to the groups."""

    @classmethod
    def forward(
        cls, ctx: Any, inputs: Tensor, module: nn.Module, groups: Groups, *own: nn.Parameter
    ) -> Tensor:
        outputs = _plain(module, inputs)
        ctx.module, ctx.groups, ctx.number = module, groups, len(own)
        cls.keep(ctx, inputs, outputs)
        return outputs

    @staticmethod
    def keep(ctx: Any, inputs: Tensor, outputs: Tensor) -> None:
        """Keep the inputs as autocast had them for the product."""
        ctx.dtype = inputs.dtype
        ctx.save_for_backward(inputs.to(outputs.dtype))


class _Conv(_Layer):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        layer: nn.Conv2d = ctx.module
        weight, bias = layer.weight.detach().to(gradient.dtype), layer.bias

        def derivatives(rows: Rows, wanted: list[bool]) -> Any:
            return torch.ops.aten.convolution_backward(
                gradient[rows],
                inputs[rows],
                weight,
                None if bias is None else [len(bias)],
                layer.stride,
                layer.padding,
                layer.dilation,
                False,
                [0, 0],
                layer.groups,
                wanted,
            )

        below = None
        if ctx.needs_input_grad[0]:
            below = derivatives(slice(None), [True, False, False])[0].to(ctx.dtype)
        for number, rows in ctx.groups.rows:
            learns = [False, layer.weight.requires_grad, bias is not None and bias.requires_grad]
            _, by_weight, by_bias = derivatives(rows, learns)
            if learns[1]:
                ctx.groups.add(layer.weight, number, by_weight)
            if learns[2]:
                ctx.groups.add(bias, number, by_bias)
        return below, None, None, *[None] * ctx.number


class _Linear(_Layer):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        layer: nn.Linear = ctx.module
        below = None
        if ctx.needs_input_grad[0]:
            below = (gradient @ layer.weight.detach().to(gradient.dtype)).to(ctx.dtype)
        for number, rows in ctx.groups.rows:
            above = gradient[rows].flatten(0, -2)
            if layer.weight.requires_grad:
                ctx.groups.add(layer.weight, number, above.T @ inputs[rows].flatten(0, -2))
            if layer.bias is not None and layer.bias.requires_grad:
                ctx.groups.add(layer.bias, number, above.sum(0))
        return below, None, None, *[None] * ctx.number


class _Recomputed(_Layer):
    """Norms and other small layers: computed once more, and differentiated by torch."""

    @staticmethod
    def keep(ctx: Any, inputs: Tensor, outputs: Tensor) -> None:
        """Keep the inputs as they are, and what autocast was to do with them."""
        del outputs
        device = inputs.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.save_for_backward(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        inputs = ctx.saved_tensors[0].detach()
        device, dtype, enabled = ctx.autocast
        own = [p for p in ctx.module.parameters(recurse=False) if p.requires_grad]
        with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
            inputs.requires_grad_(ctx.needs_input_grad[0])
            outputs = _plain(ctx.module, inputs)
            below = None
            if ctx.needs_input_grad[0]:
                (below,) = torch.autograd.grad(outputs, inputs, gradient, retain_graph=True)
            for number, rows in ctx.groups.rows:
                parts = torch.autograd.grad(outputs[rows], own, gradient[rows], retain_graph=True)
                for parameter, part in zip(own, parts, strict=True):
                    ctx.groups.add(parameter, number, part)
        return below, None, None, *[None] * ctx.number
