"""The four commands, in this process. Names and values of configs: see test_config.py."""

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image

from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources import Source
from tests.conftest import DROP, small
from tests.helpers.data import labelled_photos
from tests.helpers.files import checkpoints

RUN = Path("runs/small/version_0")


def photos(folder: str, number: int = 3) -> list[str]:
    draw = np.random.default_rng(0)
    Path(folder).mkdir(exist_ok=True)
    names = [f"{folder}/{i}.png" for i in range(number)]
    for name in names:
        Image.fromarray(draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(name)
    return names


def epochs() -> list[tuple[str, str]]:
    """Return the epochs of the lines of metrics.csv, and what each line is about."""
    with (RUN / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    return [(line["epoch"], "val" if line["val/loss"] else "train") for line in lines]


# --------------------------------------------------------------------- fit


def test_images_are_decoded_to_no_more_than_is_wanted_by_every_command(cli, monkeypatch):
    covers = []
    load = Source.load
    monkeypatch.setattr(
        Source, "load", lambda self, image: covers.append(self.cover) or load(self, image)
    )
    config = small(labelled_photos({}) | {"data.num_workers": 0})
    for command in (("fit",), ("test", "--ckpt_path", "last")):
        covers.clear()
        cli.run(*command, "--config", config)
        size = covers[0]
        assert size is not None
        assert set(covers) == {size}


def test_fit_leaves_a_whole_run(cli):
    out = cli.run("fit", "--config", small())
    names = {p.name.split(".tfevents")[0] for p in RUN.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "run.json", "checkpoints", "events.out"}
    assert sorted(os.listdir(RUN / "checkpoints")) == ["best.ckpt", "last.ckpt"]
    assert epochs() == [("0", "val"), ("0", "train")]
    assert f"run folder {RUN}" in out
    facts = json.loads((RUN / "run.json").read_text())
    steps = [
        facts["epochs"][-1]["step"],
        *(facts["checkpoints"][k]["step"] for k in ("best", "last")),
    ]
    assert len(set(steps)) == 1
    for checkpoint in ("best", "last"):
        torch.load(RUN / f"checkpoints/{checkpoint}.ckpt", weights_only=True)


def test_a_saved_config_gives_the_same_again(cli):
    cli.run("fit", "--config", small())
    cli.run("fit", "--config", str(RUN / "config.yaml"))
    first, second = [
        torch.load(f"runs/small/version_{i}/checkpoints/last.ckpt", weights_only=True)
        for i in (0, 1)
    ]
    for name, weight in first["state_dict"].items():
        assert torch.equal(weight, second["state_dict"][name]), name
    saved = [Path(f"runs/small/version_{i}/config.yaml").read_text() for i in (0, 1)]
    assert saved[0] == saved[1]


def test_a_printed_config_can_be_used(cli):
    printed = cli.run("fit", "--config", small(), "--print_config", "--trainer.max_steps", "1")
    assert not Path("runs").exists()
    Path("printed.yaml").write_text(printed)
    config = yaml.safe_load(printed)
    assert config["trainer"]["max_steps"] == 1
    assert config["model"]["optimizer"]["init_args"]["weight_decay"] == 0  # SGD's, not AdamW's
    assert config["model"]["backbone"]["init_args"]["pooling"] == "avg"  # not VGG16's
    cli.run("fit", "--config", "printed.yaml")
    assert (RUN / "config.yaml").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["fit", "--help"], ["predict", "-h"], ["fit", "--model.backbone.help", "VGG16"]],
)
def test_help_needs_no_config(cli, arguments):
    out = cli.run(*arguments)
    assert "usage:" in out
    assert "--images" in out or arguments[0] == "fit"


def test_classes_that_look_like_numbers_stay_as_they_are(cli):
    names = photos("photos", 8)
    rows = [
        f"{n},{v},{s}"
        for n, v, s in zip(names, ["7e2", "no"] * 4, ["train"] * 6 + ["val"] * 2, strict=True)
    ]
    Path("t.csv").write_text("\n".join(["image,code,split", *rows]))
    changes = {
        "tasks": {"code": "Classification"},
        "data.sources": {"t": {"class_path": "TableSource", "init_args": {"path": "t.csv"}}},
    }
    cli.run("fit", "--config", small(changes))
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["tasks"]["code"]["init_args"]["classes"] == ["7e2", "no"]
    cli.run("fit", "--config", str(RUN / "config.yaml"))


@pytest.mark.parametrize("name", ["type", "help", "train", "keys"])
def test_a_task_by_a_difficult_name(cli, name):
    source = {"class_path": "DigitsSource", "init_args": {"labels": {name: "parity"}}}
    changes = {"tasks": {name: "Classification"}, "data.sources": {"d": source}}
    cli.run("fit", "--config", small(changes))
    cli.run("validate", "--name", "small", "--ckpt_path", "last")
    found = json.loads((RUN / "val_metrics.json").read_text())
    assert found["tasks"][name]["n_labelled"] == 179


@pytest.mark.parametrize(
    "flags",
    [
        "--trainer.overfit_batches 2",
        "--trainer.max_steps 3 --trainer.max_epochs -1",
        "--trainer.limit_val_batches 0",
        "--trainer.num_sanity_val_steps 0",
        "--trainer.val_check_interval 1",
        "--trainer.accumulate_grad_batches 2 --trainer.gradient_clip_val 1",
        "--trainer.logger false",
        "--trainer.logger CSVLogger --trainer.logger.save_dir elsewhere",
        "--trainer.callbacks+=LearningRateMonitor --trainer.callbacks.logging_interval=step",
        "--trainer.callbacks TQDMProgressBar --trainer.callbacks.refresh_rate 0",
        "--model.lr_scheduler CosineAnnealingLR",
        "--model.lr_scheduler StepLR --model.lr_scheduler.step_size 1",
        "--model.lr_scheduler OneCycleLR --model.lr_scheduler.max_lr 0.01",
        "--model.lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau",
        "--data.augmentation [torchvision.transforms.v2.RandomHorizontalFlip]",
        "--data.augmentation default --data.augment_on device",
    ],
)
def test_what_a_user_may_ask_of_the_trainer(cli, flags):
    cli.run("fit", "--config", small(), *flags.split())
    assert (RUN / "checkpoints/last.ckpt").is_file()
    assert (RUN / "metrics.csv").exists() == ("logger false" not in flags)
    assert Path("elsewhere").exists() == ("elsewhere" in flags)


def test_labels_that_swap_in_mirrored_images(cli):
    Path("swap.yaml").write_text("data: {mirror: {swap: {digit: {6: 9}, parity: {even: odd}}}}")
    both = ["--config", small(), "--config", "swap.yaml"]
    cli.run("fit", *both, "--data.mirror.probability", "0.25")
    saved = yaml.safe_load((RUN / "config.yaml").read_text())["data"]["mirror"]
    swap = {"digit": {"6": "9"}, "parity": {"even": "odd"}}
    assert saved == {"swap": swap, "probability": 0.25}
    cli.run("test", "--name", "small", "--ckpt_path", "last")
    cli.run("fit", *both, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    cli.run("fit", *both, "--only", "digit")
    cli.run("fit", "--config", small(), "--data.mirror.swap.digit.2", "5", "--name", "flag")
    saved = yaml.safe_load(Path("runs/flag/version_0/config.yaml").read_text())
    assert saved["data"]["mirror"] == {"swap": {"digit": {"2": "5"}}, "probability": 0.5}


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ({"probability": 2}, "data.mirror.probability should be in 0..1. Found 2"),
        ({"swap": {"digti": {}}}, 'data.mirror.swap.digti: no such task; did you mean "digit"?'),
        ({"swap": {"digit": {"6": "nine"}}}, 'data.mirror.swap.digit: there is no class "nine"'),
        ({"swap": {"ink": {"1": "2"}}}, "data.mirror.swap.ink: Regression has no classes or lab"),
    ],
)
def test_swaps_that_cannot_be_are_errors_before_training(cli, mirror, message):
    assert cli.refused("fit", "--config", small({"data.mirror": mirror})).startswith(message)
    assert not Path("runs").exists()


def test_a_run_that_begins_next_to_another_has_a_folder_of_its_own(cli):
    other = Path("runs/small/version_0")
    other.mkdir(parents=True)  # another command has taken it a moment ago
    cli.run("fit", "--config", small())
    assert os.listdir(other) == []
    assert (RUN.with_name("version_1") / "config.yaml").is_file()


def test_a_run_that_another_process_trains_is_not_gone_on_with(cli, trained, monkeypatch):
    monkeypatch.setattr("mtl_lightning.runs.claim.LINGERING", 0.0)
    before = sorted(os.listdir(RUN))
    with FileLock(RUN / ".lock"):
        message = cli.refused("fit", "--name", "small", "--ckpt_path", "last")
    assert message.startswith(f"run {RUN} is being trained by another process; wait for it, or")
    assert sorted(set(os.listdir(RUN)) - {".lock"}) == before


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", ".."])
def test_a_name_that_leads_out_of_the_folder_of_runs(cli, name):
    for command in ("fit", "test", "inspect"):
        message = cli.refused(command, "--config", small(), "--name", name, "--ckpt_path", "last")
        assert message.startswith("name should be that of one folder, without / and \\. Found ")
    assert cli.refused("fit", "--config", small({"name": name})).startswith("name should be")
    assert os.listdir() == ["small.yaml"]


def test_a_trial_leaves_nothing(cli):
    cli.run("fit", "--config", small(), "--trainer.fast_dev_run", "true")
    assert not Path("runs").exists()


def test_runs_stand_where_default_root_dir_says(cli):
    there = ["--trainer.default_root_dir", "a/b"]
    cli.run("fit", "--config", small(), *there)
    cli.run("validate", "--name", "small", "--ckpt_path", "best", *there)
    assert Path("a/b/small/version_0/val_metrics.json").is_file()
    assert not Path("runs").exists()


def test_early_stopping_and_one_s_own_callback(cli):
    Path("own_callback.py").write_text(
        "from pytorch_lightning import Callback\n"
        "class Says(Callback):\n"
        "    def __init__(self, word: str) -> None:\n"
        "        self.word = word\n"
        "    def on_train_epoch_start(self, trainer, pl_module):\n"
        "        print(self.word, trainer.current_epoch)\n"
    )
    stop = {"monitor": "val/n_labelled", "mode": "max", "patience": 1}
    stop["monitor"] = "val/digit/n_labelled"  # never gets better
    callbacks = [
        {"class_path": "EarlyStopping", "init_args": stop},
        {"class_path": "own_callback.Says", "init_args": {"word": "hello"}},
    ]
    changes = {"trainer.callbacks": callbacks, "trainer.max_epochs": 5}
    out = cli.run("fit", "--config", small(changes))
    assert [line for line in out.splitlines() if line.startswith("hello")] == ["hello 0", "hello 1"]


# --------------------------------------------------------------------- fit that fails


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"checkpoint": {"monitor": "val/scor"}},
            'checkpoint.monitor: nothing is logged as "val/scor"; did you mean "val/score"?',
        ),
        (
            {
                "trainer.callbacks": [
                    {"class_path": "EarlyStopping", "init_args": {"monitor": "val/digt/loss"}}
                ]
            },
            'EarlyStopping.monitor: nothing is logged as "val/digt/loss"; did you mean "val/digit/',
        ),
        ({"trainer.accelerator": "gpuu"}, "trainer: You selected an invalid accelerator name"),
        ({"trainer.val_check_interval": 50}, "`val_check_interval` (50) must be less than or equ"),
        (
            {"trainer.logger": "WandbLogger"},
            "WandbLogger needs a package that is not there; pip install",
        ),
        ({"data.image_size": 8}, "Torchvision squeezenet1_1 cannot take images of 8 x 8 pixels"),
        ({"model.dropout": 1}, "dropout should be in 0..1"),
        ({"data": {"image_size": 32}}, "data.sources should name at least one source"),
        (
            {"model.backbone": {"class_path": "VGG16", "init_args": {"weights": "no.pth"}}},
            "weights",
        ),
        ({"tasks.size": {"class_path": "Regression"}}, "task size: "),
        (
            {"data.sources": {"t": {"class_path": "TableSource", "init_args": {"path": "t.csv"}}}},
            "data.sources.t: t.csv does not exist or is not a file",
        ),
    ],
)
def test_a_training_that_cannot_begin_leaves_nothing(cli, changes, message):
    assert cli.refused("fit", "--config", small(changes)).startswith(message)
    assert not Path("runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so that asking is no error")
def test_a_gpu_that_is_not_there(cli):
    message = cli.refused("fit", "--config", small({"trainer.accelerator": "gpu"}))
    assert message.startswith("trainer: ")


def test_vgg16_s_own_weights_offline(cli, monkeypatch):
    """One line, and it says how to give a file."""

    def offline(*arguments, **named):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", "empty")
    message = cli.refused("fit", "--config", small({"model.backbone": DROP}))
    assert "set model.backbone.init_args.weights to the file" in message
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        (
            {"path": "tabel.csv"},
            'tabel.csv does not exist or is not a file; did you mean "table.cs',
        ),
        ({"path": "table.csv", "labels": {"kind": "knid"}}, 'table.csv has no column "knid"'),
        (
            {"path": "table.csv", "labels": {"knd": "kind"}},
            'table.csv: `labels` names the task "kn',
        ),
        ({"path": "table.csv", "image": "imge"}, 'table.csv has no column "imge" (image)'),
        ({"path": "bad.csv"}, 'bad.csv row 3, column "image": there is no file "photos/9.png"'),
    ],
)
def test_a_table_that_is_wrong(cli, init_args, message):
    (name,) = photos("photos", 1)
    Path("table.csv").write_text(f"image,kind\n{name},a\n")
    Path("bad.csv").write_text(f"image,kind\n{name},a\nphotos/9.png,b\n")
    source = {"class_path": "TableSource", "init_args": init_args}
    changes = {"tasks": {"kind": "Classification"}, "data.sources": {"photos": source}}
    found = cli.refused("fit", "--config", small(changes))
    assert found.startswith(f"data.sources.photos: {message}")


def test_a_bug_keeps_its_traceback(cli):
    """What is no mistake of the config is not hidden behind one line."""
    Path("own_bug.py").write_text(
        "from pytorch_lightning import Callback\n"
        "class Bug(Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        raise ValueError('a bug')\n"
    )
    with pytest.raises(ValueError, match="a bug"):
        cli.run("fit", "--config", small({"trainer.callbacks": ["own_bug.Bug"]}))


@pytest.mark.parametrize("option", ["--imges", "--print_conf", "extra"])
def test_an_option_that_is_not_there(cli, option):
    """Nor is it taken for a longer one: `--print_conf` is no `--print_config`."""
    message = cli.refused("fit", "--config", small(), option)
    assert message.startswith((f"{option}: no such option", f'"{option}": not expected here'))


# --------------------------------------------------------------------- resuming


def test_a_resumed_training_goes_on_in_its_folder(cli, trained):
    before = (RUN / "metrics.csv").read_text()
    config = (RUN / "config.yaml").read_text()
    cli.run("fit", "--config", small(), "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert os.listdir("runs/small") == ["version_0"]
    assert (RUN / "metrics.csv").read_text().startswith(before)
    assert epochs() == [(str(e), split) for e in range(3) for split in ("val", "train")]
    assert (RUN / "config.yaml").read_text() == config
    assert yaml.safe_load((RUN / "config_resumed.yaml").read_text())["trainer"]["max_epochs"] == 3


def test_resuming_needs_no_config(cli, trained):
    last = trained.with_name("last.ckpt")
    flags = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1"]
    cli.run("fit", "--ckpt_path", str(last), *flags)
    assert epochs()[-1] == ("1", "train")


def test_a_training_that_is_over_says_so(cli, trained):
    out = cli.run("fit", "--config", small(), "--ckpt_path", "last")
    assert "nothing was trained: epoch 1 of trainer.max_epochs 1" in out
    assert trained.exists()


def test_a_network_grows_by_a_task_in_a_new_run_that_goes_on_as_any_other(cli):
    cli.run("fit", "--config", small(), "--only", "digit", "parity")
    old = Path("runs/small-only-digit-parity/version_0/checkpoints/last.ckpt")
    still = small({"model.optimizer.init_args.lr": 0.0})
    out = cli.run("fit", "--config", still, "--ckpt_path", str(old), "--grow")
    assert f"grown from {old}: kept the shared weights and the heads of digit, parity; " in (
        " ".join(out.split())
    )
    assert "new tasks: ink; optimizer and epochs start afresh" in " ".join(out.split())
    before, after = (
        torch.load(path, weights_only=True) for path in (old, RUN / "checkpoints/last.ckpt")
    )
    assert (after["epoch"], after["global_step"]) == (before["epoch"], 2)
    for name, value in before["state_dict"].items():
        if name.startswith("network."):
            assert torch.equal(value, after["state_dict"][name]), name
    assert "network.heads.task_ink.1.weight" in after["state_dict"]
    cli.run("test", "--name", "small", "--ckpt_path", "last")
    on = ["--config", still, "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert "grown" not in cli.run("fit", *on)
    assert "is for fit with --ckpt_path" in cli.refused("fit", "--config", still, "--grow")
    fewer = small({"tasks.parity": DROP})
    line = cli.refused("fit", "--config", fewer, "--ckpt_path", "last", "--grow")
    assert line.startswith("--grow: tasks should name parity, which the checkpoint was trained for")
    line = cli.refused("fit", "--config", small(), "--ckpt_path", "last", "--grow")
    assert line.startswith("--grow: neither a task nor a class is new to runs/small/version_0")


def test_a_training_that_does_not_fit_the_checkpoint(cli, trained):
    resume = ["--config", small(), "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    message = cli.refused("fit", *resume, "--model.backbone.trainable_from", "heads")
    last = RUN / "checkpoints/last.ckpt"
    assert message.startswith(
        f"checkpoint {last}: does not fit the training of the config: loaded "
    )
    assert message.endswith("(--debug shows where)")


# --------------------------------------------------------------------- strangers


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_nothing_in_a_checkpoint_runs(cli, trained, command):
    content = torch.load(trained, weights_only=True)
    torch.save(content | {"callbacks": {"Best": checkpoints.Payload()}}, "x.ckpt")
    images = ["--images", "photos"] if command == "predict" else []
    message = cli.refused(command, "--ckpt_path", "x.ckpt", *images)
    assert message == (
        f"checkpoint x.ckpt: is not read; it holds {os.name}.system, and loading that would run it"
    )
    assert not Path("ran").exists()


def test_every_checkpoint_is_loaded_as_plain_values(cli, trained, monkeypatch):
    photos("photos", 1)
    seen = []
    load = torch.load

    def spy(file, *args, **kwargs):
        seen.append((getattr(file, "name", file), kwargs.get("weights_only")))
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    cli.run("fit", "--config", small(), "--ckpt_path", "last", "--trainer.max_epochs", "2")
    cli.run("test", "--ckpt_path", str(trained), "--trainer.limit_test_batches", "1")
    cli.run("predict", "--ckpt_path", str(trained), "--images", "photos")
    assert len(seen) == 6  # once to know what to build, once by Lightning
    assert {weights_only for _, weights_only in seen} == {True}


def test_a_file_that_is_called_like_a_value_is_not_read(cli):
    """A folder from a stranger holds what it likes; nothing in it is asked for."""
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    for name in ("default", "none", "Hard", "VGG16"):
        Path(name).write_text("[{class_path: evil.Thing}]")
    changes = {"data.augmentation": DROP, "model.sharing": "Hard"}
    cli.run("fit", "--config", small(changes), "--print_config")
    assert not Path("ran").exists()


def test_the_current_folder_is_searched_where_the_user_names_a_module_of_it(cli):
    """Without that, an `apex.py` would wait there for the moment at which timm looks for one."""
    Path("nearby.py").write_text("from mtl_lightning import Regression as Own")
    sys.path.insert(0, os.getcwd())
    cli.run("fit", "--config", small(), "--print_config")
    assert os.getcwd() not in sys.path
    cli.run("fit", "--config", small({"tasks.ink": "nearby.Own"}), "--print_config")
    assert sys.path[-1] == os.getcwd()


# --------------------------------------------------------------------- validate, test


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_file_and_nothing_else(cli, trained, command):
    out = cli.run(command, "--ckpt_path", str(trained))
    split = "val" if command == "validate" else "test"
    found = json.loads((RUN / f"{split}_metrics.json").read_text())
    assert found["split"] == split
    assert list(found["tasks"]) == ["digit", "parity", "ink"]
    assert f"written: {RUN / split}_metrics.json" in out
    assert (RUN / f"config_{command}.yaml").is_file()
    cli.run(command, "--config", str(RUN / f"config_{command}.yaml"))


def test_a_network_that_does_not_fit_the_checkpoint(cli, trained):
    message = cli.refused(
        "test", "--ckpt_path", str(trained), "--model.backbone.name", "squeezenet1_0"
    )
    assert message.startswith(f"checkpoint {trained}: does not fit the network of the config (")
    assert "leave `model` out of the config" in message
    assert trained.exists()


# --------------------------------------------------------------------- predict


def scans(folder: str) -> dict[str, Any]:
    """Write scans of 12 bits in 16, and their table; return what they are in a config."""
    Path(folder).mkdir()
    rows = ["image,kind,split"]
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 4096, (32, 32), dtype=np.uint16)
        Image.fromarray(pixels).save(f"{folder}/{number:02}.tif")
        split = "train" if number < 16 else ("val", "test")[number % 2]
        rows.append(f"{folder}/{number:02}.tif,{'ab'[number // 2 % 2]},{split}")
    Path(f"{folder}.csv").write_text("\n".join(rows))
    return {"class_path": "TableSource", "init_args": {"path": f"{folder}.csv"}}


def test_every_command_sees_images_as_training_did(cli):
    changes = {"tasks": {"kind": "Classification"}, "data.sources": {"scans": scans("scans")}}
    message = cli.refused("fit", "--config", small(changes))
    assert "has 16-bit pixels, none above 4,09" in message
    assert "`intensity: {min: 0, max: 4095}`" in message
    cli.run("fit", "--config", small(changes), "--data.sources.scans.intensity.percentiles=[1, 99]")
    saved = yaml.safe_load((RUN.with_name("version_0") / "config.yaml").read_text())
    own = {"min": None, "max": None, "percentiles": [1, 99]}
    assert saved["data"]["sources"]["scans"]["init_args"]["intensity"] == own

    run = ("--name", "small", "--ckpt_path", "last")
    cli.run("test", *run)
    Path("seen").mkdir()
    for number in range(24):
        pixels = decode(f"scans/{number:02}.tif", intensity=Intensity(percentiles=[1, 99]))
        Image.fromarray(pixels).save(f"seen/{number:02}.png")
    cli.run("predict", *run, "--images", "scans/*.tif", "--output", "trained.csv")
    cli.run("predict", *run, "--images", "seen", "--intensity", "null", "--output", "seen.csv")
    cli.run("predict", *run, "--images", "scans/*.tif", "--intensity", "{min: 0, max: 9999}")
    files = ("trained.csv", "seen.csv", "predictions.csv")
    trained, seen, other = (pd.read_csv(file).drop(columns="image") for file in files)
    pd.testing.assert_frame_equal(trained, seen)
    assert not trained.equals(other)
    message = cli.refused("predict", *run, "--images", "scans/*.tif", "--intensity", "null")
    assert "(--intensity of predict)" in message
    message = cli.refused("predict", *run, "--images", "seen", "--intensity", "{min: 2, max: 1}")
    assert message.startswith("intensity: intensity should be {min: ...")


def test_a_prediction_asks_which_range_is_meant_where_sources_differ(cli):
    sources = {"scans": scans("scans"), "more": scans("more")}
    sources["scans"]["init_args"]["intensity"] = {"min": 0, "max": 4095}
    sources["more"]["init_args"]["intensity"] = {"min": 0, "max": 9999}
    changes = {"tasks": {"kind": "Classification"}, "data.sources": sources}
    cli.run("fit", "--config", small(changes))
    run = ("--name", "small", "--ckpt_path", "last", "--images", "scans/*.tif")
    message = cli.refused("predict", *run)
    assert message.startswith(
        "predict: the sources of the training differ in `intensity` (scans: {"
    )
    assert "choose one: --intensity '{min: 0, max: 4095}', or null" in message
    cli.run("predict", *run, "--intensity", "{min: 0, max: 4095}")


@pytest.mark.usefixtures("trained")
def test_what_flags_change_of_the_optimizer_holds_when_a_training_is_resumed(cli):
    resume = ("fit", "--config", small(), "--ckpt_path", "last", "--trainer.max_epochs", "2")
    out = " ".join(cli.run(*resume, "--model.optimizer.init_args.lr", "0.5").split())
    assert "note: model.optimizer: lr: 0.001 -> 0.5, from this step on" in out
    (saved,) = torch.load("runs/small/version_0/checkpoints/last.ckpt")["optimizer_states"]
    assert [group["lr"] for group in saved["param_groups"]] == [0.5, 0.5]
    message = cli.refused(*resume, "--model.optimizer", "torch.optim.AdamW")
    assert message.startswith("model.optimizer should be torch.optim.sgd.SGD, whose state the")
    schedule = ("--model.lr_scheduler", "{class_path: StepLR, init_args: {step_size: 3}}")
    assert cli.refused(*resume, *schedule).startswith("model.lr_scheduler should be that of")


def test_predict(cli, trained):
    names = photos("photos")
    predict = ["predict", "--ckpt_path", str(trained), "--images"]
    out = cli.run(*predict, "photos")
    assert out == "written: predictions.csv (3 images)\n"
    table = pd.read_csv("predictions.csv", dtype={"digit": str})
    assert table["image"].tolist() == names
    assert {"digit", "digit:0", "digit:9", "parity", "parity:odd", "ink"} <= set(table)
    Path("photos/list.txt").touch()
    passed = "note: --images photos: files that are not images, skipped: 1 .txt\n"
    assert cli.run(*predict, "photos") == passed + out
    cli.run(*predict, "photos/*.png", "--output", "new/p.parquet")
    parquet = pd.read_parquet("new/p.parquet")
    np.testing.assert_allclose(parquet["ink"], table["ink"], rtol=1e-6)
    cli.run("predict", "--config", str(RUN / "config_predict.yaml"), "--images", "photos/1.png")
    assert pd.read_parquet("new/p.parquet")["image"].tolist() == ["photos/1.png"]


def test_a_prediction_resizes_as_the_training_did(cli):
    photos("photos")
    cli.run("fit", "--config", small({"data.resize": "contain"}))
    last = str(RUN / "checkpoints" / "last.ckpt")
    cli.run("predict", "--ckpt_path", last, "--images", "photos")
    assert yaml.safe_load((RUN / "config_predict.yaml").read_text())["data"]["resize"] == "contain"
    message = cli.refused(
        "predict", "--ckpt_path", last, "--images", "photos", "--data.resize", "x"
    )
    assert message.startswith("data.resize should be")


def test_labels_that_a_terminal_would_obey_are_trained_on_and_answered(cli):
    labels = ["\x1b[2Jred", "two\nlines", "[bold]x[/]", "\u202e$a^b$", "x" * 3000]
    rows = [{"image": name, "kind": labels[i % 5]} for i, name in enumerate(photos("photos", 40))]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = {"own": {"class_path": "TableSource", "init_args": {"path": "t.jsonl"}}}
    tasks = {"kind": {"class_path": "Classification"}}
    out = cli.run("fit", "--config", small({"tasks": tasks, "data.sources": sources}))
    out += cli.run("test", "--config", "small.yaml", "--ckpt_path", "best")
    out += cli.run("predict", "--config", "small.yaml", "--ckpt_path", "best", "--images", "photos")
    assert "\x1b" not in out
    table = pd.read_csv("predictions.csv")
    assert set(table["kind"]) <= set(labels)
    assert {f"kind:{label}" for label in labels} <= set(table)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "predict needs --images"),
        ("--images", "--images needs a value"),
        ("--images empty", "--images empty: no image below"),
        ("--images nowhere", "--images nowhere: no such file or folder"),
        ("--images photos --resume --output p.txt", "--output should be a name that ends in .csv"),
        ("--images photos --resume true --output folder.csv", "--output folder.csv: this is a"),
        ("--images broken", "image broken/a.png cannot be read"),
        ("--images t.csv", 't.csv row 2, column "image": "../x.png" is outside of the root'),
        ("--images t.csv --allow_outside_root true", 't.csv row 2, column "image": there is no'),
    ],
)
def test_a_prediction_that_cannot_be(cli, trained, flags, message):
    photos("photos", 1)
    for folder in ("empty", "folder.csv", "broken"):
        Path(folder).mkdir()
    Path("broken/a.png").write_text("no image")
    Path("t.csv").write_text("image\n../x.png\n")
    assert cli.refused("predict", "--ckpt_path", str(trained), *flags.split()).startswith(message)


# --------------------------------------------------------------------- bad images

NOT_AN_IMAGE = (
    "cannot be read (not an image, or broken at its start); expected an intact JPEG, PNG, WebP, "
    "BMP, GIF or TIFF file"
)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_is_one_line_that_names_path_and_row(cli, num_workers):
    config = small(labelled_photos({5: b"<html>not found</html>"}))
    message = cli.refused("fit", "--config", config, "--data.num_workers", str(num_workers))
    assert message == (
        f"photos.csv row 7: image {Path('photos/05.png').resolve()} {NOT_AN_IMAGE}; "
        f"data.on_bad_image: skip continues without such images"
    )


def test_an_image_over_the_limit_is_a_bad_image(cli):
    config = small(labelled_photos({}))
    message = cli.refused("fit", "--config", config, "--data.max_pixels", "1000")
    assert "row " in message
    assert ".png has 1,024 pixels, and data.max_pixels allows 1,000; data.on_bad_image" in message
    cli.run("fit", "--config", config, "--data.max_pixels", "1024")
    predict = ("predict", "--name", "small", "--ckpt_path", "last", "--images", "photos")
    message = cli.refused(*predict, "--data.max_pixels", "1000")
    assert message.startswith(
        "image photos/00.png has 1,024 pixels, and data.max_pixels allows 1,000"
    )


def test_bad_images_are_skipped_and_listed_from_training_to_prediction(cli):
    bad = {5: b"", 18: b"oops", 21: b"oops"}
    options = {"data.on_bad_image": "skip", "data.max_bad_share": 0.4}
    config = small(labelled_photos(bad) | options)
    assert cli.run("fit", "--config", config).endswith(
        f"note: skipped 2 images that could not be used; see {RUN}/bad_images.csv\n"
    )
    paths = [str(Path(f"photos/{row:02}.png").resolve()) for row in bad]
    assert listed() == [
        (paths[0], "photos.csv row 7", "train", "cannot be read (an empty file); expected an "),
        (paths[1], "photos.csv row 20", "val", NOT_AN_IMAGE[:44]),
    ]
    cli.run("test", "--config", config, "--ckpt_path", "last")
    assert json.loads((RUN / "test_metrics.json").read_text())["tasks"]["kind"]["n_labelled"] == 2
    assert listed()[2:] == [(paths[2], "photos.csv row 23", "test", NOT_AN_IMAGE[:44])]
    cli.run("predict", "--name", "small", "--ckpt_path", "last", "--images", "photos")
    answers = pd.read_csv("predictions.csv")
    assert answers.pop("image").tolist() == [f"photos/{row:02}.png" for row in range(24)]
    assert answers.isna().all(axis=1).tolist() == [row in bad for row in range(24)]
    assert answers.isna().any(axis=1).tolist() == [row in bad for row in range(24)]
    assert [split for *_, split, _ in listed()[3:]] == ["predict"] * 3


def listed() -> list[tuple[str, ...]]:
    """Return the lines of the list of bad images, reasons cut short, val after train."""
    with (RUN / "bad_images.csv").open(newline="", encoding="utf-8") as file:
        lines = [(*line[:3], line[3][:44]) for line in csv.reader(file)]
    return sorted(lines[1:3], key=lambda line: line[2]) + lines[3:]
