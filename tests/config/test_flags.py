import copy

import pytest

from mtl_lightning.commands.schema import SECTIONS, check_sections
from mtl_lightning.config.flags import (
    apply_override,
    deep_merge,
    pop_options,
    pop_overrides,
    split_options,
)
from mtl_lightning.config.yaml_io import dump
from mtl_lightning.system.errors import UserError

CONFIG = {
    "tasks": {
        "kind": {"class_path": "Classification", "init_args": {"weight": 2.0}},
        "size": "Regression",
    },
    "model": {
        "backbone": {"class_path": "Timm", "init_args": {"name": "resnet18", "pooling": "gem"}},
        "dropout": 0.1,
    },
    "data": {"sources": {"a": {"class_path": "TableSource", "init_args": {"path": "a.csv"}}}},
    "trainer": {"callbacks": [{"class_path": "LearningRateMonitor"}]},
}


def laid_on(*flags: str) -> dict:
    config = copy.deepcopy(CONFIG)
    for flag in flags:
        option, _, text = flag.partition("=")
        apply_override(config, option, text)
    return config


def checked(*flags: str) -> dict:
    return check_sections(laid_on(*flags))


def test_values_follow_their_options():
    assert pop_options(["--a", "1", "--b", "--a=2"], ("--a",)) == (["1", "2"], ["--b"])
    assert split_options(["--n", "-1", "x"], lambda option: option == "--n") == (
        [("--n", "-1")],
        ["x"],
    )


@pytest.mark.parametrize("arguments", [["--a"], ["--a", "--b", "1"]])
def test_an_option_without_a_value(arguments):
    with pytest.raises(UserError, match=r"^--a needs a value$"):
        pop_options(arguments, ("--a",))


def test_only_sections_are_changed_here():
    ours, rest = pop_overrides(
        ["--data.batch_size", "3", "--images", "x", "--print_config"], SECTIONS
    )
    assert ours == [("--data.batch_size", "3")]
    assert rest == ["--images", "x", "--print_config"]


def test_additions_to_lists_are_left_to_jsonargparse():
    appended = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/score"]
    ours, rest = pop_overrides([*appended, "--trainer.max_epochs=2"], SECTIONS)
    assert ours == [("--trainer.max_epochs", "2")]
    assert rest == appended


def test_a_flag_reaches_the_arguments_with_and_without_init_args():
    for key in ("--tasks.kind.weight=3", "--tasks.kind.init_args.weight=3"):
        assert checked(key)["tasks"]["kind"]["init_args"] == {"weight": 3}


def test_a_class_without_arguments_gets_them():
    assert laid_on("--tasks.size.loss=l1")["tasks"]["size"] == {
        "class_path": "Regression",
        "init_args": {"loss": "l1"},
    }


@pytest.mark.parametrize("flag", ["--model.backbone=VGG16", "--model.backbone.class_path=VGG16"])
def test_another_class_forgets_the_arguments(flag):
    assert laid_on(flag)["model"]["backbone"] == {"class_path": "VGG16"}


def test_the_same_class_keeps_the_arguments():
    for path in ("Timm", "mtl_lightning.Timm"):
        backbone = laid_on(f"--model.backbone={path}")["model"]["backbone"]
        assert backbone["init_args"] == CONFIG["model"]["backbone"]["init_args"]


def test_flags_are_read_in_their_order():
    backbone = laid_on("--model.backbone=VGG16", "--model.backbone.pooling=avg")["model"][
        "backbone"
    ]
    assert backbone == {"class_path": "VGG16", "init_args": {"pooling": "avg"}}


def test_mappings_are_merged_and_null_is_null():
    config = checked("--model={dropout: 0.3}", "--model.backbone.weights=null")
    assert config["model"]["dropout"] == 0.3
    assert config["model"]["backbone"]["init_args"] == {
        "name": "resnet18",
        "pooling": "gem",
        "weights": None,
    }


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--data.sources.a.image=1", "1"),
        ("--data.sources.a.labels.kind=2", "2"),
        ("--data.sources.a.path=2024", "2024"),
        ("--data.sources.a.root=null", None),
        ("--data.sources.a.missing=[0, no]", ["0", "no"]),
        ("--tasks.kind.classes=[0, 1]", ["0", "1"]),
        ("--tasks.kind.weight=1", 1),
        ("--trainer.max_time=1:00:00:00", "1:00:00:00"),
        ("--checkpoint.monitor=3", "3"),
        ("--checkpoint.mode=min", "min"),
    ],
)
def test_text_is_text_where_text_is_wanted(flag, value):
    node = checked(flag)
    *parents, last = flag.partition("=")[0].removeprefix("--").split(".")
    for part in parents:
        node = node[part]
        node = node.get("init_args", node)
    assert node[last] == value
    assert type(node[last]) is type(value)


def test_a_section_from_a_file(tmp_path):
    (tmp_path / "t.yaml").write_text(dump({"max_epochs": 3}))
    assert checked("--trainer=t.yaml")["trainer"] == CONFIG["trainer"] | {"max_epochs": 3}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--tasks.knd.weight=1", 'there is no knd; did you mean "kind"?; tasks has kind, size'),
        ("--data.sources.b.path=x", "there is no b; data.sources has a"),
        ("--model.dropout.x=1", "dropout is 0.1, which has no parts to set"),
        ("--trainer.callbacks.monitor=x", "callbacks is [{'class_path': 'LearningRateMonitor'}]"),
    ],
)
def test_what_is_not_there_cannot_be_changed(flag, message):
    with pytest.raises(UserError) as error:
        laid_on(flag)
    assert str(error.value).startswith(f"{flag.partition('=')[0]}: ")
    assert message in str(error.value)


def test_a_second_config_that_names_one_task_keeps_the_others():
    over = {"tasks": {"kind": {"init_args": {"label_smoothing": 0.1}}}}
    tasks = deep_merge(CONFIG, over)["tasks"]
    assert tasks["kind"]["init_args"] == {"weight": 2.0, "label_smoothing": 0.1}
    assert tasks["size"] == "Regression"


def test_a_second_config_with_another_class_forgets_the_arguments():
    over = {"model": {"backbone": {"class_path": "VGG16", "init_args": {"weights": None}}}}
    model = deep_merge(CONFIG, over)["model"]
    assert model["backbone"]["init_args"] == {"weights": None}
    assert model["dropout"] == 0.1


def test_arguments_for_a_class_that_is_named_alone():
    assert deep_merge(CONFIG, {"tasks": {"size": {"init_args": {"loss": "l1"}}}})["tasks"][
        "size"
    ] == {
        "class_path": "Regression",
        "init_args": {"loss": "l1"},
    }


def test_merging_leaves_both_as_they_were():
    before = copy.deepcopy(CONFIG)
    deep_merge(CONFIG, {"tasks": {"kind": {"init_args": {"weight": 9}}}, "model": None})
    assert before == CONFIG
