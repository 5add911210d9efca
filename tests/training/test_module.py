import pytest
import torch
import yaml
from pytorch_lightning import Callback, seed_everything
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import nn

from mtl_lightning.__main__ import main
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiLabel, Regression
from mtl_lightning.training.module import MultiTask
from tests.helpers.support import (
    Memory,
    Small,
    fit,
    largest_difference,
    make_data,
    make_module,
    make_tasks,
    make_trainer,
    weights,
    written,
)


class Staged(Backbone):
    """Two stages with batch norm, pretrained weights (all 0.01), and freezing."""

    def __init__(self, trainable_from=None, weights=None):
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3)]
        trunk = nn.Sequential(*layers)
        stages = {"low": layers[:3], "high": layers[3:]}
        super().__init__(trunk, stages, weights, "imagenet", "avg", trainable_from)

    def named_weights(self, name):
        tensors = {k: torch.full_like(v, 0.01) for k, v in self.trunk.state_dict().items()}
        return NamedWeights(tensors, name)


def staged(trainable_from=None, weights=None, **arguments):
    torch.manual_seed(0)
    return MultiTask(
        make_tasks(), Staged(trainable_from, weights), dropout=0.0, image_size=16, **arguments
    )


# ------------------------------------------------------------------- optimizer


def groups(module):
    optimizer = module.configure_optimizers()
    return {group["name"]: group for group in optimizer.param_groups}


def test_heads_and_backbone_are_two_groups_that_hold_each_parameter_once():
    module = staged()
    both = groups(module)
    assert list(both) == ["heads", "backbone"]
    held = [p for group in both.values() for p in group["params"]]
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in held} == {id(p) for p in module.parameters()}
    assert [group["lr"] for group in both.values()] == [1e-4, 1e-4]


def test_the_backbones_rate_is_scaled():
    both = groups(
        staged(backbone_lr_scale=0.1, optimizer=lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9))
    )
    assert both["heads"]["lr"] == 0.5
    assert both["backbone"]["lr"] == pytest.approx(0.05)


def test_frozen_parameters_are_not_the_optimizers_business():
    module = staged(trainable_from="high")
    backbone = groups(module)["backbone"]["params"]
    assert [p.shape[0] for p in backbone] == [5, 5]
    assert list(groups(staged(trainable_from="heads"))) == ["heads"]


@pytest.mark.parametrize("trainable_from", ["high", "heads"])
def test_what_is_frozen_does_not_move_batch_norm_included(tmp_path, trainable_from):
    module = staged(trainable_from)
    before = weights(module)
    make = lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5)  # noqa: E731
    module.make_optimizer = make
    fit(tmp_path, make_data(), module)
    moved = {
        name for name, value in weights(module).items() if not torch.equal(value, before[name])
    }
    trunk = "sharing.backbone.trunk."
    assert all(name.startswith(("heads.", f"{trunk}3")) for name in moved)
    assert any(name.startswith(f"{trunk}3") for name in moved) == (trainable_from == "high")
    heads = {name for name in before if name.startswith("heads.")}
    assert heads <= moved


# ------------------------------------------------------------------- loss


def micro_batch(module, gradient_divisor=1, **counts):
    torch.manual_seed(0)
    labelled = {
        "kind": torch.tensor([True, True, False, False]),
        "size": torch.tensor([False, True, True, True]),
        "rare": torch.zeros(4, dtype=torch.bool),
    }
    return Batch(
        inputs={"image": torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)},
        targets={
            "kind": torch.tensor([0, 1, 7, 7]),
            "size": torch.tensor([1e9, 1.0, -1.0, 0.5]),
            "rare": torch.full((4,), -1),
        },
        labelled=labelled,
        rows=torch.arange(4),
        counts={"kind": 2, "size": 3, "rare": 0} | counts,
        step_rows=4 * gradient_divisor,
        gradient_divisor=gradient_divisor,
    )


def step_loss(module, batch):
    module.log = lambda *_, **__: None
    return module.training_step(batch, 0).item()


@pytest.mark.parametrize(("reduction", "rows"), [("labelled", (2, 3)), ("batch", (4, 4))])
def test_the_loss_of_a_step(reduction, rows):
    module = make_module(loss_reduction=reduction)
    batch = micro_batch(module)
    outputs = module(batch.inputs["image"])
    sums = {
        name: task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name]).item()
        for name, task in module.tasks.items()
    }
    expected = sums["kind"] / rows[0] + 0.7 * sums["size"] / rows[1]
    assert step_loss(module, batch) == pytest.approx(expected, rel=1e-6)


def test_all_rows_of_a_task_of_many_labels_are_its_cells():
    """As in Keras, whose binary cross-entropy is a mean over labels too."""
    tasks = {"tags": MultiLabel(["hat", "bag"])}
    module = make_module(tasks=tasks, loss_reduction="batch")
    known = torch.tensor([[True, True], [True, False], [False, False]])
    batch = Batch(
        inputs={"image": torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)},
        targets={"tags": torch.ones(3, 2)},
        labelled={"tags": known},
        rows=torch.arange(3),
        counts={"tags": 3},
        step_rows=3,
        gradient_divisor=1,
    )
    losses = torch.nn.functional.softplus(-module(batch.inputs["image"])["tags"])
    assert step_loss(module, batch) == pytest.approx((losses * known).mean().item())


@pytest.mark.parametrize("reduction", ["labelled", "batch"])
def test_a_share_of_a_step_is_scaled_by_what_the_trainer_divides_by(reduction):
    """Four equal parts of a step add up to the whole once the trainer has taken their mean."""
    module = make_module(loss_reduction=reduction)
    whole = step_loss(module, micro_batch(module))
    part = step_loss(module, micro_batch(module, gradient_divisor=4, kind=8, size=12))
    assert part == pytest.approx(whole, rel=1e-6)


# ------------------------------------------------------------------- weights and statistics, once


class AtStart(Callback):
    def on_train_start(self, trainer, pl_module):
        self.trunk = pl_module.network.sharing.backbone.trunk[0].weight.detach().clone()
        self.mean = pl_module.tasks["size"].mean.clone()


def test_pretrained_weights_and_statistics_are_there_when_training_begins(tmp_path):
    start = AtStart()
    module = staged(weights="NAME")
    fit(tmp_path, make_data(), module, callbacks=[start])
    assert (start.trunk == 0.01).all()
    assert 45 < start.mean < 55


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_what_was_learned_is_not_overwritten_by_pretrained_weights(tmp_path, stage):
    module = staged(weights="NAME", optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    labels = {"kind": ["cat", "dog"] * 8, "size": range(16), "rare": ["no", "yes"] * 8}
    source = Memory(labels, ["train"] * 8 + ["val"] * 4 + ["test"] * 4)
    data = PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=4, num_workers=0)
    fit(tmp_path, data, module)
    data.predict_on(data.labels.table)
    learned = weights(module)
    trunk = module.network.sharing.backbone.trunk[0].weight
    assert (trunk != 0.01).any()
    getattr(make_trainer(tmp_path), stage)(module, datamodule=data)
    assert all(torch.equal(value, learned[name]) for name, value in weights(module).items())


def test_a_second_fit_goes_on_with_what_was_learned(tmp_path):
    module = staged(weights="NAME", optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    fit(tmp_path, make_data(), module)
    learned = module.network.sharing.backbone.trunk[0].weight.detach().clone()
    start = AtStart()
    fit(tmp_path, make_data(), module, callbacks=[start])
    assert torch.equal(start.trunk, learned)


def test_a_checkpoints_statistics_and_weights_are_kept(tmp_path):
    module = staged(weights="NAME")
    fit(tmp_path, make_data(), module)
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    start = AtStart()
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[start])
    other = make_data()
    other.sources["memory"].labels["size"] = [
        None if s is None else s + 1000 for s in other.sources["memory"].labels["size"]
    ]
    resumed = staged(weights="NAME")
    trainer.fit(resumed, datamodule=other, ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(start.mean, module.tasks["size"].mean)
    learned = module.network.sharing.backbone.trunk[0].weight
    assert torch.equal(start.trunk, learned)


def test_an_accumulation_that_changes_what_a_step_is_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"set trainer\.accumulate_grad_batches instead"):
        fit(tmp_path, callbacks=[GradientAccumulationScheduler({0: 2})])


def test_labels_that_teach_nothing_name_their_task(tmp_path):
    source = Memory({"size": [3] * 6}, ["train"] * 6)
    data = PartialLabels({"size": Regression()}, {"m": source}, image_size=16, num_workers=0)
    module = MultiTask({"size": Regression()}, Small(), image_size=16)
    with pytest.raises(UserError, match=r"^task size: every training label is 3"):
        fit(tmp_path, data, module)


# ------------------------------------------------------------------- what is logged


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


def test_forward_gives_an_output_for_each_task():
    outputs = make_module()(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert {name: tuple(out.shape) for name, out in outputs.items()} == {
        "kind": (2, 3),
        "size": (2, 1),
        "rare": (2, 2),
    }


# ------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 1.0}, "dropout should be in 0..1"),
        ({"dropout": -0.1}, "dropout should be in 0..1"),
        ({"backbone_lr_scale": 0.0}, "to freeze the backbone use its trainable_from: heads"),
        ({"image_size": [1, 2, 3]}, "image_size"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        make_module(**arguments)


def test_no_task_is_an_error():
    with pytest.raises(UserError, match="tasks is empty"):
        MultiTask({}, Small())


@pytest.mark.parametrize("name", ["type", "train", "keys", "forward", "a.b"])
def test_any_name_will_do_for_a_task(tmp_path, name):
    source = Memory({name: range(12)}, ["train"] * 8 + ["val"] * 4)
    data = PartialLabels(
        {name: Regression()}, {"m": source}, image_size=16, batch_size=4, num_workers=0
    )
    module = fit(tmp_path, data, MultiTask({name: Regression()}, Small(), image_size=16))
    assert f"val/{name}/r2" in module.trainer.callback_metrics


# ------------------------------------------------------------------- a checkpoint of the CLI


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Train for two steps by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    config = {
        "tasks": {
            "digit": {"class_path": "Classification", "init_args": {"class_weights": "balanced"}},
            "ink": {"class_path": "Regression"},
        },
        "model": {
            "backbone": {"class_path": "tests.helpers.support.Small"},
            "dropout": 0.25,
            "lr_scheduler": {
                "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                "init_args": {"max_lr": 0.01},
            },
        },
        "data": {
            "sources": {"digits": {"class_path": "DigitsSource"}},
            "image_size": 16,
            "num_workers": 0,
        },
        "trainer": {"max_steps": 2, "limit_val_batches": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        arguments = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        assert main(["fit", "--config", "run.yaml", *arguments]) == 0
    return next(folder.glob("runs/run/version_0/checkpoints/last.ckpt"))


def test_a_checkpoint_of_the_command_line_holds_plain_values(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    kept = content["hyper_parameters"]
    assert kept["tasks"]["digit"]["init_args"]["classes"] == [str(i) for i in range(10)]
    assert kept["dropout"] == 0.25
    assert kept["image_size"] == 16
    assert content["datamodule_hyper_parameters"]["image_size"] == 16


def test_a_checkpoint_of_the_command_line_loads_in_python(checkpoint, tmp_path):
    module = MultiTask.load_from_checkpoint(checkpoint, map_location="cpu")
    content = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {name: tuple(v.shape) for name, v in module.state_dict().items()} == {
        name: tuple(v.shape) for name, v in content.items()
    }
    assert largest_difference(module.state_dict(), content) == 0
    assert module.tasks["digit"].classes == [str(i) for i in range(10)]
    assert 0.2 < module.tasks["ink"].mean < 0.4
    outputs = module(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    answers = {name: written(task, outputs[name]) for name, task in module.tasks.items()}
    assert len(answers["digit"][""]) == len(answers["ink"][""]) == 2


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
