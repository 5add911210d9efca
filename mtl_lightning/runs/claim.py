"""The folder that a command writes to: a new one is exclusive, and one process trains in it."""

import contextlib
import itertools
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from mtl_lightning.runs.folder import versions
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_write

PATIENCE = 120.0
"""Seconds for the first process of a launch to name the folder: a shared disk may be slow."""

LINGERING = 8.0
"""Seconds for which loader processes may outlive a training that was killed."""

_DECIDED = "MTL_LIGHTNING_RUN"
_LAUNCH = ".launch"
_LOCK = ".lock"
_KEPT = ("checkpoints", "metrics.csv", "bad_images.csv")


class Claim(NamedTuple):
    """The folder of a run, and the folders that this process made.

    Attributes:
        folder: The folder to write to.
        made: Folders that this process made, from the innermost outwards.
        lock: Held while this process trains.
    """

    folder: Path
    made: tuple[Path, ...] = ()
    lock: FileLock | None = None

    def end(self, failed: bool) -> None:
        """Release the folder, and remove folders that this process made and that are not needed.

        Args:
            failed: Whether the command failed: then a new run without checkpoint, metrics and list
                of bad images is removed. Otherwise only empty folders are.
        """
        if self.lock is not None:
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.lock.release()
        if not self.made:
            return
        if failed and not any((self.folder / name).exists() for name in _KEPT):
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / _LAUNCH).unlink(missing_ok=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def claim(root: Path, name: str, checkpoint: Path | None, trains: bool) -> Claim:
    """Return the folder that this command writes to.

    It is the checkpoint's own run, if it belongs to one, so that a resumed training continues in
    its folder and the results of a test are next to its checkpoint; otherwise a new version, made
    here.

    Args:
        root: The folder of all runs.
        name: The name of the run.
        checkpoint: The checkpoint that the command starts from.
        trains: Whether the command trains, which only one process at a time does in a folder.

    Raises:
        OSError: If no folder can be made.
        UserError: If another process trains there, or the first of this launch names no folder.
    """
    # Processes that Lightning starts for further ranks run this same line again, after the first
    # has started to write: they inherit its decision.
    if _DECIDED in os.environ and "LOCAL_RANK" in os.environ:
        return Claim(Path(os.environ[_DECIDED]))
    launch, rank = _launch()
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        claimed = Claim(checkpoint.parent.parent)
    elif rank:
        claimed = Claim(_claimed_by(launch, root, name))
    else:
        claimed = _make(root, name)
        if launch:
            with atomic_write(claimed.folder / _LAUNCH) as file:
                file.write(launch)
    if trains and not rank:
        claimed = claimed._replace(lock=_lock(claimed.folder))
    os.environ[_DECIDED] = str(claimed.folder)
    return claimed


def _make(root: Path, name: str) -> Claim:
    """Make the next version; `mkdir` fails if it exists, so that it belongs to this process."""
    parent = root / name
    newest = versions(root, name)[:1]
    first = int(newest[0].name.removeprefix("version_")) + 1 if newest else 0
    made: list[Path] = []
    for number in itertools.count(first):
        folder = parent / f"version_{number}"
        while True:
            made += [path for path in (parent, *parent.parents) if not path.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.mkdir()
            except FileNotFoundError:  # another command has just removed the empty parent
                continue
            except FileExistsError:
                break
            return Claim(folder, (folder, *dict.fromkeys(made)))
    raise AssertionError  # the numbers never run out


def _lock(folder: Path) -> FileLock | None:
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=LINGERING)
    except Timeout:
        raise UserError(
            f"run {folder} is being trained by another process; wait for it, or leave ckpt_path "
            f"out to start a new run"
        ) from None
    except (OSError, NotImplementedError):  # a disk without locks
        return None
    return lock


def _launch() -> tuple[str, int]:
    """Return the name of the launch that started this process among others, and its rank.

    It is empty if this process is alone, or starts the others itself. The processes are not
    connected yet: they agree through a file.
    """
    env = os.environ
    address = f"{env.get('MASTER_ADDR')}:{env.get('MASTER_PORT')}"
    if "TORCHELASTIC_RUN_ID" in env:
        attempt = env.get("TORCHELASTIC_RESTART_COUNT", "0")
        return f"torchrun {env['TORCHELASTIC_RUN_ID']} {address} {attempt}", int(env["RANK"])
    if int(env.get("SLURM_NTASKS") or 1) > 1 and "SLURM_PROCID" in env:
        step = f"{env.get('SLURM_JOB_ID')}.{env.get('SLURM_STEP_ID')}"
        return f"slurm {step} {env.get('SLURM_RESTART_COUNT', '0')}", int(env["SLURM_PROCID"])
    if "MASTER_ADDR" in env and "NODE_RANK" in env:
        return f"node {address}", int(env["NODE_RANK"])
    return "", 0


def _claimed_by(launch: str, root: Path, name: str) -> Path:
    """Wait for the folder that the first process of a launch has made.

    It is still empty: a run writes only after all its processes are connected. So a folder that an
    earlier launch of the same name left behind is not mistaken for it.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for run in versions(root, name):
            mark = run / _LAUNCH
            with contextlib.suppress(OSError):
                is_new = set(os.listdir(run)) <= {_LAUNCH, _LOCK}
                if is_new and mark.read_text(encoding="utf-8") == launch:
                    return run
        time.sleep(0.1)
    raise UserError(
        f"{root / name} should hold the run folder that the first process of this launch made. "
        f"Found none in {PATIENCE:.0f} seconds; let all processes start in one shared folder"
    )
