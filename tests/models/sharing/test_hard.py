import torch
from torch import nn

from mtl_lightning.models import Hard, Sharing, Torchvision
from tests.helpers.models import width_of

TASKS = ["type", "audience"]


def hard() -> Hard:
    sharing = Hard()
    sharing.attach(Torchvision("squeezenet1_1", weights=None), TASKS)
    return sharing.eval()


def test_the_backbone_runs_once_whatever_rows_are_asked_for():
    sharing = hard()
    calls = []
    sharing.backbone.trunk.register_forward_hook(lambda *args: calls.append(1))
    images = {"image": torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)}
    rows = {
        "type": torch.tensor([True, False, False]),
        "audience": torch.zeros(3, dtype=torch.bool),
    }
    features = sharing(images, rows)
    assert len(calls) == 1
    assert list(features) == TASKS
    assert features["type"] is features["audience"]
    assert torch.equal(features["type"]["pooled"], sharing(images)["type"]["pooled"])


def test_all_is_shared():
    sharing = hard()
    assert isinstance(sharing, Sharing)
    assert sharing.penalty() is None
    assert sharing.own_parameters("type") == []
    assert sharing.shared_parameters(TASKS) == list(sharing.parameters())
    assert sharing.shared_backbone is sharing.backbone
    ours = {id(p) for p in sharing.backbone_parameters()}
    assert ours == {id(p) for p in sharing.backbone.parameters()}
    assert width_of(sharing, (32, 32)) == 512
    assert sharing.load_pretrained() is None


def test_it_is_an_ordinary_module():
    assert all(key.startswith("backbone.trunk.") for key in hard().state_dict())
    assert isinstance(nn.Sequential(hard())[0], Hard)
