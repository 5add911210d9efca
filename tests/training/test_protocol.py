from typing import get_type_hints

from mtl_lightning.training.module import MultiTask
from mtl_lightning.training.protocol import MultiTaskModule, multi_task
from tests.helpers.support import make_module


def test_the_module_has_what_callbacks_read():
    module = make_module()
    assert multi_task(module) is module
    for name in get_type_hints(MultiTaskModule):
        assert hasattr(module, name), name
    assert callable(MultiTask.print)
