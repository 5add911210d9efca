"""The whole audit of one config, as one object for terminal and page."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mtl_lightning.audit import (
    copies,
    images,
    inputs,
    label_checks,
    sides,
    survey,
    targets,
)
from mtl_lightning.audit.absence_odds import Absence, StepSize
from mtl_lightning.audit.copies import Copies
from mtl_lightning.audit.findings import Finding, Level, ordered
from mtl_lightning.audit.images import ImageSurvey
from mtl_lightning.audit.label_counts import label_counts
from mtl_lightning.audit.targets import TargetSurvey
from mtl_lightning.data.copies import find_copies
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.runs.facts import MergedCounts
from mtl_lightning.system.errors import SourceError, UserError
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.tasks import Encoded


@dataclass
class Report:
    """The audit of a config.

    Attributes:
        name: The name of the config.
        data: The data module; its table is the one that was audited.
        size: The size of a step.
        table: The merged images; None if no source could be read.
        counts: Counts of the merged images; None if no source could be read.
        encoded: Task to its labels, of the tasks whose labels could be read.
        class_counts: Task to its classes by split, of the tasks that have classes.
        numbers: Column (``task``, or ``task/number``) to its labels that are numbers, of the tasks
            without classes.
        missing_inputs: Input to its missing cells by split.
        absences: Task to how often it is absent from a step.
        pair_counts: (K, K) training images that carry labels of both of two tasks.
        copies: Images that exist under several names.
        images: The survey of the images.
        targets: Task to the survey of its target files.
        findings: The findings, the worst first.
    """

    name: str
    data: PartialLabels
    size: StepSize
    table: MergedTable | None = None
    counts: MergedCounts | None = None
    encoded: dict[str, Encoded] = field(default_factory=dict)
    class_counts: dict[str, label_checks.ClassCounts] = field(default_factory=dict)
    numbers: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    missing_inputs: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    absences: dict[str, Absence] = field(default_factory=dict)
    pair_counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    copies: list[Copies] = field(default_factory=list)
    images: ImageSurvey | None = None
    targets: dict[str, TargetSurvey] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def numbers_of(self, task: str) -> dict[str, npt.NDArray[np.float64]]:
        """Return the labels of a task that are numbers, by column, without empty columns."""
        columns = self.data.labels.fields(task)
        return {name: self.numbers[name] for name in columns if len(self.numbers.get(name, ()))}

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level is level for finding in self.findings)


def audit(
    name: str,
    data: PartialLabels,
    size: StepSize,
    seed: int,
    everything: bool,
    progress: ProgressBar,
) -> Report:
    """Audit the data of a config.

    Args:
        name: The name of the config.
        data: The data module, before anything of it is read.
        size: The size of a step.
        seed: The seed of the sample of images.
        everything: Decode all images instead.
        progress: The progress bar.

    Raises:
        UserError: If there is nothing to audit: no source, or split fractions that are not in 0..1.
    """
    if not data.sources:
        raise UserError(
            "data.sources should name at least one source of labelled images. Found none"
        )
    report = Report(name, data, size)
    columns = data.labels.columns
    files = [name for name, field in columns.items() if field.names_files]
    read, found = survey.read_all(data.sources, list(columns), files)
    whole = len(read) == len(data.sources) and not found
    report.table, contradictions = survey.join(read, data.labels)
    found += contradictions
    if report.table is not None:
        data.labels.reuse(report.table)
        report.counts = label_counts(data.labels)
        found += _labels(report, whole)
        found += _targets(report, seed, everything, progress)
        found += _images(report, report.table, seed, everything, progress)
    report.findings = ordered(found)
    return report


def _labels(report: Report, whole: bool) -> list[Finding]:
    """Fill in what follows from the labels; ``whole`` if all sources could be read."""
    data = report.data
    found: list[Finding] = []
    try:
        data.labels.infer_classes()
        data.labels.learn_inputs()
        data.labels.encode()
        report.encoded = data.labels.encoded
        notes = data.labels.notes()
    except UserError as error:  # it stops at the first task; here each is checked
        notes = data.labels.table.notes()
        for name in data.tasks:
            found += _encode(report, name, whole)
        if whole and not found:  # not an error of one task's labels
            found.append(Finding(Level.ERROR, str(error)))
    table = data.labels.table
    splits = table.splits
    report.class_counts = label_checks.class_counts(data.tasks, report.encoded, splits)
    report.numbers = _numbers(report)
    report.absences = label_checks.absences(data, report.encoded, splits, report.size)
    has = np.stack([data.labels.has_label(name) for name in data.tasks])
    training = has[:, table.in_split("train")].astype(np.float64)
    report.pair_counts = (training @ training.T).astype(np.int64)
    found += [finding for name in report.encoded for finding in _unlearnable(report, name)]
    found += label_checks.absence_findings(report.absences, report.size)
    for name, counts in report.class_counts.items():
        found += label_checks.class_findings(name, counts)
        found += label_checks.minor_class_findings(name, counts)
    report.missing_inputs = inputs.missing_counts(data.labels)
    if all(column.is_known for column in data.labels.inputs.values()):
        found += inputs.giveaways(data.labels, report.numbers)
    found += sides.findings(data, report.class_counts)
    found += label_checks.remarks(data.tasks, report.encoded, splits)
    found += label_checks.time_findings(table)
    return found + [Finding(Level.NOTE, note) for note in notes]


def _encode(report: Report, name: str, whole: bool) -> list[Finding]:
    """Encode one task; return the labels that cannot be read."""
    labels = report.data.labels
    task, cells = labels.tasks[name], labels.cells(name)
    known = cells[labels.table.in_split("train") & labels.has_label(name)]
    if not len(known):
        what = f"task {name}: no label in the training split, so it could never learn"
        return [Finding(Level.ERROR, what, "label some")] if whole else []
    try:
        task.infer_classes(known)
        encoded = task.encode(cells)
    except UserError as error:
        return [Finding(Level.ERROR, f"task {name}: {error}")]
    report.encoded[name] = encoded
    return _unreadable(report, name, encoded)


def _unreadable(report: Report, name: str, encoded: Encoded) -> list[Finding]:
    places = np.argwhere(encoded.bad)
    if not len(places):
        return []
    labels, cells = report.data.labels, report.data.labels.cells(name)
    texts = [cells[tuple(place)] for place in places.tolist()]
    where = []
    for text, count in pd.Series(texts).value_counts(sort=True).items():
        place = places[texts.index(text)]
        column = labels.fields(name)[place[1] if len(place) > 1 else 0]
        first = labels.table.location(int(place[0]), column)
        where.append(f'"{text}" ({count:,}), first in {first}')
    return [
        Finding(
            Level.ERROR,
            f"task {name}: {len(places):,} labels cannot be read",
            labels.expected(name, texts[0]),
            tuple(where),
        )
    ]


def _unlearnable(report: Report, name: str) -> list[Finding]:
    """Return the error of a task that cannot learn from its labels: all are the same."""
    encoded = report.encoded[name]
    rows = report.data.labels.table.in_split("train") & (encoded.counts() > 0)
    if not rows.any():
        return []
    labels = torch.from_numpy(encoded.targets[rows]), torch.from_numpy(encoded.labelled[rows])
    try:
        report.data.tasks[name].fit_statistics(*labels)
    except UserError as error:
        return [Finding(Level.ERROR, f"task {name}: {error}")]
    return []


def _numbers(report: Report) -> dict[str, npt.NDArray[np.float64]]:
    found = {}
    for name, encoded in report.encoded.items():
        if name in report.class_counts or encoded.targets.shape != encoded.labelled.shape:
            continue
        columns = report.data.labels.fields(name)
        targets, labelled = (
            values.reshape(len(values), -1).T for values in (encoded.targets, encoded.labelled)
        )
        if len(targets) == len(columns):
            for column, own, known in zip(columns, targets, labelled, strict=True):
                found[column] = own[known].astype(np.float64)
    return found


def _targets(report: Report, seed: int, everything: bool, progress: ProgressBar) -> list[Finding]:
    """Fill in what follows from target files."""
    found: list[Finding] = []
    for name, task in report.data.tasks.items():
        if task.loads_targets and name in report.encoded:
            rows = np.flatnonzero(report.encoded[name].labelled)
            read = targets.survey_targets(report.data, name, rows, seed, everything, progress)
            report.targets[name] = read
            found += targets.findings(name, read)
    return found


def _images(
    report: Report, table: MergedTable, seed: int, everything: bool, progress: ProgressBar
) -> list[Finding]:
    """Fill in what follows from the image files."""
    if not table.has_image.any():
        return []
    try:
        survey_of_images = images.survey_images(table, seed, everything, progress)
    except SourceError as error:
        return [Finding(Level.ERROR, str(error))]
    same = find_copies(table.images.tolist(), progress)
    groups = same + survey_of_images.equal
    report.copies = copies.describe(table, groups, report.data.labels.columns)
    report.images = survey_of_images
    found = copies.findings(table, report.copies)
    return found + images.findings(survey_of_images, report.data.size, report.data.resize)


def samples(report: Report, number: int, seed: int) -> dict[str, list[int]]:
    """Choose sample images of each task: of every class, or from the least to the greatest.

    Args:
        report: The audit.
        number: Images of each task.
        seed: The seed of the choice.
    """
    chosen = {}
    for name, encoded in report.encoded.items():
        rows = np.flatnonzero(encoded.counts() > 0)
        if name in report.numbers:
            order = rows[np.argsort(encoded.targets[rows], kind="stable")]
            picked = np.linspace(0, len(order) - 1, min(number, len(order))).round()
            chosen[name] = order[picked.astype(np.int64)].tolist()
        else:
            chosen[name] = _of_each(rows, _texts(report.data.labels, name, rows), number, seed)
    return chosen


def _of_each(rows: npt.NDArray[np.int64], texts: list[str], number: int, seed: int) -> list[int]:
    """Take rows of each label in turn, the most frequent first; return them sorted by label."""
    order = np.random.default_rng(seed).permutation(len(rows))
    frame = pd.DataFrame({"row": rows[order], "text": [texts[i] for i in order]})
    frame["turn"] = frame.groupby("text").cumcount()
    frame["count"] = frame.groupby("text")["row"].transform("size")
    first = frame.sort_values(["turn", "count", "text"], ascending=[True, False, True])
    shown = first.head(number).sort_values(["text", "turn"])
    return [int(row) for row in shown["row"]]


def _texts(labels: LabelTable, task: str, rows: npt.NDArray[np.int64]) -> list[str]:
    if len(labels.fields(task)) == 1:  # a million rows one by one would take seconds
        texts: list[str] = labels.cells(task)[rows].tolist()
        return texts
    return [label_text(labels, task, row) for row in rows.tolist()]


def label_text(labels: LabelTable, task: str, row: int) -> str:
    """Return the label of an image for a task as it is written in its table."""
    cells = labels.table.cells
    texts = [(field, cells[field][row]) for field in labels.fields(task)]
    return ", ".join(
        str(cell) if field == task else f"{field.partition('/')[2]}: {cell}"
        for field, cell in texts
        if cell is not None
    )
