import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from mtl_lightning.commands.comparison import running
from mtl_lightning.commands.comparison.members import Member
from mtl_lightning.system.errors import UserError

MEMBERS = [Member("all", 1, ("--config", "c.yaml")), Member("uw", 1, ("--config", "u.yaml"))]


class Process:
    """A training or test that writes what it should, unless it is to fail."""

    calls: ClassVar[list[list[str]]] = []
    fails: str = ""

    def __init__(self, line, stdout, **options):
        self.arguments = line[3:]
        self.calls.append(self.arguments)
        name = Path(stdout.name).stem
        run = Path("out/runs") / name / "version_0"
        if self.fails and self.fails in " ".join(self.arguments):
            stdout.write("some output\nerror: it is broken\n\n")
            self.status = 2
            return
        self.status = 0
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        if self.arguments[0] == "fit":
            (run / "checkpoints" / "last.ckpt").touch()
        else:
            split = {"test": "test", "validate": "val"}[self.arguments[0]]
            (run / f"{split}_bootstrap.json").write_text(json.dumps({"split": split, "run": name}))

    def wait(self):
        return self.status


@pytest.fixture
def runner(tmp_path, own_process, monkeypatch):
    monkeypatch.setattr(running, "subprocess", SimpleNamespace(Popen=Process, STDOUT=-2))
    monkeypatch.setattr(Process, "calls", [])
    said = []
    made = running.Runner(Path("out"), "test", said.append)
    made.said = said
    return made


def test_each_is_trained_and_measured_once(runner):
    found = runner.run(MEMBERS, jobs=1)
    assert [found[member]["run"] for member in MEMBERS] == ["all-seed1", "uw-seed1"]
    assert Process.calls[0] == ["fit", "--config", "c.yaml"]
    assert Process.calls[1] == [
        *("test", "--ckpt_path", "last", "--name", "all-seed1"),
        *("--trainer.default_root_dir", "out/runs", "--bootstrap", "1000"),
        *("--report", "false"),
    ]
    assert runner.said[0] == "2 trainings; their output is in out/logs"
    assert runner.said[-1].startswith("2 of 2: uw-seed1, 0.0 min")
    calls = len(Process.calls)
    assert runner.run(MEMBERS, jobs=1) == found
    assert len(Process.calls) == calls
    assert runner.said[-1] == "2 of them are done already"


def test_the_best_checkpoint_is_measured_where_there_is_one(runner):
    best = Path("out/runs/all-seed1/version_0/checkpoints/best.ckpt")
    best.parent.mkdir(parents=True)
    best.touch()
    runner.run(MEMBERS[:1], jobs=1)
    assert Process.calls[1][:3] == ["test", "--ckpt_path", "best"]


def test_a_killed_training_continues(runner):
    last = Path("out/runs/all-seed1/version_0/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.touch()
    runner.run(MEMBERS[:1], jobs=1)
    assert Process.calls[0] == ["fit", "--config", "c.yaml", "--ckpt_path", str(last)]


def test_each_split_is_measured_for_itself(runner):
    runner.run(MEMBERS, jobs=2)
    runner.split = "val"
    found = runner.run(MEMBERS, jobs=2)
    assert {each["split"] for each in found.values()} == {"val"}


def test_a_failure_names_the_member_its_last_line_and_the_log(runner, monkeypatch):
    monkeypatch.setattr(Process, "fails", "u.yaml")
    with pytest.raises(UserError) as caught:
        runner.run(MEMBERS, jobs=1)
    assert str(caught.value) == (
        "uw-seed1: fit ended with status 2 after `error: it is broken`; all of it is in "
        "out/logs/uw-seed1.log"
    )
    assert runner.results_file(MEMBERS[0]), "what was done is kept"


def test_nothing_more_starts_after_a_failure(runner, monkeypatch):
    monkeypatch.setattr(Process, "fails", "c.yaml")
    with pytest.raises(UserError, match="all-seed1: fit ended with status 2"):
        runner.run(MEMBERS, jobs=1)
    assert [line[2] for line in Process.calls] == ["c.yaml"]
