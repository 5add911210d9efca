import pytest

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.monitored import check_monitor, monitored_names
from tests.helpers.data import Memory, make_tasks
from tests.helpers.training import fit, make_module


def test_monitored_names_are_what_is_logged(tmp_path):
    labels = {"kind": ["cat", "dog", "eel"] * 8, "size": range(24), "rare": ["no", "yes"] * 12}
    source = Memory(labels, ["train"] * 16 + ["val"] * 8)
    data = PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=8, num_workers=0)
    module = fit(tmp_path, data)
    logged = {name for name in module.trainer.callback_metrics if name[:3] in ("val", "tra")}
    assert set(monitored_names(module)) == logged - {"train/loss_step"}


def test_a_known_name_passes():
    check_monitor("key", "val/score", monitored_names(make_module()))


def test_an_unknown_name_is_refused_with_the_nearest():
    known = monitored_names(make_module())
    with pytest.raises(
        UserError, match=r'^key: nothing is logged as "val/scor"; did you mean "val/'
    ):
        check_monitor("key", "val/scor", known)
