import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist
from pytorch_lightning.strategies.launchers import subprocess_script

from mtl_lightning.runs import processes
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.lightning_internals import release_processes
from tests.conftest import small
from tests.helpers import forks
from tests.helpers.data import labelled_photos
from tests.helpers.files.packs import photos_packed

LOST = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1")


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """Get ready as a command does, for tests that start processes."""
    monkeypatch.setattr(subprocess_script, "_launch_process_observer", None)
    monkeypatch.setattr(processes, "PATIENCE", 0.3)
    monkeypatch.setenv("MTL_LIGHTNING_RANK_MESSAGES", "")
    processes.prepare(tmp_path)
    yield tmp_path
    for thread in threading.enumerate():
        if isinstance(thread, processes.Observer):
            processes._kill(thread.processes)
    release_processes()


def start(*codes: str) -> list[subprocess.Popen[Any]]:
    """Start a process a piece of code, as ranks 1, 2, ..."""
    others = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    subprocess_script._launch_process_observer(others)
    return others


WAITS = "import time; time.sleep(60)"


def says(rank: int, text: str) -> str:
    """Return code that fails like a rank that has something to say."""
    path = f"{os.environ['MTL_LIGHTNING_RANK_MESSAGES']}{rank}"
    return f"import sys; open({path!r}, 'w').write({text!r}); sys.exit(2)"


def test_the_first_process_says_what_it_met_and_ends_the_others():
    others, error = start(WAITS, WAITS), UserError("t.csv row 2: no")
    assert processes.final_error(error) is error
    assert [other.poll() for other in others] == [-9, -9]


def test_what_another_met_is_reported_by_the_first(run):
    others = start(WAITS, says(2, "t.csv row 2: ä"))
    error = processes.final_error(LOST)
    assert isinstance(error, UserError)
    assert str(error) == "t.csv row 2: ä"
    assert others[0].poll() == -9
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("lost", [LOST, dist.DistBackendError("NCCL error")])
def test_a_mistake_in_the_code_of_another_is_not_reported_twice(lost):
    start("raise SystemExit(7)")
    error = processes.final_error(lost)
    assert isinstance(error, SystemExit)
    assert error.code == 7


def test_a_process_that_was_killed_is_named():
    start(WAITS, "import os; os.kill(os.getpid(), 9)")
    assert str(processes.final_error(LOST)) == "the process of rank 2 was ended by SIGKILL"


def test_an_error_of_ones_own_is_not_put_down_to_others():
    error = KeyError("x")
    start("raise SystemExit(7)")[0].wait()
    assert processes.final_error(error) is error
    others = start(WAITS)
    assert processes.final_error(LOST) is LOST, "none of them has failed"
    assert others[0].poll() == -9


def test_without_others_nothing_changes():
    error = UserError("no")
    assert processes.final_error(error) is error
    assert processes.final_error(LOST) is LOST


def test_another_leaves_its_line_to_the_first(run, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    error = processes.final_error(UserError("t.csv row 2: ä\udcff"))
    assert isinstance(error, SystemExit)
    assert error.code == 2
    assert (run / ".rank_3").read_text(encoding="utf-8") == r"t.csv row 2: ä\udcff"
    begun = time.monotonic()
    assert processes.final_error(LOST) is LOST
    assert time.monotonic() - begun > 0.3, "the first should have ended it by now"
    error = KeyError("x")
    assert processes.final_error(error) is error


def test_a_rank_that_somebody_else_has_started_says_its_line_itself(run, monkeypatch):
    monkeypatch.delenv("MTL_LIGHTNING_RANK_MESSAGES")
    monkeypatch.setenv("LOCAL_RANK", "1")
    processes.prepare(run)
    error = UserError("no")
    assert processes.final_error(error) is error


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [("raise SystemExit(7)", 7, ""), ("says", 2, "error: t.csv row 2: no\n")],
)
def test_a_first_process_that_waits_for_another_without_end_is_ended(
    monkeypatch, capsys, code, status, message
):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    others = [subprocess.Popen([sys.executable, "-c", WAITS])]
    code = says(2, "t.csv row 2: no") if code == "says" else code
    others.append(subprocess.Popen([sys.executable, "-c", code]))
    others[1].wait()
    observer = processes.Observer(main_pid=0, child_processes=others)
    assert observer._run()
    assert ended == [status]
    assert others[0].poll() == -9
    assert capsys.readouterr().err == message


def test_nothing_is_ended_that_ends_by_itself(monkeypatch):
    monkeypatch.setattr("os._exit", lambda status: pytest.fail("ended"))
    observer = processes.Observer(main_pid=0, child_processes=[])
    observer.on_failure()


# ------------------------------------------------------------------- commands


TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def fitted(*arguments: str) -> tuple[int, str]:
    """Train on two ranks; return the exit status and what stands on stderr."""
    done = forks.command("fit", "--config", "small.yaml", *arguments, *TWO)
    return done.returncode, done.stderr


def of_rank(rank: int, step: int) -> int:
    """Return a row that the rank meets in the step: the seed is 3, a step has 2 x 4 rows."""
    return int(np.random.default_rng([3, 0]).permutation(18)[8 * step + rank])


def test_a_bad_image_on_one_of_two_ranks_is_one_line_and_one_status():
    row = of_rank(1, 1)
    small(labelled_photos({row: b"oops"}))
    status, message = fitted("--data.num_workers", "2")
    assert status == 2
    assert message.startswith(f"error: photos.csv row {row + 2}: image ")
    assert message.count("\n") == 1
    assert [p.name for p in Path("runs/small/version_0").iterdir() if "rank" in p.name] == []


def test_a_lost_shard_is_one_line_of_two_ranks_though_bad_images_are_skipped():
    small(photos_packed("p"))
    Path("p/shard-00001.bin").unlink()
    skip = ("--data.on_bad_image", "skip", "--data.max_bad_share", "1")
    status, message = fitted(*skip, "--data.num_workers", "2")
    lost = f"{Path('p').resolve()}: there is no shard-00001.bin"
    assert (status, message) == (2, f"error: {lost}; copy the pack again\n")
    assert [p.name for p in Path("runs/small/version_0").iterdir() if "rank" in p.name] == []


def test_too_many_bad_images_are_one_line_of_two_ranks_and_are_listed():
    rows = {of_rank(0, 0), of_rank(0, 1), of_rank(1, 1)}
    small(labelled_photos(dict.fromkeys(rows, b"oops")))
    status, message = fitted("--data.on_bad_image", "skip", "--data.max_bad_share", "0.1")
    assert status == 2
    assert message.startswith(
        "error: 3 of 18 train images could not be used, and data.max_bad_share"
    )
    assert message.count("\n") == 1
    listed = pd.read_csv("runs/small/version_0/bad_images.csv")
    assert set(listed["where"]) == {f"photos.csv row {row + 2}" for row in rows}
