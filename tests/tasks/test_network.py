import torch

from mtl_lightning.models import Hard, HeadOptions, Soft
from mtl_lightning.tasks.network import build_network
from tests.helpers.data import make_tasks
from tests.helpers.models import Small


def test_each_task_has_a_head_by_its_own_settings():
    tasks = make_tasks()
    tasks["rare"].head_options = HeadOptions(hidden=7)
    network = build_network(tasks, Small(), None, HeadOptions(dropout=0.3), (16, 16))
    assert isinstance(network.sharing, Hard)
    outputs = network({"image": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)})
    assert {name: out.shape[1] for name, out in outputs.items()} == {
        "kind": 3,
        "size": 1,
        "rare": 2,
    }
    linear = [m for m in network.heads["rare"].modules() if isinstance(m, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [7, 2]


def test_tasks_may_have_a_backbone_each():
    network = build_network(make_tasks(), Small(), Soft(0.1), HeadOptions(dropout=0.0), (16, 16))
    assert isinstance(network.sharing, Soft)
