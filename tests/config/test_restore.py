import copy
import sys
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch

from mtl_lightning import Hard, MultiTask, PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.lightning_internals import is_built_by_cli
from tests.helpers.data import make_data
from tests.helpers.files import checkpoints
from tests.helpers.training import fit, make_module


def test_objects_given_in_python_are_not_hyper_parameters(tmp_path):
    assert not is_built_by_cli()
    module = fit(tmp_path)
    assert not module.hparams
    assert not make_data().hparams


def test_a_checkpoint_made_in_python_holds_plain_values(tmp_path):
    module = fit(tmp_path)
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    other = make_module(seed=5)
    other.load_state_dict(content["state_dict"])
    assert torch.equal(other.tasks["size"].mean, module.tasks["size"].mean)


# --------------------------------------------------------------------- load_from_checkpoint

UNKNOWN = {"class_path": "evil.Thing"}
KEYS = {MultiTask: "hyper_parameters", PartialLabels: "datamodule_hyper_parameters"}


class Own(Hard):
    """A way of sharing that this module, and so the program, has."""


@pytest.fixture
def evil(monkeypatch):
    """A module of a stranger's in the current folder; nothing of it may run."""
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(".")
    yield
    assert sys.modules.pop("evil", None) is None
    assert not Path("ran").exists()


def test_the_data_of_a_checkpoint_are_built_in_python():
    source = {"class_path": "mtl_lightning.DigitsSource", "init_args": {"seed": 4}}
    path = checkpoints.write("x.ckpt", {"data.sources": {"digits": source}})
    data = PartialLabels.load_from_checkpoint(path, batch_size=7)
    assert data.sources["digits"].seed == 4
    assert data.batch_size == 7
    assert list(data.tasks) == ["digit", "ink"]


@pytest.mark.parametrize("cls", KEYS)
@pytest.mark.parametrize("key", ["_instantiator", "hparams", "module_arguments"])
def test_what_a_checkpoint_asks_to_be_called_is_not_called(evil, cls, key):
    rogue = {"_instantiator": "evil.make"}
    content = copy.deepcopy(checkpoints.GOOD)
    if key == "_instantiator":
        content[KEYS[cls]] |= rogue
    else:
        content[key] = rogue
        del content[KEYS[cls]]["_instantiator"]
    torch.save(content, "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt: it asks for evil\.make to be called"):
        cls.load_from_checkpoint("x.ckpt")


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (MultiTask, {"model.backbone.class_path": "evil.Thing"}),
        (MultiTask, {"model.tasks.digit.class_path": "subprocess.Popen"}),
        (MultiTask, {"model.optimizer": "evil.make"}),
        (MultiTask, {"model._class_path": "evil.Thing"}),
        (PartialLabels, {"data.sources.shop.class_path": "evil.Thing"}),
        (PartialLabels, {"data.augmentation": [{"class_path": "evil.Thing"}]}),
    ],
)
def test_python_imports_nothing_that_a_checkpoint_names(evil, cls, changes):
    path = checkpoints.write("x.ckpt", changes)
    with path.open("rb") as file:
        for given in (path, str(path), file):
            with pytest.raises(UserError):
                cls.load_from_checkpoint(given)


def test_python_trusts_what_it_has_imported_itself():
    changes = {"model.sharing.class_path": f"{__name__}.Own"}
    path = checkpoints.write("x.ckpt", changes)
    with pytest.raises(UserError, match="Missing key"):  # its weights, which are another matter
        MultiTask.load_from_checkpoint(path)
    with pytest.raises(UserError, match=r"if you trust it, import its module first"):
        MultiTask.load_from_checkpoint(checkpoints.write("x.ckpt", {"model.sharing": UNKNOWN}))


@pytest.mark.parametrize("cls", KEYS)
def test_python_reads_plain_values_alone(cls):
    path = checkpoints.write("x.ckpt", callbacks={"a": checkpoints.Payload()})
    with pytest.raises(UnpicklingError):
        cls.load_from_checkpoint(path, weights_only=False)
    assert not Path("ran").exists()


def test_a_class_is_loaded_and_not_an_object():
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        make_data().load_from_checkpoint("x.ckpt")
