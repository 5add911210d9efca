import pytest
import torch
from torch import nn

from mtl_lightning.balancing.gradients.per_row import Groups, recording

LAYERS = {
    "linear": (nn.Linear(4, 3), (5, 4)),
    "linear over positions": (nn.Linear(4, 3, bias=False), (5, 2, 4)),
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (5, 4, 7, 7)),
    "conv without bias": (nn.Conv2d(4, 6, 3, bias=False), (5, 4, 7, 7)),
    "conv padded by reflection": (
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (5, 4, 7, 7),
    ),
    "conv padded to the same size": (nn.Conv2d(4, 6, 3, padding="same"), (5, 4, 7, 7)),
    "group norm": (nn.GroupNorm(2, 4), (5, 4, 7, 7)),
    "frozen batch norm": (nn.BatchNorm2d(4).eval(), (5, 4, 7, 7)),
    "several": (
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)),
        (5, 4),
    ),
}
ROWS = [(0, slice(0, 2)), (1, torch.tensor([2, 4]))]
"""Row 3 is nobody's."""


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_one_pass_gives_the_gradients_of_each_groups_rows(name, frozen):
    layer, shape = LAYERS[name]
    layer = layer.double()
    trained = list(layer.parameters())[frozen:]  # frozen: its first weight is not trained
    for parameter in layer.parameters():
        parameter.requires_grad_(any(parameter is p for p in trained))
    torch.manual_seed(0)
    inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    plain = layer(inputs)
    above = torch.randn_like(plain)
    expected = {
        task: torch.autograd.grad(plain[rows], trained, above[rows], retain_graph=True)
        for task, rows in (ROWS if trained else [])
    }
    below = torch.autograd.grad(plain, inputs, above)[0]

    found: dict[tuple[nn.Parameter, int], torch.Tensor] = {}

    def add(parameter, task, gradient):
        found[parameter, task] = found.get((parameter, task), 0) + gradient

    groups = Groups(add)
    with recording(layer, groups):
        outputs = layer(inputs)
    torch.testing.assert_close(outputs, plain, rtol=0, atol=0)
    groups.rows = ROWS
    torch.testing.assert_close(torch.autograd.grad(outputs, inputs, above)[0], below)
    assert len(found) == 2 * len(trained)
    for task, gradients in expected.items():
        for parameter, gradient in zip(trained, gradients, strict=True):
            torch.testing.assert_close(found[parameter, task], gradient)


def test_afterwards_a_layer_computes_as_its_class_does():
    layer = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="shape"), recording(layer, Groups(lambda *_: None)):
        layer(torch.zeros(1, 3))
    assert "forward" not in vars(layer)
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [1, 1]]


def test_under_autocast_products_are_taken_in_its_dtype():
    layer, found = nn.Linear(3, 2), []
    groups = Groups(lambda parameter, task, gradient: found.append(gradient.dtype))
    groups.rows = [(0, slice(0, 2))]
    inputs = torch.randn(2, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), recording(layer, groups):
        outputs = layer(inputs)
    assert outputs.dtype == torch.bfloat16
    (below,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    assert below.dtype == torch.float32
    assert found == [torch.bfloat16, torch.bfloat16]
