import pytest
import torch
from pytorch_lightning import Callback, seed_everything
from torch.utils.data import DataLoader

from mtl_lightning.system.errors import UserError
from tests.helpers.data import make_data
from tests.helpers.training import fit, make_module, make_trainer, weights


def test_results_are_logged_under_the_promised_names(tmp_path):
    module = fit(tmp_path, make_data(), max_epochs=2)
    logged = {name: float(v) for name, v in module.trainer.callback_metrics.items()}
    for split in ("train", "val"):
        flat = module.results[split].flat()
        assert {f"{split}/loss", f"{split}/score", f"{split}/kind/loss"} <= flat.keys()
        assert f"{split}/kind/balanced_accuracy" in flat
        assert (f"{split}/kind/macro_f1" in flat) == (split == "val")  # a step measures the primary
        assert {name: logged[name] for name in flat} == pytest.approx(flat)
    train = module.results["train"].tasks
    data = make_data()
    data.setup("fit")
    assert {name: values["n_labelled"] for name, values in train.items()} == {
        name: len(data.labels.training_labels(name)[0]) for name in train
    }, "the last epoch alone"


def test_the_sanity_check_is_not_logged(tmp_path):
    seen = []

    class Look(Callback):
        def on_sanity_check_end(self, trainer, pl_module):
            seen.append(dict(pl_module.results))

    fit(tmp_path, make_data(), callbacks=[Look()], num_sanity_val_steps=2)
    assert seen == [{}]


def dropped(folder, resume_after=None):
    """Train two epochs with dropout, in one go or in two; return the weights."""
    folder.mkdir()
    epochs = [2] if resume_after is None else [resume_after, 2]
    checkpoint = None
    for last in epochs:
        module = make_module(dropout=0.5)
        trainer = make_trainer(folder, max_epochs=last)
        seed_everything(3, verbose=False)
        torch.rand(last)  # what was drawn before must not matter
        trainer.fit(module, datamodule=make_data(), ckpt_path=checkpoint)
        checkpoint = folder / "a.ckpt"
        trainer.save_checkpoint(checkpoint)
    return weights(module)


def test_dropout_depends_on_nothing_but_the_position_in_the_training(tmp_path):
    whole, resumed = dropped(tmp_path / "a"), dropped(tmp_path / "b", resume_after=1)
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


@pytest.mark.parametrize("stage", ["predict", "test", "validate"])
def test_a_loader_of_tensors_is_one_clear_line(tmp_path, stage):
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"Found Tensor; for a tensor of images.*predictor\(\)"):
        getattr(make_trainer(tmp_path), stage)(make_module(), DataLoader(images, batch_size=2))


@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
def test_a_training_without_our_data_is_one_clear_line(tmp_path):
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"trained with datamodule=PartialLabels.*Found none"):
        make_trainer(tmp_path).fit(make_module(), DataLoader(images, batch_size=2))
