import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import BackboneFinetuning, BaseFinetuning, ProgressBar, Timer
from pytorch_lightning.tuner import Tuner

from mtl_lightning.callbacks import EMA, Unfreeze
from mtl_lightning.callbacks.bar import Bar
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.refused_callbacks import check_callbacks
from tests.helpers.data import make_data
from tests.helpers.training import make_module, make_trainer


def test_what_works_passes():
    class Own(BaseFinetuning):
        """A subclass of a base class."""

    check_callbacks([Callback(), EMA(), Unfreeze(1), Timer(), Bar(), Own()])


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (BackboneFinetuning(), "use Unfreeze"),
        (BaseFinetuning(), "Unfreeze"),
        (ProgressBar(), "TQDM"),
    ],
)
def test_what_cannot_work_names_what_does(callback, instead):
    name = type(callback).__name__
    with pytest.raises(UserError, match=f"^trainer.callbacks: {name} cannot be used: .*{instead}"):
        check_callbacks([Callback(), callback])


@pytest.mark.parametrize("method", ["fit", "validate"])
def test_the_tuner_of_batch_sizes_is_refused_before_it_does_anything(tmp_path, method):
    module, data = make_module(), make_data()
    with pytest.raises(UserError, match=r"BatchSizeFinder cannot be used.*--data\.batch_size"):
        Tuner(make_trainer(tmp_path)).scale_batch_size(module, datamodule=data, method=method)
    assert data.batch_size == 8
    assert not list(tmp_path.iterdir())


def test_the_tuner_of_learning_rates_is_refused_before_it_does_anything(tmp_path):
    with pytest.raises(UserError, match=r"LearningRateFinder cannot be used.*init_args\.lr"):
        Tuner(make_trainer(tmp_path)).lr_find(make_module(), datamodule=make_data())
    assert not list(tmp_path.iterdir())
