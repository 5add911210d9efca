import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl_lightning.__main__ import main
from mtl_lightning.commands.inspect import step_size
from tests.conftest import DROP, small
from tests.helpers.files import messy


def test_good_data(cli):
    out = cli.run("inspect", "--config", small())
    assert "labelled images" in out
    assert out.splitlines()[-1] == "small: nothing to complain about"
    assert not Path("runs").exists()


def test_an_error_is_the_exit_status_and_everything_is_written(capsys):
    messy.make(Path.cwd())
    files = ["--output", "out/report.html", "--sheet", "out/sheet.png"]
    assert main(["inspect", "--config", "messy.yaml", "--all", *files]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("written: out/report.html\nwritten: out/sheet.png\n")
    assert "messy: 8 errors" in out
    assert "<!DOCTYPE html>" in Path("out/report.html").read_text(encoding="utf-8")
    assert Path("out/sheet.png").is_file()


def test_warnings_are_no_errors(cli):
    rows = [
        f"{number}.jpg,{'ab'[number % 2]},{'train' if number > 3 else 'val'}"
        for number in range(20)
    ]
    for number in range(20):
        messy.photo(Path(f"{number}.jpg"), number)
    Path("t.csv").write_text("\n".join(["image,kind,split", *rows]) + "\n")
    source = {"class_path": "TableSource", "init_args": {"path": "t.csv"}}
    changes = {"tasks": {"kind": "Classification"}, "data.sources": {"t": source}}
    out = cli.run("inspect", "--config", small(changes))
    assert "warning: task kind: fewer than 5 val labels of 2 of 2 classes: a 2, b 2" in out
    assert out.splitlines()[-1] == "small: 1 warning"


def test_keys_are_flags_and_tasks_may_be_left_out(cli):
    out = cli.run("inspect", "--config", small(), "--data.batch_size", "3", "--only", "ink")
    assert "batch of 3" in out
    assert "parity" not in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "tasks are missing: give --config FILE"),
        ("--config gone.yaml", "config gone.yaml: no such file"),
        (
            "--config small.yaml --outptu x.html",
            '--outptu: no such option of inspect; did you mean "--output"?',
        ),
        ("--config small.yaml extra", '"extra": not expected here'),
        (
            "--config small.yaml --output r.pdf",
            "--output should be a name that ends in .html. Found r.pdf",
        ),
        (
            "--config small.yaml --sheet s.jpg",
            "--sheet should be a name that ends in .png. Found s.jpg",
        ),
        ("--config small.yaml --output d.html", "--output d.html: this is a folder"),
        ("--config small.yaml --output", "--output needs a value"),
        ("--config small.yaml --data.batch_sise 3", "data.batch_sise: data has no such argument"),
        ("--config small.yaml --data.splits.vall 0.1", "splits should name val and test"),
    ],
)
def test_what_cannot_be_audited(cli, flags, message):
    small()
    Path("d.html").mkdir()
    assert cli.refused("inspect", *flags.split()).startswith(message)


def test_a_page_that_cannot_be_written(cli):
    Path("file").write_text("")
    message = cli.refused("inspect", "--config", small(), "--output", "file/r.html")
    assert message.startswith("file")


@pytest.mark.parametrize("arguments", [["--help"], ["--config", "x.yaml", "-h"]])
def test_help_imports_no_torch(arguments):
    code = (
        f"import sys\nfrom mtl_lightning.__main__ import main\n"
        f"assert main({['inspect', *arguments]}) == 0\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mtl-lightning inspect --config FILE")
    assert done.stdout.splitlines()[-1] == "[]"


def test_short_names_of_callbacks_are_known_without_a_trainer():
    config = small({"trainer.callbacks": ["EMA", "BalancingMonitor"]})
    command = [sys.executable, "-m", "mtl_lightning", "inspect", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("trainer", "world_size", "accumulate"),
    [
        ({}, 1, 1),
        ({"devices": 4, "accelerator": "gpu"}, 4, 1),
        ({"devices": "4"}, 4, 1),
        ({"devices": [0, 3]}, 2, 1),
        ({"devices": "0,3"}, 2, 1),
        ({"devices": "3,"}, 1, 1),
        ({"devices": [5]}, 1, 1),
        ({"devices": 2, "num_nodes": 3, "accumulate_grad_batches": 4}, 6, 4),
        ({"devices": "auto", "accelerator": "cpu"}, 1, 1),
        ({"devices": -1, "accelerator": "cpu"}, 1, 1),
    ],
)
def test_what_a_step_is_made_of(trainer, world_size, accumulate, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    size = step_size({"trainer": trainer}, 8)
    assert (size.batch_size, size.world_size, size.accumulate) == (8, world_size, accumulate)


def test_devices_of_this_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert step_size({"trainer": {"devices": -1}}, 8).world_size == 3
    assert step_size({}, 8).world_size == 3
    assert step_size({"trainer": {"accelerator": "cpu"}}, 8).world_size == 1


def test_a_checkpoint_remembers_its_data(cli, trained):
    out = cli.run("inspect", "--ckpt_path", str(trained))
    assert out.splitlines()[-1] == "small: nothing to complain about"


def test_inspected_sources_are_found_in_the_current_folder(cli):
    Path("inspected_source.py").write_text(
        "from mtl_lightning import DigitsSource\nclass Own(DigitsSource):\n    pass\n"
    )
    changes = {
        "data.sources": {"own": {"class_path": "inspected_source.Own"}},
        "seed_everything": DROP,
    }
    assert "own " in cli.run("inspect", "--config", small(changes))
