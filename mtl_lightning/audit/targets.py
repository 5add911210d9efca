"""Targets in files: whether a sample can be used, and what is in it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.target_files import TargetFiles
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.progress import ProgressBar

READ = 200
"""Number of files of a task that are read, unless all are."""


@dataclass(frozen=True)
class TargetSurvey:
    """What a sample of the target files of a task holds.

    Attributes:
        total: Number of labelled images.
        read: Number of files that were read.
        summary: What they hold in words, see `Task.summary`.
        unusable: Errors of those that cannot be used.
        void: Names of those that hold no label.
    """

    total: int
    read: int
    summary: list[str]
    unusable: list[str]
    void: list[str]


def survey_targets(
    data: PartialLabels,
    task: str,
    labelled: npt.NDArray[np.int64],
    seed: int,
    everything: bool,
    progress: ProgressBar,
) -> TargetSurvey:
    """Read target files of a task.

    Args:
        data: The data module, with its table.
        task: A task that loads its targets.
        labelled: The rows that name a file of it.
        seed: The seed of the sample.
        everything: Read all of them instead.
        progress: The progress bar.
    """
    own, table = data.tasks[task], data.labels.table
    files = TargetFiles(task, own, table, data.size, data.max_pixels)
    order = np.random.default_rng(seed).permutation(labelled)
    rows = sorted((order if everything else order[:READ]).tolist())
    found, unusable, void = [], [], []
    for row in progress.track(rows, len(rows), f"reading targets of {task}"):
        try:
            target = files.read(row)
        except UserError as error:
            unusable.append(str(error))
            continue
        if own.has_label(target):
            found.append(target)
        else:
            void.append(files.name(row))
    return TargetSurvey(len(labelled), len(rows), own.summary(found), unusable, void)


def findings(task: str, survey: TargetSurvey) -> list[Finding]:
    """Return files that cannot be used, or that hold no label."""
    found = []
    if survey.unusable:
        what = f"task {task}: {len(survey.unusable):,} of the {survey.read:,} target files"
        more = " (--all reads every one)" * (survey.read < survey.total)
        fix = f"correct the task or replace the files{more}"
        places = tuple(survey.unusable)
        found.append(Finding(Level.ERROR, f"{what} read cannot be used", fix, places))
    if survey.void:
        what = f"task {task}: {len(survey.void):,} of the {survey.read:,} target files read"
        fix = "their images count as unlabelled"
        found.append(Finding(Level.WARNING, f"{what} hold no label", fix, tuple(survey.void)))
    return found
