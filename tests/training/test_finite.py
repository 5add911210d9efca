from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression
from tests.helpers import ranks
from tests.helpers.data import KINDS, Memory
from tests.helpers.training import fit, make_module, weights

POISON = 999.0
ROWS = 24
BAD = 13  # the row whose label it is


class Poisoned(Regression):
    """Its loss is no number for one label, or its gradient is none though the loss is finite."""

    gradient_only = False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        bad = targets > POISON - 1
        losses = super().loss(outputs, targets)
        if self.gradient_only:
            return losses + torch.where(bad, outputs[:, 0] * 0, 1.0).sqrt()
        return torch.where(bad, torch.nan, losses)


class BadGradient(Poisoned):
    gradient_only = True


class Before(Callback):
    """Keeps the weights before each step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        self.weights = weights(pl_module)
        self.has_bad = getattr(self, "has_bad", 0) + int(BAD in batch.rows)


def train(
    folder: Path, policy: str, kind: type[Poisoned] = Poisoned, devices: int = 1, **trainer: Any
) -> tuple[Any, Before, str]:
    """Train on labels of which one is poison; return the module, and what a refusal says."""
    labels = {
        "kind": [KINDS[i % 3] for i in range(ROWS)],
        "size": [POISON if i == BAD else i for i in range(ROWS)],
    }
    tasks = {"kind": Classification(list(KINDS)), "size": kind()}
    source = Memory(labels, ["train"] * ROWS)
    batch_size = 8 // devices
    data = PartialLabels(
        tasks, {"m": source}, splits={}, image_size=16, batch_size=batch_size, num_workers=0
    )
    module, before = make_module(tasks=tasks, on_non_finite=policy), Before()
    message = ""
    try:
        fit(folder, data, module, devices=devices, callbacks=[before], **trainer)
    except UserError as error:
        message = str(error)
    return module, before, message


def test_training_stops_in_that_step_and_names_task_and_image(tmp_path):
    module, before, message = train(tmp_path, "stop")
    assert before.has_bad == 1
    assert message.startswith(
        f"epoch 0, step {module.global_step}: the loss of task size is nan for "
    )
    assert f"for memory:{BAD} (" in message
    assert "weights are those from before" in message
    assert "skip_step" in message
    for name, value in weights(module).items():
        assert torch.equal(value, before.weights[name]), name


def test_a_gradient_alone_is_caught_too(tmp_path):
    module, before, message = train(tmp_path, "stop", BadGradient)
    assert "the gradient of sharing.backbone." in message
    assert "is not finite, though the losses are" in message
    for name, value in weights(module).items():
        assert torch.equal(value, before.weights[name]), name


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", [Poisoned, BadGradient])
def test_a_step_is_skipped_and_not_measured(tmp_path, capsys, kind, accumulate):
    module, before, message = train(
        tmp_path, "skip_step", kind, max_epochs=2, accumulate_grad_batches=accumulate
    )
    assert message == ""
    assert before.has_bad == module.skipped_steps == 2
    assert capsys.readouterr().out.count("step skipped: epoch") == 2
    logged = module.trainer.callback_metrics
    assert logged["train/skipped_steps"] == 2
    assert all(value.isfinite().all() for value in weights(module).values())
    assert logged["train/size/loss"].isfinite()
    left = logged["train/kind/n_labelled"]
    assert 0 < left < ROWS
    assert left % 8 == 0


def test_all_is_finite_and_nothing_is_reported(tmp_path, capsys):
    class Sound(Poisoned):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return Regression.loss(self, outputs, targets)

    module, _, message = train(tmp_path, "skip_step", Sound)
    assert (message, module.skipped_steps) == ("", 0)
    assert "skipped" not in capsys.readouterr().out
    assert module.trainer.callback_metrics["train/kind/n_labelled"] == ROWS


def on_ranks(folder: Path, devices: int) -> dict[str, Any]:
    stopped, _, message = train(folder, "stop", devices=devices)
    skipped, _, _ = train(folder, "skip_step", devices=devices, max_epochs=2)
    return {
        "message": message,
        "stopped": weights(stopped),
        "skipped": weights(skipped),
        "steps": skipped.skipped_steps,
    }


def test_all_ranks_do_the_same(tmp_path):
    """One rank has the image; the other must not wait for it, nor make the step alone."""
    one = on_ranks(tmp_path, 1)
    (two,) = ranks.run([(f"{__name__}.on_ranks", {"folder": tmp_path, "devices": 2})], tmp_path)
    assert two["message"] == one["message"]
    assert two["steps"] == one["steps"] == 2
    for run in ("stopped", "skipped"):
        for name, value in one[run].items():
            assert torch.allclose(value, two[run][name], atol=1e-5), name
