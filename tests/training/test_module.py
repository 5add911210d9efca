import pytest
import torch
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from mtl_lightning.__main__ import main
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, make_data, make_tasks
from tests.helpers.models import Small
from tests.helpers.training import (
    fit,
    largest_difference,
    make_module,
    make_trainer,
    staged,
    weights,
    written,
)

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
        ({"head_hidden": 0}, "head_hidden should be 1 or more, or null for linear heads. Found 0"),
        ({"backbone_lr_scale": 0.0}, "to freeze the backbone use its trainable_from: heads"),
        ({"image_size": [1, 2, 3]}, "image_size"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        make_module(**arguments)


def test_no_task_is_an_error():
    with pytest.raises(UserError, match="tasks should name at least one task"):
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
            "backbone": {"class_path": "tests.helpers.models.Small"},
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
