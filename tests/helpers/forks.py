"""New processes without the ten seconds of their imports: forks of one in which no test has run.

conftest.py calls `begin` before the first test; `start` and `command` ask the process that it
forked for a fork of its own. A fork knows every module that the tests import, and nothing else of
the tests' process: not its files, streams, current folder, variables and warning filters.
"""

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from pytorch_lightning.strategies.launchers import subprocess_script

from mtl_lightning.__main__ import main
from tests.helpers.quick_lightning import be_quick

_FORK = multiprocessing.get_context("fork")
_folder: "tempfile.TemporaryDirectory[str]"
"""Where the first of them listens, and where all write."""


class Request(NamedTuple):
    """A function to be called in a new process."""

    name: str
    arguments: tuple[Any, ...]
    folder: str
    environment: dict[str, str]
    output: str
    """The files of its stdout and stderr, without their endings."""


class Forked:
    """A process, like `subprocess.Popen`."""

    def __init__(self, request: Request) -> None:
        self.output = request.output
        self.returncode: int | None = None
        self.pid: int = _ask(request)

    def poll(self) -> int | None:
        """Return the status with which it has ended, minus the signal that ended it."""
        if self.returncode is None:
            self.returncode = _ask(self.pid)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """Wait for its end."""
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it if it runs."""
        self.send_signal(9)

    def written(self, stream: str = "stderr") -> str:
        """Return what it has written to ``stdout`` or ``stderr``."""
        return Path(f"{self.output}.{stream}").read_text(encoding="utf-8")


def start(name: str, *arguments: Any, environment: Mapping[str, str] | None = None) -> Forked:
    """Call a function, given by its dotted name, in a new process in the current folder."""
    output = os.path.join(tempfile.mkdtemp(dir=_folder.name), "output")
    variables = {**os.environ, **(environment or {})}
    return Forked(Request(name, arguments, os.getcwd(), variables, output))


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m mtl_lightning``; the processes that it starts are forks, too."""
    process = start(f"{__name__}._command", arguments)
    status = process.wait()
    return subprocess.CompletedProcess(
        arguments, status, process.written("stdout"), process.written("stderr")
    )


def begin() -> None:
    """Fork the process that all others are forked from."""
    global _folder
    be_quick()
    _folder = tempfile.TemporaryDirectory(prefix="forks-")
    server = socket.socket(socket.AF_UNIX)
    server.bind(_address())
    server.listen()
    alive, ours = _FORK.Pipe()
    process = _FORK.Process(target=_serve, args=(server, alive))
    process.start()
    for end in (server, alive):
        end.close()
    atexit.register(ours.close)
    atexit.register(process.join, 60)
    atexit.register(_ask, None)  # closing is not enough if a loader's workers still run


def _address() -> str:
    return os.path.join(_folder.name, "socket")


def _ask(request: Request | int | None) -> Any:
    with Client(_address()) as connection:
        connection.send_bytes(pickle.dumps(request))
        return None if request is None else pickle.loads(connection.recv_bytes())


def _serve(server: socket.socket, alive: Connection) -> None:
    """Fork a process for each request, and say how those have ended that are asked for."""
    gc.freeze()
    _leave_files({server.fileno(), alive.fileno()})
    forked = {}
    while server in wait([server, alive]):  # until the process of the tests ends
        with Connection(server.accept()[0].detach()) as connection:
            request = pickle.loads(connection.recv_bytes())
            if isinstance(request, Request):
                process = _FORK.Process(target=_call, args=(request,))
                process.start()
                forked[process.pid] = process
                answer = process.pid
            elif request is None:
                break
            else:
                answer = forked[request].exitcode
            connection.send_bytes(pickle.dumps(answer))
    for process in forked.values():
        process.kill()
    os._exit(0)


def _leave_files(kept: set[int]) -> None:
    """Let every other file be an empty one; objects from before the fork may close its number."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/dev/fd")):
        if number not in kept and number != nothing:
            with contextlib.suppress(OSError):
                os.dup2(nothing, number)


def _call(request: Request) -> None:
    global _request
    _request = request
    for number, stream in enumerate(("stdout", "stderr"), start=1):
        file = os.open(f"{request.output}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        setattr(sys, stream, os.fdopen(number, "w", buffering=1, encoding="utf-8"))
    _leave_files({1, 2})
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)  # as in any new process
    torch.set_num_threads(1)
    module, _, function = request.name.rpartition(".")
    getattr(importlib.import_module(module), function)(*request.arguments)


def _command(arguments: tuple[str, ...]) -> None:
    sys.argv = ["mtl_lightning", *arguments]
    sys.path.insert(0, os.getcwd())
    sys.modules["__main__"] = sys.modules["mtl_lightning.__main__"]
    subprocess_script.subprocess = SimpleNamespace(Popen=_another)
    sys.exit(main())


def _another(line: list[str], env: dict[str, str], cwd: None) -> Forked:
    """Start the process of another rank, as Lightning does."""
    assert line[:3] == [sys.executable, "-m", "mtl_lightning.__main__"]
    return Forked(
        _request._replace(arguments=(tuple(line[3:]),), folder=os.getcwd(), environment=env)
    )
