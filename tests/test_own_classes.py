"""Classes of one's own, from a module in the current folder, for every slot of the config."""

from pathlib import Path

import pandas as pd
import torch

from tests.conftest import small

OWN = '''
import torch
from torch import nn

from mtl_lightning import Backbone, Classification, Hard


class Focal(Classification):
    """Focal loss: a task of one's own."""

    def __init__(self, classes: list[str] | None = None, gamma: float = 2.0) -> None:
        super().__init__(classes)
        self.gamma = gamma

    def loss(self, outputs, targets):
        losses = super().loss(outputs, targets)
        return (1 - torch.exp(-losses)) ** self.gamma * losses


class Tiny(Backbone):
    """One convolution: a backbone of one's own."""

    def __init__(self, width: int = 4) -> None:
        trunk = nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.ReLU())
        super().__init__(trunk, {"all": list(trunk)}, None, "imagenet", "avg", None)

    def named_weights(self, name):
        raise NotImplementedError


class Scaled(Hard):
    """Hard sharing with a learned scale for each task: a sharing of one's own."""

    def attach(self, backbone, tasks):
        super().attach(backbone, tasks)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in tasks])

    def forward(self, inputs, rows=None):
        features = super().forward(inputs, rows)
        return {
            task: {name: values * scale for name, values in features[task].items()}
            for task, scale in zip(self.tasks, self.scales, strict=True)
        }

    def own_parameters(self, task):
        return [self.scales[self.tasks.index(task)]]
'''


def test_a_task_a_backbone_and_a_sharing_of_ones_own(cli):
    Path("mine.py").write_text(OWN)
    config = small(
        {
            "tasks.digit": {"class_path": "mine.Focal", "init_args": {"gamma": 1.5}},
            "model.backbone": {"class_path": "mine.Tiny", "init_args": {"width": 6}},
            "model.sharing": "mine.Scaled",
        }
    )
    cli.run("fit", "--config", config)
    run = Path("runs/small/version_0")
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["tasks"]["digit"]["class_path"] == "mine.Focal"
    assert saved["state_dict"]["network.sharing.backbone.trunk.0.weight"].shape[0] == 6
    assert "network.sharing.scales.2" in saved["state_dict"]
    assert "val/digit/accuracy" in pd.read_csv(run / "metrics.csv")
    best = ["--ckpt_path", str(run / "checkpoints/best.ckpt")]
    cli.run("test", "--config", config, *best)
    assert 'names the class "mine.Focal", which is not a class of mtl_light' in cli.refused(
        "test", *best
    )
    message = cli.refused("fit", "--config", config, "--tasks.digit.gama", "1")
    assert 'did you mean "gamma"' in message
