"""If one of the processes of a command fails, all end, with its exit status and its message.

Lightning starts a process for each rank but the first, and kills the first one if another fails:
the command then ends with the status of SIGKILL, and each rank reports its broken connection to the
others. torchrun's own agent prints a page instead of the message, and needs the number of processes
before the config is read. So the first process takes the message and the status of the one that
failed, and the others leave their message to it: one reports for all.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mtl_lightning.system.errors import UserError, one_line
from mtl_lightning.system.lightning_internals import (
    ChildProcessObserver,
    observe_processes_with,
    release_processes,
)

PATIENCE = 5.0
"""Seconds until a process that failed is noticed, and until one that waits for it is ended."""

_MESSAGES = "MTL_LIGHTNING_RANK_MESSAGES"
"""Environment variable with the prefix of the files to which ranks 1, 2, ... write their line."""


class Observer(ChildProcessObserver):
    """Ends the first process after another has failed, if it does not end by itself."""

    def on_failure(self) -> None:
        """End this process, which waits for the one that failed, with its status and message."""
        time.sleep(PATIENCE)
        if self.processes:  # none are left where `final_error` has come first
            status, message = _failure(self.processes) or (1, "")
            _kill(self.processes)
            sys.stderr.write(f"error: {message}\n" if message else "")
            sys.stderr.flush()
            os._exit(status)


def prepare(run: Path) -> None:
    """Prepare for starting processes.

    Args:
        run: The folder of the run.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ[_MESSAGES] = str(run / ".rank_")
    observe_processes_with(Observer)


def final_error(error: Exception) -> BaseException:
    """Return the exception with which this process should end, after it failed with ``error``.

    The first process ends all others.
    """
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank != "0" and _MESSAGES in os.environ:
        if isinstance(error, UserError):
            _message_file(rank).write_text(one_line(str(error)), encoding="utf-8")
            return SystemExit(2)
        if _is_lost_connection(error):
            time.sleep(2 * PATIENCE)  # the first process will have ended this one by then
        return error
    others = release_processes()
    failure = _failure(others, PATIENCE) if others and _is_lost_connection(error) else None
    _kill(others)
    if failure is None:
        return error
    status, message = failure
    return UserError(message) if message else SystemExit(status)


def _message_file(rank: int | str) -> Path:
    return Path(f"{os.environ[_MESSAGES]}{rank}")


def _is_lost_connection(error: Exception) -> bool:
    """Whether an error is that the connection to another process failed."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _failure(others: list[subprocess.Popen[Any]], patience: float = 0.0) -> tuple[int, str] | None:
    """Return the exit status of another process that failed, and its message if it left one."""
    end = time.monotonic() + patience
    while True:
        for rank, other in enumerate(others, start=1):
            status = other.poll()
            if status:
                if _message_file(rank).exists():
                    return status, _message_file(rank).read_text(encoding="utf-8")
                if status < 0:
                    name = signal.Signals(-status).name
                    return 2, f"the process of rank {rank} was ended by {name}"
                return status, ""  # its traceback is on stderr
        if time.monotonic() > end:
            return None
        time.sleep(0.1)


def _kill(others: list[subprocess.Popen[Any]]) -> None:
    for rank, other in enumerate(others, start=1):
        other.kill()
        other.wait()
        _message_file(rank).unlink(missing_ok=True)
