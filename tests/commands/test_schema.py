from pathlib import Path

import pytest

from mtl_lightning.commands import keys, schema
from tests.conftest import small
from tests.helpers.training import prepare_fit, refused

NAMES = ["type", "help", "train", "keys", "forward", "config", "3", "no", "a-b", "größe"]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_may_be_called(name):
    assert list(
        prepare_fit("--config", small({"tasks": {name: "Regression"}})).config["tasks"]
    ) == [name]


@pytest.mark.parametrize("name", ["a.b", "a/b", "", " ", "a b", "image", "loss", "score"])
def test_a_task_may_not_be_called(name):
    message = refused("fit", "--config", small({"tasks": {name: "Regression"}}))
    assert message.startswith("tasks: the name of a task should be letters, digits, _ and -, ")
    assert message.endswith(f'. Found "{name}"')


# --------------------------------------------------------------------- what is wrong

WRONG = {
    "tasks.digit": [
        ("Clasification", 'tasks.digit.class_path: no Task is called "Clasification"; did you mea'),
        ({"class_path": "Classification", "weight": 2}, "tasks.digit.weight: arguments belong und"),
        (3, "tasks.digit should be class_path and init_args. Found 3"),
        (None, "tasks.digit should be class_path and init_args. Found null"),
    ],
    "tasks.digit.init_args": [
        (
            {"weigth": 2},
            "tasks.digit.init_args.weigth: Classification has no such argument; did you m",
        ),
        ({"weight": "abc"}, 'tasks.digit.init_args.weight should be a number. Found "abc"'),
        ({"weight": 0}, "tasks.digit: weight should be above 0. Found 0; drop the task instead."),
        ({"classes": ["a", "a"]}, "tasks.digit: classes should differ; listed more than once: a"),
        ({"classes": 5}, "tasks.digit.init_args.classes should be [text, ...] or null. Found 5"),
    ],
    "tasks": [
        ({}, "tasks should be at least one entry with a name"),
        (["digit"], "tasks should be entries as `name: ...`. Found ['digit']"),
        ("digit", 'tasks should be entries as `name: ...`. Found "digit"'),
        ({"class_path": "Classification"}, "tasks should be at least one entry with a name"),
        (None, "tasks are missing: give --config FILE"),
    ],
    "data": [
        ([1], "data should be entries as `name: ...`. Found [1]"),
        ({"source": {}}, 'data.source: data has no such argument; did you mean "sources"?'),
        ({"batch_size": "many"}, 'data.batch_size should be an integer. Found "many"'),
        ({"batch_size": None}, "data.batch_size should be an integer. Found null"),
        ({"sources": ["DigitsSource"]}, "data.sources should be entries as `name: ...`. Found ["),
        (
            {"sources": {"a": {"class_path": "DigitsSource", "init_args": {"mising": 1}}}},
            'data.sources.a.init_args.mising: DigitsSource has no such argument; did you mean "',
        ),
        ({"sources": {"a": "TableSource"}}, "data.sources.a.init_args: TableSource needs path"),
        ({"augmentation": "some"}, "data.augmentation should be default or none or [Module, ...]"),
        ({"augment_on": "gpu"}, 'data.augment_on should be cpu or device. Found "gpu"'),
        ({"mirror": "yes"}, "data.mirror should be {swap: ..., probability: ...} or null. Found"),
        ({"mirror": {"swp": {}}}, 'data.mirror.swp: Mirror has no such argument; did you mean "sw'),
        ({"mirror": {"swap": {"digit": "1"}}}, "data.mirror.swap should be {name: {name: text, "),
        ({"mirror": {"probability": "x"}}, "data.mirror.probability should be a number. Found"),
    ],
    "model": [
        ("VGG16", 'model should be entries as `name: ...`. Found "VGG16"'),
        ({"dropuot": 1}, 'model.dropuot: model has no such argument; did you mean "dropout"?'),
        ({"tasks": {}}, "model.tasks: model has no such argument"),
        ({"optimizer": 3}, "model.optimizer should be class_path and init_args. Found 3"),
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
            "model.backbone: trainable_from should be a stage of VGG16, one of block1, block2, ",
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
        ({"max_epochs": "abc"}, 'trainer.max_epochs should be an integer or null. Found "abc"'),
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
        ({"smooth": 0.95}, "checkpoint.smooth should be in 0..0.9: above, the first validations"),
        ({"mode": "up"}, 'checkpoint.mode should be max or min. Found "up"'),
        ("best", 'checkpoint should be entries as `name: ...`. Found "best"'),
    ],
    "seed_everything": [("abc", "seed_everything should be true or false or an integer. Found")],
    "trianer": [({}, 'trianer: no such key; did you mean "trainer"?')],
    "images": [("x", "images: no such key")],
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min": 1, "max": 0}, ": intensity should be {min: ..., max: ...} with min below max"),
        ({"percentile": [1, 99]}, ".percentile: Intensity has no such argument; did you mean "),
        ({"min": "low", "max": 1}, '.min should be a number or null. Found "low"'),
        (3, " should be {min: ..., max: ..., percentiles: ...} or null. Found 3"),
    ],
)
def test_an_intensity_that_is_wrong(given, message):
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv", "intensity": given}}
    found = refused("fit", "--config", small({"data.sources": {"t": source}}))
    assert found.startswith(f"data.sources.t.init_args.intensity{message}")


@pytest.mark.parametrize(
    ("key", "value", "message"), [(key, *pair) for key, pairs in WRONG.items() for pair in pairs]
)
def test_a_config_that_is_wrong(key, value, message):
    assert refused("fit", "--config", small({key: value})).startswith(message)


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
        assert prepare_fit("--config", small({"data.sources": {"a": entry}}))


def test_every_key_beside_the_sections_has_a_type():
    known = {*keys.TOP_LEVEL, *(key for own in keys.OF_COMMANDS.values() for key in own)}
    assert set(schema.SCALARS) == known
