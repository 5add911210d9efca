import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from mtl_lightning.__main__ import COMMANDS, main
from mtl_lightning._version import __version__
from tests.commands.test_trainer import photos
from tests.conftest import small
from tests.helpers import forks


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command(cli, arguments):
    out = cli.run(*arguments)
    assert all(f"\n  {command} " in out for command in COMMANDS)


def test_version(cli):
    assert cli.run("--version") == f"mtl-lightning {__version__}\n"


def test_help_imports_no_torch():
    code = (
        "import sys; sys.argv = ['mtl-lightning', '--help']\n"
        "from mtl_lightning.__main__ import main\n"
        "main()\n"
        "heavy = {'torch', 'pytorch_lightning', 'pandas', 'numpy', 'jsonargparse', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_error_is_one_line_of_the_process(tmp_path):
    command = [sys.executable, "-m", "mtl_lightning", "fit", "--config", "nowhere.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: config nowhere.yaml: no such file\n"


def test_training_and_testing_in_processes_of_their_own(tmp_path):
    """`best` is found by a fresh process, and neither says a word that is not ours."""
    fit = [sys.executable, "-m", "mtl_lightning", "fit", "--config", small()]
    done = subprocess.run(fit, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    (title,) = (line for line in lines if line.startswith("epoch"))
    assert re.fullmatch(r"epoch 0 · waiting for data \d+%", title)
    for word in ("pytorch", "litlogger", "GPU", "it/s", "warn", "http"):
        assert word not in done.stdout
    done = forks.command("test", "--name", "small", "--ckpt_path", "best")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "runs/small/version_0/test_metrics.json").read_text())
    assert found["tasks"]["digit"]["n_labelled"] == 360


def test_an_error_cannot_reach_into_the_terminal(cli):
    message = cli.refused("fit", "--config", "\x1b[2J\nno\u202ewhere.yaml")
    assert message.startswith(r"config \x1b[2J\nno\u202ewhere.yaml: no such file")


def test_predicting_in_two_processes_writes_each_row_once_in_order(cli, trained):
    """Lightning starts the second one, by this command; of three images it gets one."""
    names = photos("photos")
    predict = ["predict", "--ckpt_path", str(trained), "--images", "photos"]
    cli.run(*predict, "--output", "one.csv")
    two = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "mtl_lightning", *predict, "--data.batch_size", "1", *two]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "written: predictions.csv (3 images)\n"
    table = pd.read_csv("predictions.csv")
    assert table["image"].tolist() == names
    pd.testing.assert_frame_equal(table, pd.read_csv("one.csv"), rtol=1e-5)


def test_a_misspelt_command(cli):
    assert cli.refused("tets") == (
        'no command tets; did you mean "test"?; '
        "known: fit, validate, test, predict, inspect, init, export, compare, report, pack"
    )


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debug_shows_the_traceback(monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("MTL_LIGHTNING_DEBUG", "1")
    with pytest.raises(Exception, match=r"nowhere\.yaml"):
        main(["fit", "--config", "nowhere.yaml", *(["--debug"] if how == "flag" else [])])


def test_debug_0_is_no_debug(cli, monkeypatch):
    monkeypatch.setenv("MTL_LIGHTNING_DEBUG", "0")
    assert "nowhere.yaml" in cli.refused("fit", "--config", "nowhere.yaml")


@pytest.mark.parametrize("finished_by_lightning", [True, False])
def test_an_interruption_is_a_word(monkeypatch, capsys, finished_by_lightning):
    def interrupted(command, arguments, line):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if finished_by_lightning:
                sys.exit(1)
            raise

    monkeypatch.setattr("mtl_lightning.commands.trainer.run", interrupted)
    assert main(["fit", "--tasks.kind", "Classification"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
