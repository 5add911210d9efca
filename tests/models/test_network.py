import copy

import pytest
import torch
from torch import nn

from mtl_lightning.models import Hard, Network, Torchvision
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import Adapters, Layered, Opaque, heads_of, make_network

OUTPUTS = {"type": 4, "train": 1, "keys": 2, "forward": 3, "help": 1, "a.b": 2}
IMAGES = {"image": torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)}


def network(name: str = "squeezenet1_1", **settings: object) -> Network:
    return make_network(Hard(), Torchvision(name, weights=None), OUTPUTS, (32, 32), **settings)


@torch.no_grad()
def test_uint8_in_dict_out_whatever_the_tasks_are_called():
    outputs = network().eval()(IMAGES)
    assert {task: out.shape for task, out in outputs.items()} == {
        task: (3, n) for task, n in OUTPUTS.items()
    }
    assert list(outputs) == list(OUTPUTS)
    assert all(out.dtype == torch.float32 for out in outputs.values())


def test_state_dict_is_readable_and_makes_the_round_trip():
    net = network(hidden=8).eval()
    keys = net.state_dict().keys()
    assert "heads.task_type.1.weight" in keys
    assert "sharing.backbone.trunk.features.0.weight" in keys
    twin = network(hidden=8).eval()
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        theirs = twin(IMAGES)
        assert all(torch.equal(out, theirs[task]) for task, out in net(IMAGES).items())


def test_parameters_fall_into_backbone_and_heads_and_each_task_owns_its_head():
    net = network()
    groups = [net.backbone_parameters(), net.head_parameters()]
    ids = [id(p) for group in groups for p in group]
    assert sorted(ids) == sorted(id(p) for p in net.parameters())
    owned = [id(p) for task in OUTPUTS for p in net.own_parameters(task)]
    assert sorted(owned) == sorted(id(p) for p in net.head_parameters())
    assert [p.shape[0] for p in net.own_parameters("type")] == [4, 4]
    with pytest.raises(KeyError, match="tipe"):
        net.own_parameters("tipe")


def test_shared_is_what_is_trained_and_no_task_s_own():
    net = make_network(Adapters(), Layered(first=False), OUTPUTS, (16, 16))
    trained = [p for p in net.sharing.backbone.parameters() if p.requires_grad]
    assert len(trained) == len(list(net.sharing.backbone.parameters())) - 2
    assert net.shared_parameters() == trained
    assert net.own_parameters("type")[2:] == list(net.sharing.adapters["type"].parameters())
    assert net.sharing.shared_parameters(list(OUTPUTS)) == list(net.sharing.backbone.parameters())
    assert Opaque().shared_backbone is None


def test_a_tasks_loss_moves_its_own_head_and_the_backbone_only():
    net = network()
    net(IMAGES)["type"].sum().backward()
    assert all(p.grad is not None for p in net.own_parameters("type"))
    assert all(p.grad is None for p in net.own_parameters("keys"))
    assert all(p.grad is not None for p in net.backbone_parameters())


@torch.no_grad()
def test_rows_do_not_touch_one_another_in_eval_mode():
    net = network("resnet18").double().eval()
    together = net(IMAGES)
    changed = IMAGES["image"].clone()
    changed[0] = 255 - changed[0]
    for task, out in net({"image": changed}).items():
        assert torch.equal(out[1:], together[task][1:])
        assert not torch.equal(out[0], together[task][0])


@torch.no_grad()
def test_double_precision_throughout():
    net = network().eval()
    single = net(IMAGES)
    outputs = copy.deepcopy(net).double()(IMAGES)
    assert all(out.dtype == torch.float64 for out in outputs.values())
    torch.testing.assert_close(outputs["type"].float(), single["type"], rtol=1e-3, atol=1e-4)


def test_weights_are_channels_last_and_stay_so():
    net = network()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    net.load_state_dict(copy.deepcopy(net.state_dict()))
    assert convolutions
    for layer in convolutions:
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_dropout_and_hidden_layers_reach_every_head():
    net = network(dropout=0.25, hidden=8)
    for layers in net.heads.values():
        assert [m.p for m in layers.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.25]


def test_pretrained_weights_reach_the_backbone(tmp_path):
    donor = Torchvision("squeezenet1_1", weights=None)
    torch.save(donor.trunk.state_dict(), tmp_path / "donor.pth")
    backbone = Torchvision("squeezenet1_1", weights=str(tmp_path / "donor.pth"))
    net = make_network(Hard(), backbone, {"type": 2}, (32, 32))
    report = net.load_pretrained()
    assert report is not None
    assert report.complete
    assert torch.equal(net.backbone_parameters()[0], next(donor.parameters()))


def test_an_image_size_that_is_too_small_is_reported_immediately():
    with pytest.raises(UserError, match="Torchvision squeezenet1_1 cannot take images of 8 x 8"):
        make_network(Hard(), Torchvision("squeezenet1_1", weights=None), {"type": 2}, (8, 8))


def test_it_knows_no_lightning():
    program = torch.export.export(network().eval(), (IMAGES,))
    assert program.module()(IMAGES)["type"].shape == (3, 4)


# ----------------------------------------------------------------- what heads read


class Coarse(nn.Module):
    """A dense head of a kind: it reads two maps and the pooled vector."""

    reads = ("features.3", "features.12", "pooled")

    def __init__(self, spec):
        super().__init__()
        near, far = (spec.maps[name].channels for name in self.reads[:2])
        self.layer = nn.Linear(near + far + spec.pooled, 2)

    def forward(self, near, far, pooled):
        return self.layer(torch.cat([near.mean((2, 3)), far.mean((2, 3)), pooled], 1))


def test_a_head_gets_the_maps_that_it_names():
    heads = heads_of({"type": 4}) | {"dense": Coarse} | heads_of({"own": 1}, pooling="max")
    net = Network(Hard(), Torchvision("squeezenet1_1", weights=None), heads, image_input((32, 32)))
    assert net.reads == {
        "type": ("pooled",),
        "dense": ("features.3", "features.12", "pooled"),
        "own": ("features.12",),
    }
    assert net.all_reads == ["pooled", "features.3", "features.12"]
    outputs = net.eval()(IMAGES)
    assert {task: out.shape for task, out in outputs.items()} == {
        "type": (3, 4),
        "dense": (3, 2),
        "own": (3, 1),
    }
    sum(out.sum() for out in outputs.values()).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_head_that_reads_what_there_is_not():
    class Lost(Coarse):
        reads = ("features.5", "pooled")  # a pooling: no stage of its own

        def __init__(self, spec):
            nn.Module.__init__(self)

    backbone = Torchvision("squeezenet1_1", weights=None)
    with pytest.raises(
        UserError, match=r"^task dense: its head should read features\.0, .*, pooled\. Found feat"
    ):
        Network(Hard(), backbone, {"dense": Lost}, image_input((32, 32)))


@pytest.mark.parametrize("pooling", [None, "gem"])
def test_every_weight_has_a_gradient_whatever_pools(pooling):
    backbone = Torchvision("squeezenet1_1", weights=None, pooling="gem")
    net = make_network(Hard(), backbone, OUTPUTS, (32, 32), pooling=pooling)
    sum(out.sum() for out in net(IMAGES).values()).backward()
    assert all(p.grad is not None for p in net.parameters())
    powers = [name for name, _ in net.named_parameters() if name.endswith(".p")]
    assert len(powers) == (1 if pooling is None else len(OUTPUTS))
