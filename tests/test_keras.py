"""The same weights and images give the loss of the original recipe, as Keras computes it."""

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning import VGG16, MultiTask
from mtl_lightning.data.batch import Batch
from tests.helpers.training import make_trainer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SIZE, BATCH_SIZE, STEPS, LR = 32, 6, 3, 0.02


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The original, as the benchmark of it builds and feeds it."""
    for name, value in (("BACKEND", "torch"), ("TORCH_DEVICE", "cpu"), ("HOME", str(tmp_path))):
        monkeypatch.setenv(f"KERAS_{name}", value)
    with warnings.catch_warnings():
        # What Keras and h5py use of other packages is no concern of ours.
        warnings.simplefilter("ignore")
        keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras was imported before, with a backend other than torch")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import keras_original

    return keras_original


class Losses(Callback):
    """Keeps each batch and the loss that `fit` makes of it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.losses: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, torch.Tensor],
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self.batches.append(batch)
        self.losses.append(outputs["loss"].item())


def test_training_has_the_losses_of_the_original(recipe: ModuleType, tmp_path: Path) -> None:
    keras = sys.modules["keras"]
    keras.utils.set_random_seed(0)
    original = recipe.original(recipe.CLASSES, SIZE, dropout=0.0)
    original.compile(
        optimizer=keras.optimizers.SGD(LR), loss=["categorical_crossentropy"] * len(recipe.CLASSES)
    )
    module = MultiTask(
        dict(recipe.tasks_of(recipe.CLASSES)),
        VGG16(weights=None, preprocessing="caffe"),
        dropout=0.0,
        loss_reduction="batch",
        optimizer=lambda parameters: torch.optim.SGD(parameters, LR),
        image_size=SIZE,
    )
    recipe.copy_weights(original, module.network)
    data = recipe.built_before(recipe.CLASSES, STEPS, BATCH_SIZE, SIZE, every=False)
    ours = Losses()
    make_trainer(tmp_path, callbacks=[ours], limit_val_batches=0).fit(module, datamodule=data)

    assert len(ours.batches) == STEPS
    theirs = []
    for batch in ours.batches:
        labels = recipe.zero_filled(batch, recipe.CLASSES)
        # One label an image, so that some tasks are absent: what Keras learns 0 from.
        assert [float(task.sum()) for task in labels].count(0.0) >= 2
        assert sum(float(task.sum()) for task in labels) == BATCH_SIZE
        loss, *_ = original.train_on_batch(recipe.inputs_of(batch), labels)
        theirs.append(float(loss))
    assert ours.losses == pytest.approx(theirs, rel=1e-5)
    assert len({round(loss, 2) for loss in theirs}) == STEPS  # they did train
