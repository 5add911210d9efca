import torch
from torch import nn

from mtl_lightning.models import Sharing
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.inputs import image_input
from tests.helpers.models import ThreeStages


class Separate(Sharing):
    """A backbone for each task, and a layer that tasks share; with the base class's defaults."""

    def attach(self, backbone, tasks):
        self.backbones = nn.ModuleList([backbone, ThreeStages()])
        self.shared = nn.Linear(2, 2)

    def describe(self, inputs):
        return self.backbones[0].describe(inputs)

    def load_pretrained(self):
        return None

    def forward(self, inputs, rows=None):
        return {task: self.backbones[i](inputs) for i, task in enumerate("ab")}

    def own_parameters(self, task):
        return list(self.backbones["ab".index(task)].parameters())


def attached():
    sharing = Separate()
    sharing.attach(ThreeStages(), ["a", "b"])
    return sharing


def test_parameters_that_no_task_owns_are_shared():
    sharing = attached()
    assert sharing.shared_parameters(["a", "b"]) == list(sharing.shared.parameters())
    own = {*sharing.own_parameters("a"), *sharing.own_parameters("b")}
    assert {*sharing.backbone_parameters()} == own | {*sharing.shared.parameters()}


def test_every_backbone_provides_what_any_task_reads():
    sharing = attached()
    specs = image_input((16, 16))
    sharing.describe(specs)
    sharing.provide({"a": [POOLED], "b": ["c"]})
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    features = sharing(dict.fromkeys(specs, images))
    assert {task: list(own) for task, own in features.items()} == {
        "a": [POOLED, "c"],
        "b": [POOLED, "c"],
    }


def test_a_sharing_that_says_nothing_adds_nothing_and_shares_no_tensor():
    sharing = attached()
    before = [p.detach().clone() for p in sharing.parameters()]
    sharing.update_absent(["a"], dict.fromkeys(sharing.parameters(), 0.1))
    assert all(map(torch.equal, before, sharing.parameters()))
    assert sharing.penalty() is None
    assert sharing.shared_backbone is None
