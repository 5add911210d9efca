from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from mtl_lightning.__main__ import main
from mtl_lightning.commands.comparison import running
from tests.conftest import small

CONFIG = {
    "tasks": {"digit": {"class_path": "Classification"}, "ink": {"class_path": "Regression"}},
    "data.sources.digits.init_args.missing": {"digit": 0.5},
}


class Process:
    """A command in this process, whose output is that of the test."""

    def __init__(self, line, stdout, stderr, **options):
        self.status = main(line[3:])

    def wait(self):
        return self.status

    def terminate(self):
        pass


@pytest.fixture
def here(monkeypatch, no_pictures):
    monkeypatch.setattr(running, "subprocess", SimpleNamespace(Popen=Process, STDOUT=-2))
    monkeypatch.setattr(running, "DRAWS", 20)
    monkeypatch.setenv("COLUMNS", "120")


def test_networks_for_one_and_all_tasks_and_a_variant(here, capsys):
    Path("v.yaml").write_text("uw: {model: {balancing: UW}}\n")
    arguments = ["compare", "--config", small(CONFIG), "--output", "out", "--seeds", "5"]
    arguments += ["--variants", "v.yaml", "--single-tasks"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "4 trainings; their output is in out/logs",
        *(f"{n} of 4: {name}-seed5" for n, name in enumerate(["all", "only-digit"], 1)),
        *(f"{n} of 4: {name}-seed5" for n, name in enumerate(["only-ink", "uw"], 3)),
    ]
    assert "only-digit" in out
    assert "written: out/comparison.csv, .md, .tex" in out
    table = Path("out/comparison.md").read_text()
    rows = [line.split(" | ")[:3] for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        ["| digit", "balanced_accuracy", "only-digit"],
        ["| digit", "balanced_accuracy", "all"],
        ["| digit", "balanced_accuracy", "uw"],
        ["| ink", "r2", "only-ink"],
        ["| ink", "r2", "all"],
        ["| ink", "r2", "uw"],
        ["| mean change", "", "all"],
        ["| mean change", "", "uw"],
    ]
    saved = yaml.safe_load(Path("out/runs/uw-seed5/version_0/config.yaml").read_text())
    assert saved["seed_everything"] == 5
    assert "UW" in str(saved["model"]["balancing"])
    assert Path("out/comparison.tex").read_text().startswith(r"\begin{tabular}")
    assert Path("out/comparison.csv").read_text().startswith("task,metric,variant,mean")

    assert main([*arguments, "--metrics", "all"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[1] == "4 of them are done already"
    assert "macro_f1" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "compare needs --output: the folder for its runs and tables"),
        (["--output", "out", "--jobs", "0"], "--jobs should be a whole number above 0. Found 0"),
        (["--output", "out", "--split", "train"], "--split should be val or test. Found train"),
        (["--output", "out", "--metrics", "some"], "--metrics should be primary or all"),
        (["--output", "out", "--only", "digit"], "--only: compare trains each task alone"),
        (["--output", "out", "--ckpt_path", "best"], "--ckpt_path: compare names and begins"),
        (["--output", "out", "--name", "x"], "--name: compare names and begins its trainings"),
        (["--output", "out", "--seed", "1"], 'no such option of compare; did you mean "--seeds"?'),
        (["--output", "out", "--seed_everything", "1"], "--seed_everything: no such option of c"),
        (["--output", "out", "--seeds", "x"], "--seeds should be different whole numbers"),
        (
            ["--output", "out", "--variants", "v.yaml"],
            "odd: model.balancin: model has no",
        ),
        (["--output", "out", "--data.batch_sise", "4"], "batch_sise"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_any_training(here, cli, options, message):
    Path("v.yaml").write_text("odd: {model: {balancin: UW}}\n")
    assert message in cli.refused("compare", "--config", small(CONFIG), *options)
    assert not Path("out/runs").exists()
