import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtl_lightning.commands import keys, schema
from mtl_lightning.commands.command_line import CommandLine, check
from mtl_lightning.commands.prepare import prepare
from mtl_lightning.system.errors import UserError
from tests.conftest import small

EACH = """
import contextlib, io, json, sys
from mtl_lightning.__main__ import main
found = []
for arguments in json.load(sys.stdin):
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        status = main(arguments.split())
    heavy = {"torch", "pytorch_lightning", "jsonargparse", "pandas"} & set(sys.modules)
    found.append((status, text.getvalue(), sorted(heavy)))
print(json.dumps(found))
"""

TABLES = {
    "data.sources.a": {"class_path": "TableSource", "init_args": {"path": "t.csv"}},
    "data.sources.digits": {"class_path": "DigitsSource"},
}
LIGHT = {
    "fit --config smal.yaml": 'config smal.yaml: no such file; did you mean "small.yaml"?',
    "fit --config broken.yaml": "config broken.yaml line 1: not valid YAML",
    "fit --config keys.yaml": 'datas: no such key; did you mean "data"?',
    "fit --config list.yaml": "tasks should be entries as `name: ...`. Found ['kind']",
    "fit --config no_tasks.yaml": "tasks are missing: give --config FILE",
    "fit --config": "--config needs a value",
    "fit --config small.yaml --name a/b": "name should be that of one folder",
    "fit --config small.yaml --trianer.max_epochs 3": (
        '--trianer.max_epochs: no such option; did you mean "--trainer.max_epochs"?'
    ),
    "fit --config small.yaml --tasks.ink Regresion": (
        'tasks.ink.class_path: no Task is called "Regresion"; did you mean "Regression"?; known: '
        "Classification, "
    ),
    "inspect --config small.yaml --model.backbone.class_path VGG61": (
        'model.backbone.class_path: no Backbone is called "VGG61"; did you mean "VGG16"?'
    ),
    "test --config small.yaml": "test needs --ckpt_path",
    "test --config small.yaml --ckpt_path best": "ckpt_path best: no best.ckpt in any run",
    "test --ckpt_path no.ckpt": "ckpt_path no.ckpt: no such file",
    "test --ckpt_path no.ckpt --weights_only false": "weights_only should be true",
    "predict --ckpt_path no.ckpt --imges p": '--imges: no such option; did you mean "--images"',
    "inspect --config small.yaml --outptu x": "--outptu: no such option of inspect",
    "inspect --config keys.yaml": "datas: no such key",
    "pack --config smal.yaml --output p": "config smal.yaml: no such file",
    "init smal.yaml": 'smal.yaml: no such file or folder; did you mean "small.yaml"?',
}
"""Mistakes that are found without pandas, and the start of the message."""
OF_FILES = {
    "fit --config tables.yaml --data.sources.a.path u.csv": (
        "data.sources.a: u.csv does not exist or is not a file"
    ),
    "pack --config tables.yaml --output p --data.sources.a.image imag": (
        'data.sources.a: t.csv has no column "imag" (image); columns: image, ink; did you mean'
    ),
}
"""Mistakes that are found without torch."""


@pytest.fixture(autouse=True)
def folder(own_process):
    Path("keys.yaml").write_text("tasks: {kind: Classification}\ndatas: {}\n")
    Path("list.yaml").write_text("tasks: [kind]\n")
    Path("no_tasks.yaml").write_text("data: {image_size: 32}\n")
    Path("broken.yaml").write_text("tasks: [a")
    small()


def test_mistakes_that_are_found_before_torch_is_imported():
    small(TABLES, "tables.yaml")
    Path("t.csv").write_text("image,ink\nx.png,1\n")
    mistakes = [*LIGHT, *OF_FILES]
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        input=json.dumps(mistakes),
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(zip(mistakes, json.loads(done.stdout), strict=True))
    for arguments, message in (LIGHT | OF_FILES).items():
        status, said, heavy = found[arguments]
        assert (status, heavy) == (2, [] if arguments in LIGHT else ["pandas"]), arguments
        assert said.startswith(f"error: {message}"), arguments
        assert said.count("\n") == 1, arguments


@pytest.mark.parametrize(
    "flags",
    [
        "--data.batch_size 4",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss",
        "--print_config",
        "--print_config=skip_null",
        "--seed_everything 3",
        "--only digit",
        "--export-weights w.yaml",
        "--name 5",
        "--tasks.digit.weight 2",
    ],
)
def test_what_is_right_passes(flags):
    check("fit", ["--config", "small.yaml", *flags.split()])


def test_tasks_may_come_from_flags_alone():
    check("fit", ["--tasks.kind", "Classification"])


def test_both_checks_are_one(monkeypatch):
    """What `prepare` refuses first is what `check` refuses, in the same words."""
    for arguments in (["--config", "keys.yaml"], ["--config", "small.yaml", "--name", "a/b"]):
        refusals = []
        for call in (check, prepare):
            with pytest.raises(UserError) as error:
                call("fit", arguments)
            refusals.append(str(error.value))
        assert refusals[0] == refusals[1]


def test_the_name_of_a_run_of_some_tasks():
    line = CommandLine.parse("fit", ["--config", "small.yaml", "--only", "digit", "ink"])
    assert line.run_name(line.given) == "small-only-digit-ink"
    line = CommandLine.parse("fit", ["--config", "small.yaml", "--only", "digit", "--name", "n"])
    assert line.run_name(line.given) == "n"
    assert CommandLine.parse("fit", []).run_name({}) == ""


def test_every_key_has_a_type_and_every_type_a_key():
    assert tuple(schema.SECTIONS) == keys.SECTIONS
    of_commands = {key for own in keys.OF_COMMANDS.values() for key in own}
    assert set(schema.SCALARS) == {*keys.TOP_LEVEL, *of_commands}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("x", '"x": not expected here; options start with --'),
        ("--outptu=x", '--outptu: no such option of pack; did you mean "--output"?'),
        ("--trianer", '--trianer: no such option of pack; did you mean "--trainer"?'),
    ],
)
def test_options_that_a_command_does_not_have(argument, message):
    with pytest.raises(UserError) as error:
        check("pack", ["--config", small(), argument], ("--output",))
    assert str(error.value) == message


def test_slices_are_a_setting_of_the_data():
    arguments = ["--slices", "sender", "a, b", "--ckpt_path", "best"]
    for command in ("test", "validate"):
        line = CommandLine.parse(command, arguments)
        assert line.overrides == [("--data.slices", "- sender\n- a, b\n")]
        assert not line.rest
    assert "--slices" in CommandLine.parse("fit", arguments).rest
