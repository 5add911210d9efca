import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, seed_everything
from pytorch_lightning.callbacks import Checkpoint

from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.runs import run_file
from mtl_lightning.runs.facts import Checkpoint as WrittenCheckpoint
from mtl_lightning.runs.facts import RunFacts
from mtl_lightning.system.errors import Stopped
from tests.helpers.data import make_data, make_more_tasks
from tests.helpers.training import make_module, make_test_data, make_trainer


class Failing(Callback):
    """Raises at the given call of a hook, and has no handler of the recorder's called."""

    def __init__(self, hook: str, call: int, error: BaseException) -> None:
        self.calls = 0

        def fail(*_, **__):
            self.calls += 1
            if self.calls == call:
                raise error

        setattr(self, hook, fail)


class Killed(RunRecorder):
    """A recorder whose process is killed: it learns of nothing."""

    def on_exception(self, *_):
        pass


def train(
    run: Path,
    *more: Callback,
    ckpt_path: str | None = None,
    recorder: type[RunRecorder] = RunRecorder,
    epochs: int = 3,
    **trainer,
) -> RunRecorder:
    """Train with checkpoints every third step of the six of an epoch."""
    seed_everything(3, verbose=False)
    checkpoints = Checkpoints(run / "checkpoints", "val/score", "max", every_n_train_steps=3)
    recording = recorder(run, checkpoints)
    options = {"max_epochs": epochs, "val_check_interval": 0.5, "enable_checkpointing": True}
    callbacks = [recording, *more, checkpoints]
    fitting = make_trainer(run, callbacks=callbacks, **(options | trainer))
    fitting.fit(
        make_module(tasks=make_more_tasks()),
        datamodule=make_data(val=20, tasks=make_more_tasks()),
        ckpt_path=ckpt_path,
    )
    return recording


def timeless(facts: RunFacts) -> str:
    """What two trainings have in common that are the same."""
    epochs = [replace(epoch, seconds=0.0, waiting=None) for epoch in facts.epochs]
    return repr([epochs, facts.validations, facts.checkpoints, facts.merged, facts.sizes])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[RunFacts, RunRecorder]:
    run = tmp_path_factory.mktemp("runs") / "name" / "version_0"
    recorder = train(run)
    facts = run_file.read(run)
    assert facts is not None
    return facts, recorder


def test_a_training_is_recorded(whole):
    facts, recorder = whole
    assert (facts.name, facts.version) == ("name", "version_0")
    assert {name: own.kind for name, own in facts.tasks.items()} == {
        "kind": "Classification",
        "size": "Regression",
        "rare": "Classification",
        "tags": "MultiLabel",
    }
    assert facts.tasks["size"].primary == "r2"
    assert facts.merged.total.labelled["kind"]["train"] > 0
    assert any("carry no label" in note for note in facts.notes)
    assert (facts.sizes.image, facts.sizes.batch_size, facts.sizes.devices) == ([16, 16], 8, 1)
    parameters = facts.sizes.parameters
    assert parameters.total == parameters.trained
    assert parameters.total == parameters.backbone + sum(parameters.heads.values())
    assert set(parameters.heads) == set(facts.tasks)
    (session,) = facts.sessions
    assert (session.command, session.outcome, session.resumed_step) == ("fit", "finished", None)
    assert session.started < session.ended
    assert "torch" in session.versions
    assert session.device.startswith("cpu")
    assert [(e.epoch, e.step) for e in facts.epochs] == [(0, 6), (1, 12), (2, 18)]
    assert [(v.epoch, v.step) for v in facts.validations] == [
        (0, 3), (0, 6), (1, 9), (1, 12), (2, 15), (2, 18),
    ]  # fmt: skip
    assert all(epoch.seconds > 0 and 0 <= epoch.waiting <= 1 for epoch in facts.epochs)
    assert all(math.isfinite(epoch.results.loss) for epoch in facts.epochs)
    assert not any("/" in metric for metric in facts.validations[0].results.tasks["tags"])
    assert facts.checkpoints.last == WrittenCheckpoint(18)
    best = max(facts.validations, key=lambda validation: validation.results.score)
    assert facts.checkpoints.best == WrittenCheckpoint(best.step, pytest.approx(best.results.score))
    assert timeless(facts) == timeless(recorder.facts)


def test_the_last_validation_is_kept_with_its_plots(whole):
    facts, recorder = whole
    evaluation = facts.evaluations["val"]
    assert (evaluation.command, evaluation.step, evaluation.weights) == ("fit", 18, None)
    assert evaluation.results.score == facts.validations[-1].results.score
    assert "n_labelled/hat" in evaluation.results.tasks["tags"]
    present = {t for t, values in evaluation.results.tasks.items() if values["n_labelled"]}
    assert set(evaluation.plots) == present >= {"kind", "size", "tags"}
    assert recorder.evaluation.plots.keys() == evaluation.plots.keys()


# Optimizer steps, from 1: an epoch has 6, a validation follows the third and the sixth. There are
# two batches of validation.
POINTS = [
    ("on_train_batch_start", 2),
    ("on_train_batch_end", 3),
    ("on_validation_batch_end", 2),
    ("on_validation_end", 2),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_start", 2),
    ("on_save_checkpoint", 3),
    ("on_train_batch_start", 8),
    ("on_validation_epoch_end", 3),
    ("on_train_epoch_end", 3),
    ("on_train_end", 1),
]


@pytest.mark.parametrize(("hook", "call"), POINTS)
def test_a_killed_and_resumed_run_loses_and_doubles_nothing(tmp_path, whole, hook, call):
    run = tmp_path / "name" / "version_0"
    with pytest.raises(ZeroDivisionError):
        train(run, Failing(hook, call, ZeroDivisionError()), recorder=Killed)
    killed = run_file.read(run)
    assert killed.sessions[0].outcome is None
    last = run / "checkpoints" / "last.ckpt"
    step = torch.load(last, weights_only=True)["global_step"] if last.exists() else None
    resumed = train(run, ckpt_path=None if step is None else str(last))
    facts = run_file.read(run)
    assert timeless(facts) == timeless(whole[0])
    assert timeless(resumed.facts) == timeless(facts)
    assert [session.outcome for session in facts.sessions] == [None, "finished"]
    assert facts.sessions[1].resumed_step == step
    assert facts.sessions[1].resumed_step == (
        None if not last.exists() else pytest.approx(9, abs=9)
    )


def test_a_checkpoint_that_ends_an_epoch_finds_the_epoch_recorded(tmp_path):
    class Saved(Checkpoint):
        """Saves where the module has just measured the epoch, and the process is killed then."""

        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "end.ckpt")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, Saved(), recorder=Killed)
    assert [epoch.step for epoch in run_file.read(tmp_path).epochs] == [6]
    train(tmp_path, ckpt_path=str(tmp_path / "end.ckpt"), epochs=2)
    assert [epoch.step for epoch in run_file.read(tmp_path).epochs] == [6, 12]


def test_an_older_checkpoint_drops_what_came_after(tmp_path, whole):
    run = tmp_path / "name" / "version_0"
    train(run, epochs=1)
    first = run / "checkpoints" / "first.ckpt"
    first.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    train(run, ckpt_path=str(run / "checkpoints" / "last.ckpt"))
    seen = []

    class Reader(Callback):
        def on_train_batch_start(self, *_):
            seen.append(run_file.read(run))

    train(run, Reader(), ckpt_path=str(first), epochs=2)
    assert [(e.epoch, e.step) for e in seen[0].epochs] == [(0, 6)]
    assert [v.step for v in seen[0].validations] == [3, 6]
    facts = run_file.read(run)
    assert [e.epoch for e in facts.epochs] == [0, 1]
    assert [s.resumed_step for s in facts.sessions] == [None, 6, 6]


@pytest.mark.parametrize(
    ("error", "outcome"), [(Stopped(15, "stopped"), "stopped"), (ValueError("x"), "failed")]
)
def test_how_a_session_ended_is_recorded(tmp_path, error, outcome):
    with pytest.raises(type(error)):
        train(tmp_path, Failing("on_train_batch_end", 7, error))
    facts = run_file.read(tmp_path)
    (session,) = facts.sessions
    assert (session.outcome, session.ended is None) == (outcome, False)
    assert [epoch.step for epoch in facts.epochs] == [6]


def test_a_test_is_recorded_next_to_the_training(tmp_path):
    run = tmp_path / "name" / "version_0"
    train(run, epochs=1)
    trainer = make_trainer(run, callbacks=[RunRecorder(run)])
    best = run / "checkpoints" / "best.ckpt"
    module = make_module(tasks=make_more_tasks())
    trainer.test(module, make_test_data(), ckpt_path=best, verbose=False)
    facts = run_file.read(run)
    assert [session.command for session in facts.sessions] == ["fit", "test"]
    assert facts.sessions[1].outcome == "finished"
    assert len(facts.epochs) == 1
    evaluation = facts.evaluations["test"]
    assert (evaluation.command, evaluation.weights) == ("test", "best.ckpt")
    assert evaluation.results == module.results["test"]
    assert set(evaluation.plots) == {"kind", "size", "tags"}
    assert "val" in facts.evaluations
    trainer.validate(module, make_data(val=9, tasks=make_more_tasks()), verbose=False)
    facts = run_file.read(run)
    assert (facts.evaluations["val"].command, facts.evaluations["val"].step) == ("validate", None)
    assert facts.evaluations["test"].weights == "best.ckpt"


def test_a_test_during_the_training_is_kept_and_loses_no_epoch(tmp_path):
    class Tester(Callback):
        """Another command, which begins in the first epoch and ends in the second."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 1:
                self.other = RunRecorder(tmp_path)
                self.trainer = make_trainer(tmp_path, callbacks=[self.other])
                self.trainer.test(
                    make_module(tasks=make_more_tasks()), make_test_data(), verbose=False
                )
                self.facts = run_file.read(tmp_path)

        def on_train_end(self, *_):
            self.other._save(self.trainer)
            self.at_end = run_file.read(tmp_path)

    tester = Tester()
    train(tmp_path, tester, epochs=2)
    facts = run_file.read(tmp_path)
    assert [epoch.epoch for epoch in tester.at_end.epochs] == [0, 1]
    assert facts.evaluations["test"].time == tester.facts.evaluations["test"].time
    assert [session.command for session in facts.sessions] == ["fit", "test"]
    assert [session.outcome for session in facts.sessions] == ["finished", "finished"]
    assert [epoch.epoch for epoch in facts.epochs] == [0, 1]


def test_two_ranks_write_one_file(on_two_ranks, tmp_path_factory):
    facts = on_two_ranks["recorded"]
    assert [session.command for session in facts.sessions] == ["fit"]
    assert facts.sizes.devices == 2
    assert [epoch.epoch for epoch in facts.epochs] == [0, 1]
    assert set(facts.evaluations["val"].plots) >= {"kind", "size", "tags"}


def recorded(folder: Path) -> RunFacts | None:
    train(folder, devices=2, epochs=2)
    return run_file.read(folder)


def test_a_trial_leaves_no_file(tmp_path):
    recorder = RunRecorder(tmp_path / "run")
    trainer = make_trainer(tmp_path, callbacks=[recorder], fast_dev_run=True)
    trainer.fit(make_module(), datamodule=make_data())
    assert recorder.facts.merged is not None
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_read_is_left_alone_and_costs_one_line(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"format": 99}')
    train(tmp_path, epochs=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert line.startswith("warning: no run.json: UserError: ")
    assert "format should be 1. Found 99" in line
    assert json.loads((tmp_path / "run.json").read_text()) == {"format": 99}


def test_a_full_disk_costs_the_file_and_not_the_training(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_file, "write", full)
    recorder = train(tmp_path, epochs=1)
    assert "warning: no run.json: OSError: " in capsys.readouterr().out
    assert [epoch.epoch for epoch in recorder.facts.epochs] == [0]
    assert not (tmp_path / "run.json").exists()


def test_a_starved_device_is_noted_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mtl_lightning.data.input_wait.STARVED", 0.0)
    monkeypatch.setattr("mtl_lightning.data.input_wait.ENOUGH", 1)
    facts = train(tmp_path, epochs=2).facts
    assert sum("waiting for data" in note for note in facts.notes) == 1
