import copy
from pathlib import Path

import pytest

from mtl_lightning.commands.prepare import prepare
from mtl_lightning.runs.checkpoint_reading import saved_config
from tests.conftest import DROP, small
from tests.helpers.training import prepare_fit, refused

# --------------------------------------------------------------------- merging


def test_a_second_config_lies_on_the_first():
    small()
    Path("over.yaml").write_text(
        "tasks: {digit: {init_args: {weight: 2}}}\n"
        "model:\n"
        "  backbone: {class_path: VGG16, init_args: {weights: null}}\n"
        "trainer:\n"  # all commented out
    )
    config = prepare_fit("--config", "small.yaml", "--config", "over.yaml").config
    assert list(config["tasks"]) == ["digit", "parity", "ink"]
    assert config["tasks"]["digit"] == {"class_path": "Classification", "init_args": {"weight": 2}}
    assert config["model"]["backbone"] == {"class_path": "VGG16", "init_args": {"weights": None}}
    assert config["trainer"]["max_epochs"] == 1


def test_flags_beat_configs_wherever_they_stand():
    flags = ["--data.batch_size", "3", "--tasks.ink.weight=0.5", "--data.sources.digits.seed", "4"]
    config = prepare_fit(*flags, "--config", small()).config
    assert config["data"]["batch_size"] == 3
    assert config["tasks"]["ink"]["init_args"] == {"weight": 0.5}
    assert config["data"]["sources"]["digits"]["init_args"]["seed"] == 4


def test_defaults_are_written_out_and_only_where_nothing_is_given():
    config = prepare_fit("--config", small({"model": DROP})).config
    assert config["model"] == {
        "backbone": {"class_path": "VGG16"},
        "sharing": {"class_path": "Hard"},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
    }
    sgd = prepare_fit("--config", small()).config["model"]["optimizer"]
    assert sgd == {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-3}}


def test_the_run_is_named_after_the_first_config():
    assert prepare_fit("--config", small()).name == "small"
    assert prepare_fit("--config", small({"name": "other"})).name == "other"
    assert prepare_fit("--config", small({"name": "other"}), "--name", "third").name == "third"


def test_runs_stand_below_default_root_dir():
    assert prepare_fit("--config", small()).root == Path("runs")
    config = small({"trainer.default_root_dir": "a"})
    assert prepare_fit("--config", config).root == Path("a")
    assert prepare_fit("--config", config, "--trainer.default_root_dir", "b").root == Path("b")


@pytest.mark.parametrize(
    "name", ["CosineAnnealingLR", "torch.optim.lr_scheduler.CosineAnnealingLR"]
)
def test_the_length_of_a_schedule_may_be_left_out(name):
    for written in (name, {"class_path": name}):
        config = prepare_fit("--config", small({"model.lr_scheduler": written})).config
        assert config["model"]["lr_scheduler"]["init_args"] == {"T_max": -1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--trainer.max_epoch 3",
            'trainer.max_epoch: trainer has no such argument; did you mean "max',
        ),
        ("--trainer.max_epochs abc", "trainer.max_epochs should be an integer or null. Found"),
        ("--trainer.max_epochs", "--trainer.max_epochs needs a value"),
        ("--trainer.fast_dev_run --name x", "--trainer.fast_dev_run needs a value"),
        ("--tasks.digt.weight 2", '--tasks.digt.weight: there is no digt; did you mean "digit"?'),
        (
            "--tasks.digit.wieght 2",
            "tasks.digit.init_args.wieght: Classification has no such argument",
        ),
        ("--data.sources.digits.sed 1", "data.sources.digits.init_args.sed: DigitsSource has no"),
        (
            "--data.source.digits.seed 1",
            'data.source: data has no such argument; did you mean "source',
        ),
        ("--model.backbone VGG61", 'model.backbone.class_path: no Backbone is called "VGG61"; did'),
        (
            "--model.backbone.nme x",
            "model.backbone.init_args.nme: Torchvision has no such argument",
        ),
        ("--config", "--config needs a value"),
        ("--config nowhere.yaml", "config nowhere.yaml: no such file"),
        ("--trainer nowhere.yaml", "config nowhere.yaml: no such file"),
        ("--ckpt_path nowhere.ckpt", "ckpt_path nowhere.ckpt: no such file"),
        ("--ckpt_path best", "ckpt_path best: no best.ckpt in any run under runs/small"),
    ],
)
def test_a_flag_that_is_wrong(flags, message):
    assert refused("fit", "--config", small(), *flags.split()).startswith(message)


# --------------------------------------------------------------------- checkpoints


def test_what_is_needed_next_to_a_checkpoint(trained):
    assert refused("test").startswith("test needs --ckpt_path")
    assert refused("test", "--ckpt_path", "best").startswith("ckpt_path best: of which run? Give")
    assert prepare("test", ["--ckpt_path", "best", "--name", "small"]).checkpoint == trained


@pytest.mark.parametrize("flags", [["--weights_only", "false"], ["--config", "unsafe.yaml"]])
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_is_read_as_plain_values_and_in_no_other_way(trained, command, flags):
    Path("unsafe.yaml").write_text("weights_only: false")
    message = refused(command, "--ckpt_path", str(trained), *flags)
    assert message.startswith("weights_only should be true: ")
    assert prepare(command, ["--ckpt_path", str(trained)]).config["weights_only"] is True
    assert prepare_fit("--config", small({"weights_only": True})).config["weights_only"] is True
    assert prepare_fit("--config", small()).config["weights_only"] is True


def test_what_is_remembered_is_not_changed_by_preparing(trained):
    before = saved_config(trained)
    kept = copy.deepcopy(before)
    prepare("test", ["--ckpt_path", str(trained), "--tasks.digit.weight", "7"])
    assert saved_config(trained) == kept == before
