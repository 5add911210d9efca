"""The folder of a run: ``<root>/<name>/version_<n>/``, and finding ``best`` and ``last`` in it."""

import os
import re
import shutil
from pathlib import Path

from mtl_lightning.system.errors import UserError, listed

ALIASES = ("best", "last")
_DECIDED = "MTL_LIGHTNING_RUN"
_JOB = "slurm_job"


def versions(root: Path, name: str) -> list[Path]:
    """Return the run folders of ``name``, the newest first."""
    numbered = {
        int(match.group(1)): path
        for path in (root / name).glob("version_*")
        if (match := re.fullmatch(r"version_(\d+)", path.name)) and path.is_dir()
    }
    return [numbered[number] for number in sorted(numbered, reverse=True)]


def resolve_checkpoint(spec: str, root: Path, name: str) -> Path:
    """Return what ``best``, ``last`` or a path means; `checkpoint.read` tells what is in it.

    Raises:
        UserError: If there is nothing.
    """
    if spec not in ALIASES:
        path = Path(spec)
        if not path.exists():
            raise UserError(
                f"ckpt_path {spec}: no such file; expected a checkpoint file, or one of "
                f"{listed(ALIASES)}"
            )
        return path
    for run in versions(root, name):
        path = run / "checkpoints" / f"{spec}.ckpt"
        if path.is_file():
            return path
    others = sorted(p.name for p in root.glob("*") if versions(root, p.name))
    hint = f"; runs there: {listed(others)} (choose with --name)" if others else ""
    raise UserError(
        f"ckpt_path {spec}: no {spec}.ckpt in any run under {root / name}{hint}; "
        f"train first with `mtl-lightning fit`, or give the path of a checkpoint"
    )


def mark_job(run: Path) -> None:
    """Write down which SLURM job trains here, so that it finds its run when it is requeued."""
    run.mkdir(parents=True, exist_ok=True)
    (run / _JOB).write_text(os.environ["SLURM_JOB_ID"], encoding="utf-8")


def requeued_checkpoint(root: Path, name: str) -> Path | None:
    """Return where a requeued SLURM job goes on: its ``last.ckpt``, if it came that far."""
    if not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    job = os.environ.get("SLURM_JOB_ID")
    for run in versions(root, name):
        mark, path = run / _JOB, run / "checkpoints" / "last.ckpt"
        if mark.is_file() and mark.read_text(encoding="utf-8") == job and path.is_file():
            return path
    return None


def run_folder(root: Path, name: str, checkpoint: Path | None) -> Path:
    """Return the folder that this command writes to.

    It is the checkpoint's own run, if it lies in one, so that a resumed training goes on where it
    stopped and a test stands beside what it tests; else the next free version.
    """
    # Processes that Lightning starts for further ranks run this same line again, after the first
    # has begun to write: they inherit what it decided.
    if _DECIDED in os.environ and "LOCAL_RANK" in os.environ:
        return Path(os.environ[_DECIDED])
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        folder = checkpoint.parent.parent
    else:
        newest = versions(root, name)[:1]
        number = int(newest[0].name.removeprefix("version_")) + 1 if newest else 0
        folder = root / name / f"version_{number}"
    os.environ[_DECIDED] = str(folder)
    return folder


def discard(run: Path, root: Path) -> None:
    """Remove the folder of a run that failed before it trained, and the empty ones above it.

    A run with a checkpoint, with metrics or with a list of bad images stays.
    """
    if any((run / name).exists() for name in ("checkpoints", "metrics.csv", "bad_images.csv")):
        return
    shutil.rmtree(run, ignore_errors=True)
    for folder in (run.parent, root):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
