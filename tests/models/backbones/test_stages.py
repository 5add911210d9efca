from torch import nn

from mtl_lightning.models.backbones.stages import stages_by_child


def test_bodies_are_opened_and_parts_without_state_belong_to_the_stage_before():
    trunk = nn.Sequential()
    trunk.add_module("flip", nn.Identity())
    trunk.add_module("stem", nn.Conv2d(3, 4, 1))
    trunk.add_module("relu", nn.ReLU())
    trunk.add_module("blocks", nn.ModuleList([nn.Linear(1, 1), nn.Dropout(), nn.BatchNorm1d(1)]))
    trunk.add_module("layer1", nn.Sequential(nn.Linear(1, 1)))
    assert stages_by_child(trunk) == {
        "stem": [trunk.flip, trunk.stem, trunk.relu],
        "blocks.0": [trunk.blocks[0], trunk.blocks[1]],
        "blocks.2": [trunk.blocks[2]],
        "layer1": [trunk.layer1],
    }
