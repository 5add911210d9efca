"""What a stranger's checkpoint asks for. Whatever it imports or calls would leave a file `ran`."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torchvision.transforms import InterpolationMode

from mtl_lightning.commands.prepare import prepare
from mtl_lightning.config import untrusted
from mtl_lightning.models.preprocessing import Normalize
from mtl_lightning.system.errors import UserError
from tests.helpers.files import checkpoints

PACKAGES = "mtl_lightning, torch, torchvision, timm or torchjd"
NONE_OF = f", which is not a class of {PACKAGES}; if you trust it, "
EVIL = {"class_path": "evil.Thing"}
SHELL = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}


@pytest.fixture(autouse=True)
def downloaded(monkeypatch):
    """A folder that brings a module, and configs that name it, beside the checkpoint."""
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    for name in ("evil.yaml", "VGG16", "SGD", "evil.csv"):
        Path(name).write_text("class_path: evil.Thing\n")
    Path("default").write_text("- class_path: evil.Thing\n")
    monkeypatch.syspath_prepend(".")


def assert_nothing_ran():
    assert sys.modules.pop("evil", None) is None
    assert not Path("ran").exists()


def refused(command: str, changes: dict[str, Any], *flags: str) -> str:
    checkpoints.write("x.ckpt", changes)
    with pytest.raises(UserError) as error:
        prepare(command, ["--ckpt_path", "x.ckpt", *flags])
    assert_nothing_ran()
    assert "\n" not in str(error.value)
    return str(error.value)


def prepared(command: str, changes: dict[str, Any], *flags: str) -> dict[str, Any]:
    checkpoints.write("x.ckpt", changes)
    config = prepare(command, ["--ckpt_path", "x.ckpt", *flags]).config
    assert_nothing_ran()
    return config


# --------------------------------------------------------------------- classes

NAMES = [
    *("evil.Thing", "evil", "subprocess.Popen", "os.system", "builtins.eval"),
    *("torch.hub.load", "torch.load", "torch.utils.cpp_extension.load", "torch.nn.Linear"),
    *("mtl_lightning.system.files.os.system", "torchvision.transforms.v2.functional.F.conv2d"),
    *("torch.testing._internal.common_utils.TestCase", "torchjd.evil.Thing", "VGG61", "", "."),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_not_of_its_place(name):
    for place in ("model.backbone", "tasks.digit"):
        message = refused("test", {f"model.{place.removeprefix('model.')}.class_path": name})
        assert message.startswith(("checkpoint x.ckpt: ", f"{place}.class_path: no "))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_no_command_imports_what_a_checkpoint_names(command):
    for place in ("backbone", "sharing", "tasks.ink"):
        assert " names the class " in refused(command, {f"model.{place}": EVIL})


def test_a_class_of_a_stranger_is_named_with_its_place_and_with_what_to_do():
    assert (
        refused("test", {"model.backbone": EVIL})
        == ('checkpoint x.ckpt: model.backbone names the class "evil.Thing"' + NONE_OF)
        + "name it in a config of your own (--config)"
    )


@pytest.mark.parametrize(
    "flags", ["--model.backbone.weights null", "--tasks.digit.weight 2", "--data.sources.shop.x 1"]
)
def test_a_flag_about_a_stranger_s_class_imports_nothing(flags):
    for place in ("model.backbone", "model.tasks.digit", "data.sources.shop"):
        assert " names the class " in refused("test", {place: EVIL}, *flags.split())


def test_a_namesake_in_the_current_folder_is_not_the_package(monkeypatch):
    monkeypatch.setattr(untrusted, "PACKAGES", ("mtl_lightning", "packaged"))
    monkeypatch.setattr(untrusted, "LATE_IMPORTS", ("packaged",))
    Path("packaged.py").write_text(Path("evil.py").read_text())
    message = refused("test", {"model.backbone.class_path": "packaged.Thing"})
    assert message.startswith('checkpoint x.ckpt: model.backbone names the class "packaged.Thing"')


def test_a_source_of_a_stranger():
    message = refused("test", {"data.sources.shop": EVIL})
    assert message.startswith('checkpoint x.ckpt: data.sources.shop names the class "evil.Thing"')


@pytest.mark.parametrize(
    ("name", "init_args"),
    [
        ("TorchvisionSource", {"dataset": "evil.Thing", "root": "."}),
        ("TorchvisionSource", {"dataset": "MNIST", "root": "."}),
        ("mtl_lightning.data.TorchvisionSource", {"dataset": "evil.Thing", "root": "."}),
        ("HuggingFaceSource", {"path": "evil/things"}),
        ("StreamSource", {"path": "s3://evil/things"}),
    ],
)
def test_a_source_that_imports_or_downloads_what_its_arguments_name(name, init_args):
    shop = {"class_path": name, "init_args": init_args}
    message = refused("test", {"data.sources.shop": shop})
    assert message == (
        f"checkpoint x.ckpt: data.sources.shop names {name.rpartition('.')[2]}, which may run or "
        "download what its arguments name; if you trust it, name it in a config of your own "
        "(--config)"
    )
    if "evil.Thing" not in init_args.values():
        Path("own.yaml").write_text(json.dumps({"data": {"sources": {"own": shop}}}))
        own = prepared("test", {"data.sources.shop": EVIL}, "--config", "own.yaml")
        assert list(own["data"]["sources"]) == ["own"]


def test_prediction_needs_no_source_of_a_stranger():
    assert "sources" not in prepared("predict", {"data.sources.shop": EVIL})["data"]


def test_sources_of_one_s_own_are_instead_of_a_stranger_s():
    Path("own.yaml").write_text("data: {sources: {a: {class_path: DigitsSource}}}")
    config = prepared("test", {"data.sources.shop": EVIL}, "--config", "own.yaml")
    assert list(config["data"]["sources"]) == ["a"]


# --------------------------------------------------------------------- training alone

FOR_TRAINING = [
    ("model.optimizer", EVIL),
    ("model.optimizer", "evil.make"),
    ("model.optimizer", SHELL),
    ("model.optimizer.init_args.lr", EVIL),
    (
        "model.optimizer",
        {
            "class_path": "torch.distributed.optim.ZeroRedundancyOptimizer",
            "init_args": {"optimizer_class": "evil.Thing"},
        },
    ),
    ("model.lr_scheduler", EVIL),
    ("model.lr_scheduler", "evil.make"),
    ("model.lr_scheduler.class_path", "torch.optim.lr_scheduler.warnings"),
    ("model.lr_scheduler.class_path", "torch.optim.lr_scheduler.ref"),
    ("model.lr_scheduler.init_args", "evil.yaml"),
    (
        "model.lr_scheduler",
        {
            "class_path": "torch.optim.lr_scheduler.LambdaLR",
            "init_args": {"lr_lambda": "evil.rate"},
        },
    ),
    ("data.augmentation", [EVIL]),
    ("data.augmentation", ["evil.Thing"]),
    ("data.augmentation", "evil.yaml"),
    ("data.augmentation", "[{class_path: evil.Thing}]"),
    ("data.augmentation", [SHELL]),
    *(
        ("data.augmentation", [{"class_path": f"torchvision.transforms.v2.{name}", "init_args": a}])
        for name, a in (
            ("Lambda", {"lambd": "evil.change"}),
            ("RandomApply", {"transforms": ["evil.change"]}),
            ("RandomApply", {"transforms": [EVIL]}),
            ("Pad", {"padding": 1, "fill": {"evil.Thing": 0}}),
            ("RandomHorizontalFlip", {"p": EVIL}),
        )
    ),
    ("data.augmentation", [{"class_path": "torch.nn.Flatten"}]),
    ("data.augmentation.0.class_path", "timm.task.distillation.DistillationTeacher"),
    ("data.mirror", EVIL),
    ("data.mirror", "evil.yaml"),
    ("data.mirror.swap", EVIL),
]


@pytest.mark.parametrize(("place", "value"), FOR_TRAINING)
def test_what_training_would_import(place, value):
    message = refused("fit", {place: value})
    assert message.startswith(
        ("checkpoint x.ckpt: " + place[:10], "model.optimizer.init_args", place)
    )


@pytest.mark.parametrize(("place", "value"), FOR_TRAINING)
def test_where_nothing_is_trained_it_is_left_out(place, value):
    config = prepared("test", {place: value})
    section, key = place.split(".")[:2]
    kept = {"model": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}}}}
    assert config[section].get(key) == kept.get(section, {}).get(key)


def test_what_can_be_trusted_is_remembered_in_every_command():
    for command in ("fit", "test"):
        config = prepared(command, {})
        assert config["model"]["optimizer"]["class_path"] == "torch.optim.SGD"
        assert config["model"]["lr_scheduler"]["init_args"]["anneal_strategy"] == "cos"
        assert (
            config["data"]["augmentation"]
            == checkpoints.GOOD["datamodule_hyper_parameters"]["augmentation"]
        )


# --------------------------------------------------------------------- other values

TEXTS = [
    *("evil.Thing", "evil.yaml", "evil.csv", "VGG16", "os.system", "${oc.env:HOME}"),
    *("{class_path: evil.Thing}", "- class_path: evil.Thing", "a\nclass_path: evil.Thing"),
]
VALUES = ["evil.Thing", "evil.yaml", "[{class_path: evil.Thing}]", EVIL, [EVIL], {"a": EVIL}]
PLACES = [
    *("model.backbone", "model.backbone.init_args", "model.backbone.init_args.preprocessing"),
    *("model.sharing", "model.loss_reduction", "model.dropout", "model.head_hidden"),
    *("model._class_path", "model.backbone.dict_kwargs", "model.tasks.digit.init_args"),
    *("model.tasks.digit.init_args.weight", "model.tasks.ink.init_args.loss", "model.evil"),
    *("data.sources", "data.sources.shop", "data.sources.shop.init_args", "data.splits"),
    *("data.batch_size", "data.image_size", "data.num_workers", "data.split_seed"),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_value_that_is_not_of_its_place(place):
    for value in VALUES:
        assert refused("test", {place: value})


@pytest.mark.parametrize(
    "place", ["data.sources.shop.init_args.path", "model.backbone.init_args.weights"]
)
def test_a_text_where_a_text_belongs_is_a_text(place):
    section, *keys = place.split(".")
    for text in TEXTS:
        found: Any = prepared("test", {place: text})[section]
        for key in keys:
            found = found[key]
        assert (found, type(found)) == (text, str)


@pytest.mark.parametrize("value", [torch.zeros(1), {1: 2}, {"a": torch.float32}])
def test_hyper_parameters_are_plain(value):
    message = refused("test", {"model.dropout": value})
    assert message.startswith(
        "checkpoint x.ckpt: its hyper-parameters should be texts, numbers, lists and mappings. "
        "Found a "
    )


def test_hyper_parameters_without_an_end():
    endless: list[Any] = []
    endless.append(endless)
    message = refused("test", {"model.dropout": endless})
    assert message == "checkpoint x.ckpt: its hyper-parameters have no end"


# --------------------------------------------------------------------- the user's own

MINE = """
from mtl_lightning import Classification, Hard

class Own(Classification):
    def __init__(self, classes: list[str] | None = None, mode="a", note="b") -> None:
        super().__init__(classes)

class Share(Hard):
    pass
"""
OWN = {"class_path": "mine.Own", "init_args": {"classes": ["a", "b"], "mode": "x.y"}}


@pytest.fixture
def mine():
    Path("mine.py").write_text(MINE)
    yield
    sys.modules.pop("mine", None)


def test_a_class_that_the_user_s_own_config_names_is_trusted(mine):
    Path("own.yaml").write_text("tasks: {digit: mine.Own, ink: Regression}")
    changes = {"model.tasks.digit": OWN, "model.sharing.class_path": "mine.Share"}
    config = prepared("test", changes, "--config", "own.yaml")
    assert config["tasks"]["digit"] == OWN
    assert config["model"]["sharing"]["class_path"] == "mine.Share"


def test_a_class_that_a_flag_names_is_trusted(mine):
    flags = ["--tasks.digit.class_path", "mine.Own"]
    assert prepared("test", {"model.tasks.digit": OWN}, *flags)["tasks"]["digit"] == OWN


def test_what_the_user_says_himself_needs_no_trust_in_the_checkpoint(mine):
    Path("own.yaml").write_text("model: {sharing: mine.Share, optimizer: SGD}")
    changes = {"model.sharing": EVIL, "model.optimizer": EVIL}
    config = prepared("fit", changes, "--config", "own.yaml")
    assert config["model"]["sharing"] == {"class_path": "mine.Share"}


def test_a_class_of_the_user_s_that_no_config_names_is_refused(mine):
    message = refused("test", {"model.tasks.digit": OWN})
    assert message.startswith('checkpoint x.ckpt: tasks.digit names the class "mine.Own"' + NONE_OF)
    assert "mine" not in sys.modules


@pytest.mark.parametrize("value", [EVIL, "{class_path: evil.Thing}", ["- class_path: evil.Thing"]])
def test_an_argument_without_a_type_is_no_place_for_a_class(mine, value):
    Path("own.yaml").write_text("tasks: {digit: mine.Own, ink: Regression}")
    own = {"class_path": "mine.Own", "init_args": {"mode": value}}
    message = refused("test", {"model.tasks.digit": own}, "--config", "own.yaml")
    assert message.startswith("checkpoint x.ckpt: tasks.digit.init_args.mode: ")


# --------------------------------------------------------------------- annotations

PLAIN = [str, int | None, Literal["a"], InterpolationMode, list[str], dict[str, float | str]]
PLAIN += [tuple[int, ...], Sequence[str] | None, os.PathLike[str], Iterable[float]]
UNTYPED = [Any, dict, list[Any], dict[str, Any] | None]
NAMED = [None, type, Callable[[int], float], nn.Module, type[nn.Module], Literal["a"] | nn.Module]
NAMED += [list[Callable[..., Any]], dict[type | str, int], object, Normalize, torch.dtype]


@pytest.mark.parametrize(
    ("hint", "typed", "untyped"),
    [
        (h, *expected)
        for hints, *expected in ((PLAIN, 1, 1), (UNTYPED, 0, 1), (NAMED, 0, 0))
        for h in hints
    ],
)
def test_where_a_text_stays_a_text(hint, typed, untyped):
    assert untrusted.is_plain(hint) == bool(typed)
    assert untrusted.is_plain(hint, untyped=True) == bool(untyped)


@pytest.mark.parametrize(
    ("name", "is_imported"),
    [
        *((name, True) for name in ("torch.optim.SGD", "timm.optim.Lion", "mine.Own")),
        *((name, False) for name in ("torchx.X", "mine.more.X", "evil.X", "X", "", "os.X")),
        ("torch.distributed.elastic.rendezvous.etcd_server.X", False),  # imports an `etcd`
    ],
)
def test_what_may_be_imported(name, is_imported):
    marked = untrusted.mark(name, untrusted.Origin("x.ckpt", {"mine"}))
    if is_imported:
        untrusted.check_import(marked, "model.backbone.class_path")
    else:
        with pytest.raises(
            UserError, match=r"^checkpoint x\.ckpt: model\.backbone names the class "
        ):
            untrusted.check_import(marked, "model.backbone.class_path")
    untrusted.check_import(name, "model.backbone.class_path")  # the user's own


def test_marks_come_off():
    origin = untrusted.Origin("x", ())
    values = {"a": ["b", 1, None, {"c": 2.5}], "d": ("e", True)}
    marked = untrusted.mark(values, origin)
    assert isinstance(next(iter(marked)), untrusted.Untrusted)
    assert isinstance(marked["a"][3], dict)
    plain = untrusted.unmark(marked)
    assert plain == {**values, "d": ["e", True]}
    assert {type(text) for text in (*plain, plain["a"][0], *plain["a"][3])} == {str}


def test_a_config_imports_what_it_names():
    config = {"a": {"class_path": "x.y.Z", "init_args": {"b": [{"class_path": "u.V"}]}}, "c": "k.L"}
    assert untrusted.imported_modules(config) == {"x.y", "u"}
    assert untrusted.imported_modules(untrusted.mark(config, untrusted.Origin("x", ()))) == set()
