"""The folder of a run: ``<root>/<name>/version_<n>/``, and finding its checkpoints by name."""

import os
import re
from pathlib import Path

from mtl_lightning.system.errors import UserError, listed, quoted

ALIASES = ("best", "last")
BEST_OF = "best-"
"""The start of the name of a task's own best checkpoint, which the task's name follows."""
_JOB = "slurm_job"


def best_of(task: str) -> str:
    """Return the name of a task's own best checkpoint: ``best-<task>``."""
    return f"{BEST_OF}{task}"


def is_alias(spec: str) -> bool:
    """Whether a checkpoint is named by its role in a run: ``best``, ``last``, ``best-<task>``."""
    return spec in ALIASES or re.fullmatch(rf"{BEST_OF}[\w-]+", spec) is not None


def check_name(name: str) -> None:
    """Check that a run's name is that of one folder.

    Raises:
        UserError: If it would lead elsewhere.
    """
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(
            f"name should be that of one folder, without / and \\. Found {quoted(name)}; "
            f"set the folder of all runs by trainer.default_root_dir"
        )


def versions(root: Path, name: str) -> list[Path]:
    """Return the run folders of ``name``, the newest first."""
    numbered = {
        int(match.group(1)): path
        for path in (root / name).glob("version_*")
        if (match := re.fullmatch(r"version_(\d+)", path.name)) and path.is_dir()
    }
    return [numbered[number] for number in sorted(numbered, reverse=True)]


def resolve_checkpoint(spec: str, root: Path, name: str) -> Path:
    """Return the file of a checkpoint's name or path; its content is not checked here.

    Raises:
        UserError: If there is none.
    """
    if not is_alias(spec):
        path = Path(spec)
        if not path.exists():
            raise UserError(
                f"ckpt_path {spec}: no such file; give a checkpoint file, or one of "
                f"{listed((*ALIASES, best_of('TASK')))}"
            )
        return path
    for run in versions(root, name):
        path = run / "checkpoints" / f"{spec}.ckpt"
        if path.is_file():
            return path
    others = sorted(p.name for p in root.glob("*") if versions(root, p.name))
    hint = f"; runs there: {listed(others)} (choose with --name)" if others else ""
    first = "train first with `mtl-lightning fit`"
    if spec not in ALIASES:
        first += " and `checkpoint.per_task: true`, which keeps the best of each task"
    raise UserError(
        f"ckpt_path {spec}: no {spec}.ckpt in any run under {root / name}{hint}; "
        f"{first}, or give the path of a checkpoint"
    )


def mark_job(run: Path) -> None:
    """Record which SLURM job trains here, so that it finds its run after a requeue."""
    run.mkdir(parents=True, exist_ok=True)
    (run / _JOB).write_text(os.environ["SLURM_JOB_ID"], encoding="utf-8")


def requeued_checkpoint(root: Path, name: str) -> Path | None:
    """Return the ``last.ckpt`` from which a requeued SLURM job resumes, if it wrote one."""
    if not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    job = os.environ.get("SLURM_JOB_ID")
    for run in versions(root, name):
        mark, path = run / _JOB, run / "checkpoints" / "last.ckpt"
        if mark.is_file() and mark.read_text(encoding="utf-8") == job and path.is_file():
            return path
    return None
