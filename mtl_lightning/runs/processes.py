"""When one of the processes of a command fails all end, with its exit status and its one line.

Lightning starts a process for each rank but the first, and kills the first if another fails. Left
to themselves the others say what became of their connection to it, or wait for it without end.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning.strategies.launchers import subprocess_script

from mtl_lightning.system.errors import UserError, one_line

PATIENCE = 5.0
"""Seconds in which a process that failed is found to have, or one that waits for it may end."""

_SAYS = "MTL_LIGHTNING_RANK_SAYS"
"""Begins the names of the files to which the processes that the first one starts write a line."""


class _Observer(_ChildProcessObserver):
    """Ends the first process as another ended, if it does not see to that by itself."""

    def _terminate_all(self) -> None:
        time.sleep(PATIENCE)
        others = self._child_processes
        if others:  # no longer, where `settle` has come first
            status, said = _met(others) or (1, "")
            _kill(others)
            sys.stderr.write(f"error: {said}\n" if said else "")
            sys.stderr.flush()
            os._exit(status)


def prepare(run: Path) -> None:
    """Get ready to start processes.

    Args:
        run: The folder of the run.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ[_SAYS] = str(run / ".rank_")
    # A name in the module from which Lightning's launcher calls it.
    subprocess_script._launch_process_observer = _observe


def settle(error: Exception) -> BaseException:
    """Return with what this process, which failed, should end: one of all speaks for all.

    Args:
        error: What it failed with.
    """
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank != "0" and _SAYS in os.environ:
        if isinstance(error, UserError):
            Path(f"{os.environ[_SAYS]}{rank}").write_text(one_line(str(error)), encoding="utf-8")
            return SystemExit(2)
        if _by_another(error):
            time.sleep(2 * PATIENCE)  # the first process will have ended this one by then
        return error
    others = []
    for observer in threading.enumerate():
        if isinstance(observer, _Observer):
            others += observer._child_processes
            observer._child_processes = []  # it has nothing more to do
    met = _met(others, PATIENCE) if others and _by_another(error) else None
    _kill(others)
    if met is None:
        return error
    status, said = met
    return UserError(said) if said else SystemExit(status)


def _observe(child_processes: list[subprocess.Popen[Any]]) -> None:
    _Observer(main_pid=os.getpid(), child_processes=child_processes).start()


def _by_another(error: Exception) -> bool:
    """Whether an error says that the connection to another process failed."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _met(others: list[subprocess.Popen[Any]], patience: float = 0.0) -> tuple[int, str] | None:
    """Return the exit status of another process that failed, and what it left to be said."""
    end = time.monotonic() + patience
    while True:
        for rank, other in enumerate(others, start=1):
            status = other.poll()
            if status:
                path = Path(f"{os.environ[_SAYS]}{rank}")
                if path.exists():
                    return status, path.read_text(encoding="utf-8")
                if status < 0:
                    name = signal.Signals(-status).name
                    return 2, f"the process of rank {rank} was ended by {name}"
                return status, ""  # it has said why
        if time.monotonic() > end:
            return None
        time.sleep(0.1)


def _kill(others: list[subprocess.Popen[Any]]) -> None:
    for rank, other in enumerate(others, start=1):
        other.kill()
        other.wait()
        Path(f"{os.environ[_SAYS]}{rank}").unlink(missing_ok=True)
