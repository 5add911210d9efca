import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_lightning.__main__ import main
from tests.conftest import small
from tests.helpers import forks

RUN = Path("runs/small/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"

OWN = """
import os
from pytorch_lightning import Callback


class Signal(Callback):
    '''Sends this process a signal, as a terminal or a cluster does.'''

    def __init__(self, hook: str, number: int, at: int, rank: int = 0) -> None:
        self.hook, self.number, self.at, self.rank = hook, number, at, rank
        self.steps = 0
        setattr(self, hook, self.send)

    def send(self, trainer, *_):
        self.steps += 1
        if self.steps == self.at and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)
"""


def config(hook: str, number: int, at: int, **changes: Any) -> str:
    Path("own.py").write_text(OWN)
    arguments = {"hook": hook, "number": int(number), "at": at}
    callbacks = [{"class_path": "own.Signal", "init_args": arguments | changes.pop("init", {})}]
    return small({"trainer.callbacks": callbacks, "trainer.limit_train_batches": 6} | changes)


@pytest.fixture(autouse=True)
def fresh_module(no_pictures):
    """Each test writes own.py into a folder of its own."""
    sys.modules.pop("own", None)
    yield
    sys.modules.pop("own", None)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_ends_training_within_a_step_with_a_checkpoint(capsys, number, status):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert main(["fit", "--config", config("on_train_batch_end", number, 3)]) == status
    content = torch.load(LAST, weights_only=True)
    assert content["global_step"] == 3
    message = capsys.readouterr().err
    assert message == (
        f"stopped by {number.name} at epoch 0, step 3: saved {LAST}; the same command with "
        f"--ckpt_path last continues from there\n"
    )
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_no_step_is_left_half_made():
    name = config(
        "on_train_batch_start", signal.SIGTERM, 2, **{"trainer.accumulate_grad_batches": 3}
    )
    assert main(["fit", "--config", name]) == 143
    assert torch.load(LAST, weights_only=True)["resume"]["position"]["rows"] == 3 * 8


def test_a_validation_that_was_ended_is_made_again(cli):
    name = config("on_validation_batch_end", signal.SIGTERM, 1, **{"trainer.limit_val_batches": 3})
    # The first are of the sanity check, which a signal waits for.
    whole = small({"trainer.limit_train_batches": 6, "trainer.limit_val_batches": 3}, "whole.yaml")
    assert main(["fit", "--config", name, "--trainer.num_sanity_val_steps", "0"]) == 143
    assert torch.load(LAST, weights_only=True)["resume"]["position"]["validate"]
    cli.run("fit", "--config", whole, "--ckpt_path", str(LAST))
    cli.run("fit", "--config", whole)
    one, other = RUN / "metrics.csv", Path("runs/whole/version_0/metrics.csv")
    assert one.read_text() == other.read_text()


def test_a_second_ctrl_c_does_not_wait():
    name = config("on_train_batch_start", signal.SIGINT, 3)
    Path("own.py").write_text(OWN + "            os.kill(os.getpid(), self.number)\n")
    assert main(["fit", "--config", name]) == 130
    assert torch.load(LAST, weights_only=True)["global_step"] == 0


@pytest.mark.parametrize("known", [True, False])
def test_slurm_requeues_a_job_that_finds_its_run(monkeypatch, capsys, cli, known):
    tools = Path("bin")
    tools.mkdir()
    scontrol = tools / "scontrol"
    answer = 'echo "$@" > asked' if known else "echo no such job >&2; exit 1"
    scontrol.write_text(f"#!/bin/sh\n{answer}\n")
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tools.resolve()}{os.pathsep}{os.environ['PATH']}")
    slurm = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    for key, value in (slurm | {"NODEID": "0"}).items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    name = config("on_train_batch_end", signal.SIGUSR1, 3)
    flags = ("--trainer.num_nodes", "1", "--trainer.devices", "1")
    assert main(["fit", "--config", name, *flags]) == 128 + signal.SIGUSR1
    message = capsys.readouterr().err
    if not known:
        assert message.endswith("; SLURM did not requeue job 77: no such job\n")
        return
    assert message.endswith("; SLURM requeues job 77\n")
    assert Path("asked").read_text() == "requeue 77\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    os.environ.pop("MTL_LIGHTNING_RUN", None)
    cli.run("fit", "--config", small({"trainer.limit_train_batches": 6}), *flags)
    assert torch.load(LAST, weights_only=True)["global_step"] == 6
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    os.environ.pop("MTL_LIGHTNING_RUN", None)
    cli.run("fit", "--config", small({"trainer.limit_train_batches": 2}), *flags)
    assert (
        torch.load(Path("runs/small/version_1/checkpoints/last.ckpt"), weights_only=True)[
            "global_step"
        ]
        == 2
    )


def test_a_signal_to_one_of_two_ranks_ends_both():
    """Lightning's own handler would leave them waiting for each other."""
    name = config("on_train_batch_end", signal.SIGTERM, 3, init={"rank": 1})
    flags = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.num_workers", "1")
    done = forks.command("fit", "--config", name, *flags)
    assert done.returncode == 143, done.stderr
    assert "stopped by SIGTERM at epoch 0, step 3" in done.stderr
    assert done.stderr.count("stopped by") == 1
    assert "Traceback" not in done.stderr
    assert torch.load(LAST, weights_only=True)["global_step"] == 3


def test_without_checkpoints_it_says_so(capsys):
    name = config("on_train_batch_end", signal.SIGTERM, 1)
    assert main(["fit", "--config", name, "--trainer.enable_checkpointing", "false"]) == 143
    assert capsys.readouterr().err.endswith(
        ": nothing was saved: trainer.enable_checkpointing is false\n"
    )
