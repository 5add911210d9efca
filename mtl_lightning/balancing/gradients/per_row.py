"""Gradients of groups of rows, for the price of one backward pass.

If images do not mix in the network, what a row adds to the gradient of a weight depends on that row
alone. One pass can then carry the derivatives of all rows, whichever task each belongs to, and only
the last product, of a layer's input and the derivative of its output, is computed for each task's
rows separately. In all this costs about a plain backward pass, for any number of tasks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Rows = slice | Tensor
"""Rows of a batch: contiguous ones, or (n,) int64."""


class Groups:
    """The rows that a backward pass carries for each task, and the receiver of their gradients.

    Attributes:
        rows: Pairs of a task's index and its rows.
        add: Receives a parameter, the index, and the gradient of that parameter.
    """

    def __init__(self, add: Callable[[nn.Parameter, int, Tensor], None]) -> None:
        self.rows: Sequence[tuple[int, Rows]] = ()
        self.add = add


@contextmanager
def recording(network: nn.Module, groups: Groups) -> Iterator[None]:
    """Let a backward pass through what is computed within give gradients by group.

    Every module with trained parameters of its own has to take and return one tensor whose first
    axis is the rows; `mtl_lightning.balancing.gradients.probe` tests that.
    """
    owners = [
        module
        for module in network.modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    ]
    for module in owners:
        module.forward = _recorded_forward(module, groups)
    try:
        yield
    finally:
        for module in owners:
            del module.forward  # the class's own method is found again


def _recorded_forward(module: nn.Module, groups: Groups) -> Callable[[Tensor], Tensor]:
    layer: type[torch.autograd.Function] = _Recomputed
    if type(module) is nn.Linear:
        layer = _Linear
    elif type(module) is nn.Conv2d and not isinstance(module.padding, str):
        layer = _Conv if module.padding_mode == "zeros" else _Recomputed
    own = [p for p in module.parameters(recurse=False) if p.requires_grad]

    def forward(inputs: Tensor) -> Tensor:
        outputs: Tensor = layer.apply(inputs, module, groups, *own)
        return outputs

    return forward


def _plain(module: nn.Module, inputs: Tensor) -> Tensor:
    outputs: Tensor = type(module).forward(module, inputs)
    return outputs


class _Layer(torch.autograd.Function):
    """A module whose backward pass gives its parameters' gradients to the groups."""

    @classmethod
    def forward(
        cls, ctx: Any, inputs: Tensor, module: nn.Module, groups: Groups, *own: nn.Parameter
    ) -> Tensor:
        outputs = _plain(module, inputs)
        ctx.module, ctx.groups, ctx.count = module, groups, len(own)
        cls.save(ctx, inputs, outputs)
        return outputs

    @staticmethod
    def save(ctx: Any, inputs: Tensor, outputs: Tensor) -> None:
        """Save the inputs in the dtype in which autocast multiplied them."""
        ctx.dtype = inputs.dtype
        ctx.save_for_backward(inputs.to(outputs.dtype))


class _Conv(_Layer):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        layer: nn.Conv2d = ctx.module
        weight, bias = layer.weight.detach().to(gradient.dtype), layer.bias

        def derivatives(rows: Rows, mask: list[bool]) -> Any:
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
                mask,
            )

        by_inputs = None
        if ctx.needs_input_grad[0]:
            by_inputs = derivatives(slice(None), [True, False, False])[0].to(ctx.dtype)
        for task, rows in ctx.groups.rows:
            mask = [False, layer.weight.requires_grad, bias is not None and bias.requires_grad]
            _, by_weight, by_bias = derivatives(rows, mask)
            if mask[1]:
                ctx.groups.add(layer.weight, task, by_weight)
            if mask[2]:
                ctx.groups.add(bias, task, by_bias)
        return by_inputs, None, None, *[None] * ctx.count


class _Linear(_Layer):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        layer: nn.Linear = ctx.module
        by_inputs = None
        if ctx.needs_input_grad[0]:
            by_inputs = (gradient @ layer.weight.detach().to(gradient.dtype)).to(ctx.dtype)
        for task, rows in ctx.groups.rows:
            above = gradient[rows].flatten(0, -2)
            if layer.weight.requires_grad:
                ctx.groups.add(layer.weight, task, above.T @ inputs[rows].flatten(0, -2))
            if layer.bias is not None and layer.bias.requires_grad:
                ctx.groups.add(layer.bias, task, above.sum(0))
        return by_inputs, None, None, *[None] * ctx.count


class _Recomputed(_Layer):
    """Norms and other small layers, recomputed in the backward pass and differentiated by torch."""

    @staticmethod
    def save(ctx: Any, inputs: Tensor, outputs: Tensor) -> None:
        """Save the inputs as they are, and the state of autocast."""
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
            by_inputs = None
            if ctx.needs_input_grad[0]:
                (by_inputs,) = torch.autograd.grad(outputs, inputs, gradient, retain_graph=True)
            for task, rows in ctx.groups.rows:
                parts = torch.autograd.grad(outputs[rows], own, gradient[rows], retain_graph=True)
                for parameter, part in zip(own, parts, strict=True):
                    ctx.groups.add(parameter, task, part)
        return by_inputs, None, None, *[None] * ctx.count
