"""Guesses change what is learned and nothing else, on any number of ranks, resumed or not."""

import math

import pytest
import torch
from pytorch_lightning import Callback, seed_everything
from torchjd.aggregation import MGDA, UPGrad
from torchjd.scalarization import FAMO, UW

from mtl_lightning import SelfTraining
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Soft
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel
from tests.helpers import ranks
from tests.helpers.data import Memory, make_data, make_more_tasks, sparse_labels
from tests.helpers.training import (
    fit,
    largest_difference,
    make_module,
    make_trainer,
    staged,
    weights,
)

DESCENT = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)}
EAGER = {"threshold": 0.35, "ramp_up": 0.5}


def bare_rows(rows=45, val=9):
    """Return data in which every fifth training image carries no label at all."""
    labels = sparse_labels(rows + val)
    for values in labels.values():
        values[0:rows:5] = [None] * len(values[0:rows:5])
    source = Memory(labels, ["train"] * rows + ["val"] * val)
    return {"tasks": make_more_tasks(), "sources": {"memory": source}}


def self_trained(folder, settings=None, data=None, trainer=None, **options):
    method = None if settings is None else SelfTraining(**settings)
    module = make_module(tasks=make_more_tasks(), **({"unlabelled": method, **DESCENT} | options))
    fit(folder, make_data(**(bare_rows() | (data or {}))), module, **(trainer or {}))
    return module


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_with_a_weight_of_0_a_run_is_one_without(tmp_path):
    off = self_trained(tmp_path, {"weight": 0.0, **EAGER})
    without, on = self_trained(tmp_path), self_trained(tmp_path, EAGER)
    assert same(weights(off), weights(without))
    assert off.results["val"] == without.results["val"]
    assert not same(weights(on), weights(without))


def test_the_measured_losses_are_those_of_labels_alone(tmp_path):
    """A step that moves nothing measures the same with guesses and without."""
    still = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0)}
    on, without = (self_trained(tmp_path, settings, **still) for settings in (EAGER, None))
    for split in ("train", "val"):
        found, expected = on.results[split].flat(), without.results[split].flat()
        assert found == pytest.approx(expected, rel=1e-5)


def test_images_without_a_label_take_part(tmp_path):
    seen = []

    class Rows(SelfTraining):
        def guess(self, batch, epochs):
            seen.extend(batch.rows.tolist())
            return super().guess(batch, epochs)

    module = make_module(tasks=make_more_tasks(), unlabelled=Rows(**EAGER))
    data = make_data(**bare_rows())
    fit(tmp_path, data, module)
    assert sorted(seen) == list(range(45))
    assert "9 training images carry no label and are trained on nevertheless" in data.notes()


@pytest.mark.parametrize("sharing", [None, Soft(0.0)], ids=["hard", "soft"])
def test_a_step_is_the_loss_of_labels_and_that_of_guesses(tmp_path, sharing):
    """One step of descent, against the formula by plain autograd."""
    kept = {}

    class Kept(SelfTraining):
        def guess(self, batch, epochs):
            guesses = super().guess(batch, epochs)
            kept.update(batch=batch, guesses=guesses, before=weights(module))
            return guesses

    tasks = make_more_tasks()
    descent = {"optimizer": lambda p: torch.optim.SGD(p, lr=1.0), "sharing": sharing}
    module = make_module(tasks=tasks, unlabelled=Kept(threshold=0.4, ramp_up=0), **descent)
    fit(tmp_path, make_data(**bare_rows(), batch_size=20), module, max_steps=1)
    after, batch, guesses = weights(module), kept["batch"], kept["guesses"]
    module.network.load_state_dict(kept["before"])
    module.network.zero_grad()
    outputs = module.network.train()(batch.inputs)
    total = torch.zeros(())
    used = 0
    for name, task in tasks.items():
        labelled, weight = batch.labelled[name], guesses.weights[name]
        assert not weight[labelled].any(), "a label is no guess"
        labels = task.masked_loss(outputs[name], batch.targets[name], labelled)
        rows = weight > 0
        guessed = task.slot_losses(outputs[name], guesses.targets[name], rows) * weight
        used += int(rows.sum())
        total = total + task.weight * (labels / labelled.sum() + guessed.sum() / (~labelled).sum())
    total.backward()
    assert used > 20
    for name, parameter in module.network.named_parameters():
        moved = kept["before"][name] - after[name]
        torch.testing.assert_close(moved, parameter.grad, rtol=1e-4, atol=1e-6)


def test_garbage_where_there_is_no_label_changes_no_bit(tmp_path):
    class Garbage(SelfTraining):
        def guess(self, batch, epochs):
            for name, values in batch.targets.items():
                mask = batch.labelled[name]
                wild = torch.full_like(values, 2 if values.dtype == torch.int64 else math.nan)
                batch.targets[name] = torch.where(mask, values, wild)
            return super().guess(batch, epochs)

    clean = self_trained(tmp_path, EAGER)
    module = make_module(tasks=make_more_tasks(), unlabelled=Garbage(**EAGER), **DESCENT)
    fit(tmp_path, make_data(**bare_rows()), module)
    assert same(weights(clean), weights(module))


WAYS = {
    "soft targets": {"settings": {"targets": "soft"}},
    "soft sharing": {"options": {"sharing": Soft(0.1)}},
    "losses": {"options": {"balancing": UW(4)}},
    "losses, evaluated twice": {"options": {"balancing": FAMO(4)}},
    "gradients": {"options": {"balancing": MGDA()}},
    "gradients of features": {"options": {"balancing": UPGrad(), "gradients": "features"}},
    "augmented": {"data": {"augmentation": "default"}},
    "accumulated": {"trainer": {"accumulate_grad_batches": 2}},
}


@pytest.mark.parametrize("name", WAYS)
def test_it_learns_with_every_way_of_training(tmp_path, name):
    own = WAYS[name]
    module = self_trained(
        tmp_path,
        EAGER | own.get("settings", {}),
        own.get("data"),
        own.get("trainer"),
        **own.get("options", {}),
    )
    logged = module.trainer.callback_metrics
    for task in ("kind", "size", "tags"):
        assert logged[f"train/{task}/guessed"] > 0
    assert all(value.isfinite().all() for value in weights(module).values())
    assert 0 <= logged["val/kind/guess_accuracy"] <= 1
    assert "val/size/guess_accuracy" not in logged


def of_ranks(folder, devices=1, accumulate=1):
    data = bare_rows() | {"batch_size": 8 // devices // accumulate}
    trainer = {
        "devices": devices,
        "accumulate_grad_batches": accumulate,
        "precision": "64-true",
        "max_epochs": 3,
    }
    module = self_trained(folder, EAGER, data, trainer)
    logged = {k: float(v) for k, v in module.trainer.callback_metrics.items() if "guess" in k}
    return weights(module), logged


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return of_ranks(tmp_path_factory.mktemp("one"))


def test_two_ranks_are_one_process(one_process, tmp_path):
    (found,) = ranks.run(
        [("tests.unlabelled.test_self_training.of_ranks", {"folder": tmp_path, "devices": 2})],
        tmp_path,
    )
    assert largest_difference(one_process[0], found[0]) < 1e-9
    assert found[1] == one_process[1]
    assert len(found[1]) == 7


def test_micro_batches_are_one_step(one_process, tmp_path):
    found = of_ranks(tmp_path, accumulate=2)
    assert largest_difference(one_process[0], found[0]) < 1e-9


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    class Save(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 8:  # within the second epoch
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    def run(**more):
        module = make_module(tasks=make_more_tasks(), unlabelled=SelfTraining(**EAGER))
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[Save()])
        trainer.fit(module, make_data(**bare_rows()), **more)
        return module, {k: v for k, v in trainer.callback_metrics.items() if "guess" in k}

    seed_everything(3, verbose=False)
    whole, logged = run()
    seed_everything(3, verbose=False)
    resumed, again = run(ckpt_path=tmp_path / "a.ckpt")
    assert same(weights(whole), weights(resumed))
    assert logged == again
    one, other = (
        module.unlabelled.state_dict()["thresholds"]["current"] for module in (whole, resumed)
    )
    assert all(torch.equal(own, other[task]) for task, own in one.items())
    assert len(logged) == 7


# --------------------------------------------------------------------- which cells are guessed


class Fixed(torch.nn.Module):
    """A network that gives the outputs that are its inputs."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, rows=None):
        del rows
        return dict(inputs)


def begun(tasks, **settings):
    method = SelfTraining(**({"ramp_up": 0, "threshold": 0.8} | settings))
    method.begin(Fixed(), tasks, True)
    return method


def logits(*classes, sure=True):
    """Return outputs for two classes: 0, 1, or None for neither."""
    height = 5.0 if sure else 0.5
    rows = {0: [height, 0.0], 1: [0.0, height], None: [0.0, 0.0]}
    return torch.tensor([rows[number] for number in classes])


def batch_of(outputs, labels, rows=None, bad=None, counts=None):
    """Return a batch whose labels are class numbers or None."""
    targets = {t: torch.tensor([value or 0 for value in own]) for t, own in labels.items()}
    labelled = {t: torch.tensor([v is not None for v in own]) for t, own in labels.items()}
    number = len(next(iter(targets.values())))
    counts = counts or dict.fromkeys(targets, 1)
    rows = torch.tensor(rows if rows is not None else range(number))
    return Batch(outputs, targets, labelled, rows, counts, number, 1, bad=bad)


def test_a_confident_answer_is_a_target_where_there_is_no_label():
    method = begun({"a": Classification(["x", "y"])})
    batch = batch_of(
        {"a": torch.cat([logits(1, 0, 1), logits(1, sure=False)])}, {"a": [0, None, None, None]}
    )
    guesses = method.guess(batch, 1.0)
    assert guesses.weights["a"].tolist() == [0, 1, 1, 0]
    assert guesses.targets["a"].tolist()[1:3] == [0, 1]
    assert method.end_epoch() == {"train/a/guessed": 2 / 3}


def test_padding_bad_images_and_tasks_without_a_label_in_the_step_are_not_guessed():
    method = begun({"a": Classification(["x", "y"])})
    none = {"a": [None] * 4}
    outputs = {"a": logits(1, 0, 1, 0)}
    guesses = method.guess(batch_of(outputs, none, [3, -1, 5, 6], {5: "broken"}), 1.0)
    assert guesses.weights["a"].tolist() == [1, 0, 0, 1]
    guesses = method.guess(batch_of(outputs, none, counts={"a": 0}), 1.0)
    assert guesses.weights["a"].tolist() == [0, 0, 0, 0]


def test_a_question_is_only_guessed_where_it_applies():
    tasks = {"a": Classification(["x", "y"]), "kind": Classification(["flag", "person"])}
    method = begun(tasks, applies={"a": {"kind": ["person"]}})
    kind = torch.cat([logits(0, 1, 1, 0), logits(1, sure=False)])
    labels = {"a": [None] * 5, "kind": [1, 0, None, None, None]}
    batch = batch_of({"a": logits(1, 1, 1, 1, 1), "kind": kind}, labels)
    guesses = method.guess(batch, 1.0)
    # By its label a person, by its label a flag, guessed to be one, the other, and neither.
    assert guesses.weights["a"].tolist() == [1, 0, 1, 0, 0]
    assert guesses.weights["kind"].tolist() == [0, 0, 1, 1, 0]


def test_the_weight_rises():
    tasks = {"a": Classification(["x", "y"])}
    batch = batch_of({"a": logits(1)}, {"a": [None]})
    method = begun(tasks, ramp_up=2.0, weight=0.5)
    found = [method.guess(batch, epochs).weights["a"].item() for epochs in (0, 1, 2, 9)]
    expected = [0.5 * math.exp(-5), 0.5 * math.exp(-5 / 4), 0.5, 0.5]
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_average_looks_at_the_image_without_augmentation():
    method = begun({"a": Classification(["x", "y"])})
    batch = batch_of({"a": logits(0)}, {"a": [None]})
    batch.plain_inputs = {"a": logits(1)}
    assert method.guess(batch, 1.0).targets["a"].tolist() == [1]


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "weight should be 0 or more. Found -1.0"),
        ({"threshold": 1.5}, "threshold should be in 0..1. Found 1.5"),
        ({"ramp_up": -1.0}, "ramp_up should be 0 or more"),
        ({"decay": 1.0}, "decay should be in 0..1 "),
        ({"weight": math.nan}, "weight should be 0 or more. Found nan"),
    ],
    ids=str,
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        SelfTraining(**settings)


@pytest.mark.parametrize(
    ("applies", "message"),
    [
        ({"skin": {"kind": ["cat"]}}, r"name tasks of this run .*Found skin"),
        ({"rare": {"kin": ["cat"]}}, r'Found kin; did you mean "?kind'),
        ({"rare": {"kind": ["cow"]}}, r'applies: rare: kind: classes should be some of .*"cow"'),
        ({"rare": {"tags": ["ha"]}}, r'labels should be some of hat, bag. Found "ha"'),
        ({"rare": {"size": ["3"]}}, "Regression has no classes. Found 3"),
    ],
    ids=str,
)
def test_rules_about_what_does_not_exist(tmp_path, applies, message):
    with pytest.raises(UserError, match=message):
        self_trained(tmp_path, {"applies": applies})


def test_cached_features_have_one_view(tmp_path):
    module = staged("heads", unlabelled=SelfTraining())
    with pytest.raises(UserError, match=r"cache_features should be null .*Found 1"):
        fit(tmp_path, make_data(cache_features=1), module)


def test_cells_are_guessed_or_assumed_and_not_both():
    tasks = {"tags": MultiLabel(["hat", "bag"], unobserved="negative")}
    with pytest.raises(UserError, match="unobserved should be ignore for task tags"):
        make_module(tasks=tasks, unlabelled=SelfTraining())
    make_module(tasks=tasks, unlabelled=SelfTraining(weight=0.0))
