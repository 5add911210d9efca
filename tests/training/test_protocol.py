from typing import get_type_hints

from mtl_lightning.callbacks import EMA, Unfreeze
from mtl_lightning.training.module import MultiTask
from mtl_lightning.training.protocol import LateTraining, MultiTaskModule, multi_task
from tests.helpers.training import make_module


def test_the_module_has_what_callbacks_read():
    module = make_module()
    assert multi_task(module) is module
    for name in get_type_hints(MultiTaskModule):
        assert hasattr(module, name), name
    for name in ("print", "add_parameter_group", "resume_counting"):
        assert callable(getattr(MultiTask, name))


def test_callbacks_that_train_the_backbone_later_are_known():
    assert isinstance(Unfreeze(1), LateTraining)
    assert not isinstance(EMA(), LateTraining)
