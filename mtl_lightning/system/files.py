"""Writing files atomically."""

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mtl_lightning.system.errors import UserError, did_you_mean

_PART = ".part"
_ABANDONED = 3600.0  # seconds


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``path``, and move it there once it is complete.

    A reader never sees half a file, and a failure, even of the machine, keeps the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return the temporary file for ``path``, unique to this process even on a shared disk."""
    return path.with_name(f".{path.name}.{os.getpid()}@{_machine()}{_PART}")


def remove_partial_files(folder: Path) -> None:
    """Remove temporary files of processes that ended while they were writing.

    Processes of another machine cannot be seen: a file that has not grown for an hour counts as
    abandoned.
    """
    for part in folder.glob(f".*{_PART}"):
        pid, _, machine = part.name.removesuffix(_PART).rpartition(".")[2].partition("@")
        with contextlib.suppress(FileNotFoundError):  # it is complete by now
            if _is_gone(pid) if machine == _machine() else _is_old(part):
                part.unlink()


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_gone(pid: str) -> bool:
    """Whether a process has ended; one with this process's own id was an earlier one."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return int(pid) == os.getpid()


def _is_old(part: Path) -> bool:
    return time.time() - part.stat().st_mtime > _ABANDONED


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[str]]:
    """Open a text file as :func:`atomic_path` does."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


def as_utf8(name: str) -> str:
    """Return a file's name as text that can be encoded: names need not be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def check_exists(path: str) -> None:
    """Raise a UserError with the nearest name if there is no such file or folder."""
    if not os.path.exists(path):
        folder, name = os.path.split(path)
        near = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        raise UserError(f"{path}: no such file or folder{did_you_mean(name, near)}")
