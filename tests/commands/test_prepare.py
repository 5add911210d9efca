import copy
from pathlib import Path
from typing import Any

import pytest

from mtl_lightning.commands.prepare import Prepared, prepare
from mtl_lightning.runs.checkpoint_reading import saved_config
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression
from tests.conftest import DROP, small


def fit(*arguments: str) -> Prepared:
    return prepare("fit", list(arguments))


def refused(command: str, *arguments: str) -> str:
    with pytest.raises(UserError) as error:
        prepare(command, list(arguments))
    assert "\n" not in str(error.value)
    return str(error.value)


DIGITS = [str(digit) for digit in range(10)]

# --------------------------------------------------------------------- merging


def test_a_second_config_lies_on_the_first():
    small()
    Path("over.yaml").write_text(
        "tasks: {digit: {init_args: {weight: 2}}}\n"
        "model:\n"
        "  backbone: {class_path: VGG16, init_args: {weights: null}}\n"
        "trainer:\n"  # all commented out
    )
    config = fit("--config", "small.yaml", "--config", "over.yaml").config
    assert list(config["tasks"]) == ["digit", "parity", "ink"]
    assert config["tasks"]["digit"] == {"class_path": "Classification", "init_args": {"weight": 2}}
    assert config["model"]["backbone"] == {"class_path": "VGG16", "init_args": {"weights": None}}
    assert config["trainer"]["max_epochs"] == 1


def test_flags_beat_configs_wherever_they_stand():
    flags = ["--data.batch_size", "3", "--tasks.ink.weight=0.5", "--data.sources.digits.seed", "4"]
    config = fit(*flags, "--config", small()).config
    assert config["data"]["batch_size"] == 3
    assert config["tasks"]["ink"]["init_args"] == {"weight": 0.5}
    assert config["data"]["sources"]["digits"]["init_args"]["seed"] == 4


def test_defaults_are_written_out_and_only_where_nothing_is_said():
    config = fit("--config", small({"model": DROP})).config
    assert config["model"] == {
        "backbone": {"class_path": "VGG16"},
        "sharing": {"class_path": "Hard"},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
    }
    sgd = fit("--config", small()).config["model"]["optimizer"]
    assert sgd == {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-3}}


def test_the_run_is_named_after_the_first_config():
    assert fit("--config", small()).name == "small"
    assert fit("--config", small({"name": "other"})).name == "other"
    assert fit("--config", small({"name": "other"}), "--name", "third").name == "third"


def test_runs_stand_below_default_root_dir():
    assert fit("--config", small()).root == Path("runs")
    config = small({"trainer.default_root_dir": "a"})
    assert fit("--config", config).root == Path("a")
    assert fit("--config", config, "--trainer.default_root_dir", "b").root == Path("b")


@pytest.mark.parametrize(
    "name", ["CosineAnnealingLR", "torch.optim.lr_scheduler.CosineAnnealingLR"]
)
def test_the_length_of_a_schedule_may_be_left_out(name):
    for written in (name, {"class_path": name}):
        config = fit("--config", small({"model.lr_scheduler": written})).config
        assert config["model"]["lr_scheduler"]["init_args"] == {"T_max": -1}


# --------------------------------------------------------------------- names of tasks

NAMES = ["type", "help", "train", "keys", "forward", "config", "3", "no", "a-b", "größe"]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_may_be_called(name):
    assert list(fit("--config", small({"tasks": {name: "Regression"}})).config["tasks"]) == [name]


@pytest.mark.parametrize("name", ["a.b", "a/b", "", " ", "a b", "image", "loss", "score"])
def test_a_task_may_not_be_called(name):
    said = refused("fit", "--config", small({"tasks": {name: "Regression"}}))
    assert said.startswith(f'tasks: "{name}" cannot be the name of a task; expected letters')


# --------------------------------------------------------------------- what is wrong

WRONG = {
    "tasks.digit": [
        ("Clasification", 'tasks.digit.class_path: no Task is called "Clasification"; did you mea'),
        ({"class_path": "Classification", "weight": 2}, "tasks.digit.weight: arguments stand und"),
        (3, "tasks.digit: expected class_path and init_args. Found 3"),
        (None, "tasks.digit: expected class_path and init_args. Found null"),
    ],
    "tasks.digit.init_args": [
        (
            {"weigth": 2},
            "tasks.digit.init_args.weigth: Classification has no such argument; did you m",
        ),
        ({"weight": "abc"}, 'tasks.digit.init_args.weight: expected a number. Found "abc"'),
        ({"weight": 0}, "tasks.digit: weight should be above 0. Found 0; drop the task instead."),
        ({"classes": ["a", "a"]}, "tasks.digit: classes should differ; listed more than once: a"),
        ({"classes": 5}, "tasks.digit.init_args.classes: expected [text, ...] or null. Found 5"),
    ],
    "tasks": [
        ({}, "tasks: expected at least one entry with a name"),
        (["digit"], "tasks: expected entries as `name: ...`. Found ['digit']"),
        ("digit", 'tasks: expected entries as `name: ...`. Found "digit"'),
        ({"class_path": "Classification"}, "tasks: expected at least one entry with a name"),
        (None, "tasks are missing: give --config FILE"),
    ],
    "data": [
        ([1], "data: expected entries as `name: ...`. Found [1]"),
        ({"source": {}}, 'data.source: data has no such argument; did you mean "sources"?'),
        ({"batch_size": "many"}, 'data.batch_size: expected an integer. Found "many"'),
        ({"batch_size": None}, "data.batch_size: expected an integer. Found null"),
        ({"sources": ["DigitsSource"]}, "data.sources: expected entries as `name: ...`. Found ["),
        (
            {"sources": {"a": {"class_path": "DigitsSource", "init_args": {"mising": 1}}}},
            'data.sources.a.init_args.mising: DigitsSource has no such argument; did you mean "',
        ),
        ({"sources": {"a": "TableSource"}}, "data.sources.a.init_args: TableSource needs path"),
        ({"augmentation": "some"}, "data.augmentation: expected default or none or [Module, ...]"),
        ({"augment_on": "gpu"}, 'data.augment_on: expected cpu or device. Found "gpu"'),
        ({"mirror": "yes"}, "data.mirror: expected {swap: ..., probability: ...} or null. Found"),
        ({"mirror": {"swp": {}}}, 'data.mirror.swp: Mirror has no such argument; did you mean "sw'),
        ({"mirror": {"swap": {"digit": "1"}}}, "data.mirror.swap: expected {name: {name: text, "),
        ({"mirror": {"probability": "x"}}, "data.mirror.probability: expected a number. Found"),
    ],
    "model": [
        ("VGG16", 'model: expected entries as `name: ...`. Found "VGG16"'),
        ({"dropuot": 1}, 'model.dropuot: model has no such argument; did you mean "dropout"?'),
        ({"tasks": {}}, "model.tasks: model has no such argument"),
        ({"optimizer": 3}, "model.optimizer: expected class_path and init_args. Found 3"),
        (
            {"optimizer": {"class_path": "torch.optim.AdamX"}},
            'model.optimizer.class_path: cannot import "torch.optim.AdamX"',
        ),
        (
            {"optimizer": {"class_path": "SGD", "init_args": {"lrr": 1}}},
            'model.optimizer.init_args.lrr: SGD has no such argument; did you mean "lr"?',
        ),
        (
            {"backbone": {"class_path": "VGG16", "init_args": {"weigths": None}}},
            'model.backbone.init_args.weigths: VGG16 has no such argument; did you mean "weights"?',
        ),
        (
            {"backbone": {"class_path": "VGG16", "init_args": {"trainable_from": "block9"}}},
            'model.backbone: trainable_from "block9" is no stage of VGG16',
        ),
        (
            {"backbone": {"class_path": "Torchvision", "init_args": {"name": "resnet81"}}},
            "model.backbone: torchvision has no image classification network",
        ),
        ({"lr_scheduler": "OneCycleLR"}, "model.lr_scheduler: OneCycleLR needs max_lr"),
        ({"lr_scheduler": "StepLR"}, "model.lr_scheduler.init_args: StepLR needs step_size"),
        (
            {"lr_scheduler": "ReduceLROnPlateau"},
            'model.lr_scheduler.class_path: several are called "ReduceLROnPlateau"',
        ),
    ],
    "trainer": [
        (
            {"max_epoch": 3},
            'trainer.max_epoch: trainer has no such argument; did you mean "max_epochs"',
        ),
        ({"max_epochs": "abc"}, 'trainer.max_epochs: expected an integer or null. Found "abc"'),
        (
            {"callbacks": [{"class_path": "EarlyStoping"}]},
            'trainer.callbacks[0].class_path: no Callback is called "EarlyStoping"; did you mean',
        ),
        (
            {"callbacks": ["EarlyStopping"]},
            "trainer.callbacks[0].init_args: EarlyStopping needs mo",
        ),
        ({"logger": "WandbLoger"}, 'trainer.logger.class_path: no Logger is called "WandbLoger"'),
    ],
    "checkpoint": [
        (
            {"monitr": "x"},
            'checkpoint.monitr: checkpoint has no such argument; did you mean "monitor"?',
        ),
        ({"mode": "up"}, 'checkpoint.mode: expected max or min. Found "up"'),
        ("best", 'checkpoint: expected entries as `name: ...`. Found "best"'),
    ],
    "seed_everything": [("abc", "seed_everything: expected true or false or an integer. Found")],
    "trianer": [({}, 'trianer: no such key; did you mean "trainer"?')],
    "images": [("x", "images: no such key")],
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min": 1, "max": 0}, ": intensity should be {min: ..., max: ...} with min below max"),
        ({"percentile": [1, 99]}, ".percentile: Intensity has no such argument; did you mean "),
        ({"min": "low", "max": 1}, '.min: expected a number or null. Found "low"'),
        (3, ": expected {min: ..., max: ..., percentiles: ...} or null. Found 3"),
    ],
)
def test_an_intensity_that_is_wrong(given, said):
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv", "intensity": given}}
    found = refused("fit", "--config", small({"data.sources": {"t": source}}))
    assert found.startswith(f"data.sources.t.init_args.intensity{said}")


@pytest.mark.parametrize(
    ("key", "value", "said"), [(key, *pair) for key, pairs in WRONG.items() for pair in pairs]
)
def test_a_config_that_is_wrong(key, value, said):
    assert refused("fit", "--config", small({key: value})).startswith(said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--trainer.max_epoch 3",
            'trainer.max_epoch: trainer has no such argument; did you mean "max',
        ),
        ("--trainer.max_epochs abc", "trainer.max_epochs: expected an integer or null. Found"),
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
def test_a_flag_that_is_wrong(flags, said):
    assert refused("fit", "--config", small(), *flags.split()).startswith(said)


def test_one_s_own_class_may_take_what_is_built_later():
    """Arguments that are themselves classes are still descriptions when names are checked."""
    Path("own_source.py").write_text(
        "from mtl_lightning.data.sources import DigitsSource\n"
        "from mtl_lightning.tasks import Task\n"
        "class Mine(DigitsSource):\n"
        "    def __init__(self, task: Task) -> None:\n"
        "        super().__init__()\n"
        "        task.primary\n"
    )
    entry = {"class_path": "own_source.Mine", "init_args": {"task": "Regression"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(".")
        assert fit("--config", small({"data.sources": {"a": entry}}))


# --------------------------------------------------------------------- on a checkpoint


@pytest.fixture
def checkpoint(trained) -> list[str]:
    return ["--ckpt_path", str(trained)]


def test_a_checkpoint_says_everything_of_the_model_and_the_data(checkpoint):
    prepared = prepare("test", checkpoint)
    assert prepared.config["tasks"]["digit"]["init_args"]["classes"] == DIGITS
    assert prepared.config["model"]["backbone"]["init_args"]["name"] == "squeezenet1_1"
    assert prepared.config["model"]["optimizer"]["init_args"]["weight_decay"] == 0
    assert prepared.config["data"]["image_size"] == 32
    assert list(prepared.config["data"]["sources"]) == ["digits"]
    assert (prepared.name, prepared.checkpoint) == ("small", Path(checkpoint[1]))


def test_flags_beat_the_config_beats_the_checkpoint(checkpoint):
    config = small({"data": {"batch_size": 5, "num_workers": 1}, "model": DROP, "tasks": DROP})
    prepared = prepare("test", [*checkpoint, "--config", config, "--data.batch_size", "6"])
    assert prepared.config["data"]["batch_size"] == 6
    assert prepared.config["data"]["num_workers"] == 1
    assert prepared.config["data"]["image_size"] == 32


def test_flags_reach_what_only_the_checkpoint_knows(checkpoint):
    prepared = prepare("test", [*checkpoint, "--data.sources.digits.seed", "5"])
    assert prepared.config["data"]["sources"]["digits"]["init_args"]["seed"] == 5


def test_sources_of_the_config_replace_those_of_the_checkpoint(checkpoint):
    config = small({"data.sources": {"new": "DigitsSource"}})
    prepared = prepare("test", [*checkpoint, "--config", config])
    assert list(prepared.config["data"]["sources"]) == ["new"]


def test_prediction_needs_no_source(checkpoint):
    prepared = prepare("predict", [*checkpoint, "--config", small()])
    assert "sources" not in prepared.config["data"]


@pytest.mark.parametrize(
    "entry",
    [
        "Classification",
        "mtl_lightning.tasks.Classification",
        {"class_path": "Classification", "init_args": {"classes": None}},
        {"class_path": "Classification", "init_args": {"classes": list(range(10))}},
        {"class_path": "Classification", "init_args": {"weight": 3}},
    ],
)
def test_classes_are_those_of_the_checkpoint(checkpoint, entry):
    prepared = prepare("test", [*checkpoint, "--config", small({"tasks.digit": entry})])
    assert prepared.config["tasks"]["digit"]["init_args"]["classes"] == DIGITS


def classes(names: list[str]) -> dict[str, object]:
    return {"tasks.digit": {"class_path": "Classification", "init_args": {"classes": names}}}


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (classes(DIGITS[::-1]), "tasks.digit.classes: the config has 9, 8, "),
        (classes([*DIGITS[:9], "x"]), "tasks.digit.classes: the config has 0, 1, "),
        (classes(DIGITS[:9]), "tasks.digit.classes: the config has 0, 1, "),
        ({"tasks.digit": "Regression"}, "tasks.digit: the config has Regression, the checkpoint "),
        ({"tasks.diget": "Classification"}, "tasks.diget: the checkpoint has no such task; did yo"),
        ({"tasks.ink": DROP}, "tasks: the checkpoint has a task ink that the config does not name"),
    ],
)
def test_tasks_that_contradict_the_checkpoint(checkpoint, command, changes, said):
    assert refused(command, *checkpoint, "--config", small(changes)).startswith(said)


class Binned(Regression):
    """A number of bins that a checkpoint cannot change."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def identity(self) -> dict[str, object]:
        return {"bins": self.bins}


@pytest.mark.parametrize(
    ("kind", "known", "given", "message"),
    [
        ("Binned", {"bins": 8}, {"bins": 9}, "tasks.digit.bins: the config has 9; the checkpoint "),
        ("Binned", {"bins": 8}, {"bins": 8}, None),
        (
            "MultiLabel",
            {"labels": ["a", "b"]},
            {"labels": ["b", "a"]},
            "tasks.digit.labels: the config has b, a; the checkpoint was trained with a, b, in thi",
        ),
    ],
)
def test_a_task_says_what_must_be_as_in_the_checkpoint(
    checkpoint, monkeypatch, kind, known, given, message
):
    def remembered(path: Path, resume: bool) -> dict[str, Any]:
        saved = saved_config(path, resume)
        saved["tasks"]["digit"] = {"class_path": kind, "init_args": known}
        return saved

    monkeypatch.setattr("mtl_lightning.commands.prepare.saved_config", remembered)
    entry = {"class_path": f"{__name__}.Binned" if kind == "Binned" else kind, "init_args": given}
    arguments = [*checkpoint, "--config", small({"tasks.digit": entry})]
    if message is None:
        prepared = prepare("test", arguments)
        assert prepared.config["tasks"]["digit"]["init_args"] == known
    else:
        assert refused("test", *arguments).startswith(message)


@pytest.mark.parametrize(
    "flags",
    [["--tasks.digit.classes", str(DIGITS[::-1])], ["--tasks.digit.class_path", "Regression"]],
)
def test_flags_that_contradict_the_checkpoint(checkpoint, flags):
    assert refused("predict", *checkpoint, *flags).startswith("tasks.digit")


def test_what_is_needed_beside_a_checkpoint(trained):
    assert refused("test").startswith("test needs --ckpt_path")
    assert refused("test", "--ckpt_path", "best").startswith("ckpt_path best: of which run? Give")
    assert prepare("test", ["--ckpt_path", "best", "--name", "small"]).checkpoint == trained


@pytest.mark.parametrize("flags", [["--weights_only", "false"], ["--config", "unsafe.yaml"]])
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_is_read_as_plain_values_and_in_no_other_way(trained, command, flags):
    Path("unsafe.yaml").write_text("weights_only: false")
    said = refused(command, "--ckpt_path", str(trained), *flags)
    assert said.startswith("weights_only: ")
    assert prepare(command, ["--ckpt_path", str(trained)]).config["weights_only"] is True
    assert fit("--config", small({"weights_only": True})).config["weights_only"] is True
    assert fit("--config", small()).config["weights_only"] is True


def test_what_is_remembered_is_not_changed_by_preparing(trained):
    before = saved_config(trained)
    kept = copy.deepcopy(before)
    prepare("test", ["--ckpt_path", str(trained), "--tasks.digit.weight", "7"])
    assert saved_config(trained) == kept == before
