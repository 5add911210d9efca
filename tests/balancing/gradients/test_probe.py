import pytest
import torch
from torch import nn

from mtl_lightning.balancing.gradients import probe
from mtl_lightning.balancing.gradients.probe import BackboneProbe, probe_backbone
from mtl_lightning.models.inputs import image_input
from tests.helpers.models import Layered

INPUTS = image_input((16, 16))


class Mixing(Layered):
    """Subtracts the mean over the images of a batch."""

    def forward(self, inputs):
        pooled = super().forward(inputs)["pooled"]
        return {"pooled": pooled - pooled.mean(0)}


class Transposing(nn.Module):
    """A trained layer whose first axis is not the images."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, maps):
        return self.layer(maps.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)


def transposing():
    backbone = Layered()
    backbone.trunk[6] = Transposing()
    return backbone


@pytest.mark.parametrize(
    ("backbone", "mode", "reason"),
    [
        (Layered(), "rows", ""),
        (Layered("batch"), "rows", ""),
        (Layered(first=False), "rows", ""),
        (Layered(loose=True), "label_sets", "Layered has trained weights outside of its layers"),
        (transposing(), "label_sets", "Layered has trained weights outside of its layers"),
        (Mixing(), "tasks", "Mixing mixes the images of a batch"),
        (Layered("batch", train_norm=True), "tasks", "batch norm (trunk.1) mixes the images of a"),
    ],
)
def test_the_cheapest_exact_mode_and_why_none_is_cheaper(backbone, mode, reason):
    result = probe_backbone(backbone, INPUTS)
    assert result.mode == mode
    assert result.reason.startswith(reason)
    assert bool(result.reason) == bool(reason)


def test_it_leaves_no_trace():
    backbone = Layered("batch").train()
    modes = [module.training for module in backbone.modules()]
    before, state = {n: b.clone() for n, b in backbone.named_buffers()}, torch.get_rng_state()
    probe_backbone(backbone, INPUTS)
    assert modes == [module.training for module in backbone.modules()]
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert not any("forward" in vars(module) for module in backbone.modules())


def test_it_is_repeated_when_something_else_is_trained_and_explained_once(monkeypatch, capsys):
    calls = []

    def counted(backbone, inputs):
        calls.append(inputs)
        return probe_backbone(backbone, inputs)

    monkeypatch.setattr(probe, "probe_backbone", counted)
    cached, backbone = BackboneProbe(), Layered(loose=True)
    assert cached(backbone, INPUTS) is cached(backbone, INPUTS) is cached.result
    assert len(calls) == 1
    backbone.trunk[0].weight.requires_grad_(False)
    cached(backbone, INPUTS)
    backbone.eval()
    cached(backbone, INPUTS)
    assert len(calls) == 3
    message = " ".join(capsys.readouterr().out.split())
    assert message.count("rows with the same labels pass through it by themselves") == 1


def test_a_frozen_backbone_is_not_probed(monkeypatch):
    monkeypatch.setattr(probe, "probe_backbone", lambda *_: pytest.fail("there is no gradient"))
    backbone = Layered()
    backbone.requires_grad_(False)
    assert BackboneProbe()(backbone, INPUTS).mode == "tasks"
