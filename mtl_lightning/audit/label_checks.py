"""Findings from the labels alone: the fast part of the audit, which ``fit`` runs too."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mtl_lightning.audit import sides
from mtl_lightning.audit.absence_odds import Absence, StepSize
from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.lookalikes import lookalikes
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.dates import date_text
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.splits import SPLITS, Splits
from mtl_lightning.system.errors import listed
from mtl_lightning.tasks import Encoded, Task

ABSENT = 0.2
"""Share of steps without a task above which there is a finding."""
RARELY = 0.05
"""The share that the fix should reach."""
FEW = 5
"""Number of labels of a class below which metrics are unreliable."""
NAMED = 5
"""Number of classes in a line; the finding lists all of them."""

ClassCounts = Mapping[str, npt.NDArray[np.int64]]
"""Class to its number of labels in each of the splits."""


def notes(data: PartialLabels, size: StepSize) -> list[str]:
    """Return the findings that a user should read before training, one line each.

    Args:
        data: The data module, after ``setup("fit")``.
        size: The size of a step.
    """
    encoded, splits = data.labels.encoded, data.labels.table.splits
    found = absence_findings(absences(data, encoded, splits, size), size)
    counted = class_counts(data.tasks, encoded, splits)
    for name, counts in counted.items():
        found += class_findings(name, counts)
    found += sides.findings(data, counted) + remarks(data.tasks, encoded, splits)
    found += time_findings(data.labels.table)
    return [finding.line() for finding in found]


def time_findings(table: MergedTable) -> list[Finding]:
    """Return whether training sees dates later than some that are tested or validated."""
    if table.dates is None or np.isnat(table.dates[table.in_split("train")]).all():
        return []
    newest = np.nanmax(table.dates[table.in_split("train")])
    shares = []
    for split in SPLITS[1:]:
        own = table.dates[table.in_split(split)]
        earlier = int((own < newest).sum())
        if earlier:
            shares.append(f"{earlier:,} of {len(own):,} in {split}")
    if not shares:
        return []
    return [
        Finding(
            Level.WARNING,
            f"images dated before the last training image ({date_text(newest)}): "
            f"{' and '.join(shares)}; so their scores say how well gaps in the past are filled, "
            "and not how well the future is predicted",
            "`data.splits: {by: date}` trains on the past alone, without named splits and groups",
        )
    ]


def remarks(
    tasks: Mapping[str, Task], encoded: Mapping[str, Encoded], splits: Splits
) -> list[Finding]:
    """Return what the tasks find strange about their training labels."""
    training = splits == SPLITS.index("train")
    findings = []
    for name, own in encoded.items():
        rows = training & (own.counts() > 0)
        if rows.any():
            found = tasks[name].remarks(own.targets[rows], own.labelled[rows])
            findings += [Finding(Level.WARNING, f"task {name}: {s}", fix) for s, fix in found]
    return findings


def hints(tasks: Mapping[str, Task]) -> list[Finding]:
    """Return what tasks suggest about their classes."""
    found = [(name, hint) for name, task in tasks.items() if (hint := task.hint()) is not None]
    return [Finding(Level.NOTE, f"task {name}: {what}", fix) for name, (what, fix) in found]


def class_counts(
    tasks: Mapping[str, Task], encoded: Mapping[str, Encoded], splits: Splits
) -> dict[str, ClassCounts]:
    """Count the labels of each class by split; tasks without classes are left out."""
    counted = {n: tasks[n].class_counts(own, splits, len(SPLITS)) for n, own in encoded.items()}
    return {name: counts for name, counts in counted.items() if counts}


def absences(
    data: PartialLabels, encoded: Mapping[str, Encoded], splits: Splits, size: StepSize
) -> dict[str, Absence]:
    """Return how often each task is absent from a step; nothing with ``data.sampling``."""
    if data.sampling is not None:
        return {}
    training = splits == SPLITS.index("train")
    labelled = {name: training & (own.counts() > 0) for name, own in encoded.items()}
    rows = int(np.any(list(labelled.values()), axis=0).sum()) if labelled else 0
    return {name: Absence.of(rows, int(own.sum()), size) for name, own in labelled.items()}


def absence_findings(found: Mapping[str, Absence], size: StepSize) -> list[Finding]:
    """Return findings on tasks without a label in many steps."""
    findings = []
    for name, absence in found.items():
        if absence.labelled and absence.share > ABSENT:
            findings.append(
                Finding(
                    Level.WARNING,
                    f"task {name} has no label in {absence.share:.0%} of the steps "
                    f"({absence.labelled:,} of {absence.rows:,} training images carry one, "
                    f"a step takes {size.whole})",
                    _larger_step(absence, size),
                )
            )
    return findings


def _larger_step(absence: Absence, size: StepSize) -> str:
    for times in (2, 4, 8, 16, 32):
        accumulate = size.accumulate * times
        larger = StepSize(size.batch_size, size.world_size, accumulate)
        share = Absence.of(absence.rows, absence.labelled, larger).share
        if share <= RARELY:
            return f"trainer.accumulate_grad_batches {accumulate} would make it {share:.1%}"
    return "its head learns in the others only"


def class_findings(name: str, counts: ClassCounts) -> list[Finding]:
    """Return classes that cannot be learned or measured, or that are spelt in several ways.

    Args:
        name: The task.
        counts: Its classes, by split.
    """
    train, val, test = range(len(SPLITS))
    of_split = np.sum(list(counts.values()), axis=0)
    findings = []
    unseen = {c: n for c, n in counts.items() if not n[train] and n.sum()}
    if unseen:
        words = [f"{c} ({n[val]} in val, {n[test]} in test)" for c, n in unseen.items()]
        findings.append(
            Finding(
                Level.WARNING,
                f"task {name}: no training label of {len(unseen)} of {len(counts)} classes: "
                f"{listed(words, NAMED)}",
                "they cannot be learned, and what is measured of them counts as wrong",
                _unnamed(words),
            )
        )
    few = {c: int(n[val]) for c, n in counts.items() if n[train] and n[val] < FEW}
    if few and of_split[val]:
        findings.append(_few(name, "val", few, counts))
    findings += _twins(name, {c: int(n.sum()) for c, n in counts.items() if n.sum()})
    return findings


def minor_class_findings(name: str, counts: ClassCounts) -> list[Finding]:
    """Return findings that need not be read before each training: few labels in train and test."""
    train, _, test = range(len(SPLITS))
    findings = []
    nowhere = [c for c, n in counts.items() if not n.sum()]
    if nowhere:
        findings.append(
            Finding(
                Level.WARNING,
                f"task {name}: no label at all of {len(nowhere)} of {len(counts)} classes: "
                f"{listed(nowhere, NAMED)}",
                "leave them out, or correct their names",
                _unnamed(nowhere),
            )
        )
    few = {c: int(n[train]) for c, n in counts.items() if 0 < n[train] < FEW}
    if few:
        findings.append(_few(name, "train", few, counts))
    few = {c: int(n[test]) for c, n in counts.items() if n[train] and n[test] < FEW}
    if few and sum(int(n[test]) for n in counts.values()):
        findings.append(_few(name, "test", few, counts))
    return findings


def _few(name: str, split: str, few: Mapping[str, int], counts: ClassCounts) -> Finding:
    words = [f"{c} {n}" for c, n in sorted(few.items(), key=lambda item: item[1])]
    return Finding(
        Level.WARNING,
        f"task {name}: fewer than {FEW} {split} labels of {len(few)} of {len(counts)} classes: "
        f"{listed(words, NAMED)}",
        "what is measured of them says little" if split != "train" else "label more of them",
        _unnamed(words),
    )


def _unnamed(words: Sequence[str]) -> tuple[str, ...]:
    """Return all of them, unless the line names them all already."""
    return tuple(words) if len(words) > NAMED else ()


def _twins(name: str, counts: Mapping[str, int]) -> list[Finding]:
    groups = [_written(group, counts) for group in lookalikes(counts)]
    if not groups:
        return []
    return [
        Finding(
            Level.WARNING,
            f"task {name}: one class written in several ways? {listed(groups, NAMED)}",
            "if it is one, write it alike in the tables",
            _unnamed(groups),
        )
    ]


def _written(group: Sequence[str], counts: Mapping[str, int]) -> str:
    return " / ".join(f'"{value}" ({counts[value]:,})' for value in group)
