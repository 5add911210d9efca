"""The facts of a run as typed records: the content of ``run.json``, which every view reads.

Fields are numbers, texts, lists, dicts with text keys and further records, so that `run_file` can
write and read them by their annotations. Times are ISO 8601 in UTC, ``by split`` is a dict with
the keys ``train``, ``val`` and ``test``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mtl_lightning.runs.folder import BEST_OF
from mtl_lightning.tasks.plot_records import PlotRecord
from mtl_lightning.tasks.results import Results


@dataclass
class TaskFacts:
    """The kind of a task.

    Attributes:
        kind: The name of its class.
        primary: The name of its primary metric.
    """

    kind: str
    primary: str


@dataclass
class LabelCounts:
    """Numbers of images of a source, or of all.

    Attributes:
        images: Number of distinct images by split.
        labelled: Task to the number of images with a label of it, by split. Tasks for which the
            source has no column are left out.
    """

    images: dict[str, int]
    labelled: dict[str, dict[str, int]]


@dataclass
class MergedCounts:
    """The merged data.

    Attributes:
        sources: The counts of each source; what two sources share is counted in both.
        total: The counts of the merged images.
    """

    sources: dict[str, LabelCounts]
    total: LabelCounts


@dataclass
class Parameters:
    """Numbers of parameters.

    Attributes:
        total: All parameters in the checkpoint, including those of the balancing.
        trained: The parameters that are not frozen.
        backbone: All parameters but the heads'.
        heads: The parameters of each task's head.
    """

    total: int
    trained: int
    backbone: int
    heads: dict[str, int]


@dataclass
class Sizes:
    """Sizes of the network, its images and a step.

    Attributes:
        parameters: Numbers of parameters.
        image: Height and width, in pixels; empty if no image is read.
        batch_size: Images per device and micro-batch.
        devices: Number of processes.
        accumulate: Micro-batches per step.
    """

    parameters: Parameters
    image: list[int]
    batch_size: int
    devices: int
    accumulate: int


@dataclass
class Session:
    """One command that worked on the run; resuming a run starts a new session.

    Attributes:
        command: ``fit``, ``validate`` or ``test``.
        started: When it started.
        versions: Versions of python, torch, pytorch_lightning and mtl_lightning.
        device: The device it ran on.
        precision: ``trainer.precision``.
        git: The revision of the current folder, with ``-dirty`` if files differ from it.
        resumed_step: The optimizer steps of the checkpoint that it resumed, if any.
        ended: When it ended; ``None`` while it runs, or if it was killed.
        outcome: ``finished``, ``stopped`` (by a signal) or ``failed``, after its end.
    """

    command: str
    started: str
    versions: dict[str, str]
    device: str
    precision: str
    git: str | None = None
    resumed_step: int | None = None
    ended: str | None = None
    outcome: str | None = None


@dataclass
class Epoch:
    """A finished epoch of training.

    Attributes:
        epoch: Its number, from 0.
        step: The number of optimizer steps at its end.
        seconds: Its duration, including validations; of a resumed epoch, since it was resumed.
        waiting: Share of the training time spent waiting for data.
        results: Results on the training images, without the values of single labels
            (``metric/label``), which are in ``metrics.csv``.
    """

    epoch: int
    step: int
    seconds: float
    waiting: float | None
    results: Results


@dataclass
class Validation:
    """A validation within the training.

    Attributes:
        epoch: The epoch that it was part of.
        step: The number of optimizer steps before it.
        results: Results on the validation images, without the values of single labels.
    """

    epoch: int
    step: int
    results: Results


@dataclass
class Checkpoint:
    """A written checkpoint.

    Attributes:
        step: The number of optimizer steps before it.
        value: The value that it was chosen by (of the monitored metric, or the task's score;
            smoothed with ``checkpoint.smooth``); ``None`` for ``last.ckpt``.
    """

    step: int
    value: float | None = None


@dataclass
class Checkpoints:
    """The checkpoints of the run, and how the best is chosen.

    Attributes:
        monitor: The logged name.
        mode: ``max`` or ``min``.
        best: ``best.ckpt``.
        last: ``last.ckpt``.
        tasks: ``best-<task>.ckpt`` by task, with ``checkpoint.per_task``.
    """

    monitor: str
    mode: str
    best: Checkpoint | None = None
    last: Checkpoint | None = None
    tasks: dict[str, Checkpoint] = field(default_factory=dict)

    def update(self, written: Mapping[str, Checkpoint]) -> None:
        """Add what this session has written, by name without ``.ckpt``."""
        self.best = written.get("best", self.best)
        self.last = written.get("last", self.last)
        for name, own in written.items():
            if name.startswith(BEST_OF):
                self.tasks[name.removeprefix(BEST_OF)] = own


@dataclass
class ColumnImportance:
    """How far a task's primary metric drops if the cells of a column are shuffled over the rows.

    Attributes:
        mean: The mean over repeats.
        deviation: Their standard deviation.
        drops: The drop of each repeat.
    """

    mean: float
    deviation: float
    drops: list[float]


@dataclass
class Example:
    """A row of a split with its label and answer.

    Attributes:
        name: The name of the image, the same on all machines.
        location: Its row in a table: ``type.csv row 17``.
        score: How wrong, or how doubtful, the answer is.
        label: The label, as it is written in the table.
        answer: The answer.
        columns: Some columns that the network reads, by name.
        picture: A thumbnail, a JPEG file in base64; empty if there is none.
        why: Why there is none.
    """

    name: str
    location: str
    score: float
    label: str
    answer: str
    columns: dict[str, str]
    picture: str = ""
    why: str = ""


FEW_LABELS = 30
"""Results over fewer labels are not much more than chance."""


@dataclass
class SliceResults:
    """The results of a task over some rows of a split.

    Attributes:
        name: The source, or the value or values of the column; None for rows without a value.
        values: ``n_labelled`` and, unless it is 0, the metrics, without those of single labels.
    """

    name: str | None
    values: dict[str, float]

    @property
    def title(self) -> str:
        """The name, for a reader."""
        return "no value" if self.name is None else self.name

    @property
    def is_small(self) -> bool:
        """Whether there are few labels."""
        return self.values["n_labelled"] < FEW_LABELS


@dataclass
class Evaluation:
    """The last evaluation of a split.

    Attributes:
        command: ``fit``, ``validate`` or ``test``.
        time: When it ended.
        step: The number of optimizer steps so far, in ``fit``.
        weights: The file name of the checkpoint, in the other commands.
        results: Results of every task, including the values of single labels.
        plots: The data behind each task's plot.
        reliability: The data behind the reliability diagram of each calibrated task.
        importance: Task to column to its importance, with ``--importance``.
        sources: Task to the results of each source, if several label it.
        slices: Task to column (``data.slices``) to the results of each of its slices.
        mistakes: Task to its worst mistakes, the worst first.
        doubts: Task to its most doubtful answers, likewise.
    """

    command: str
    time: str
    step: int | None
    weights: str | None
    results: Results
    plots: dict[str, PlotRecord] = field(default_factory=dict)
    reliability: dict[str, PlotRecord] = field(default_factory=dict)
    importance: dict[str, dict[str, ColumnImportance]] = field(default_factory=dict)
    sources: dict[str, list[SliceResults]] = field(default_factory=dict)
    slices: dict[str, dict[str, list[SliceResults]]] = field(default_factory=dict)
    mistakes: dict[str, list[Example]] = field(default_factory=dict)
    doubts: dict[str, list[Example]] = field(default_factory=dict)


@dataclass
class TaskCourse:
    """A task's primary metric in the course of a training, on the validation images.

    Attributes:
        last: Its last value.
        best: Its best value.
        best_epoch: The epoch of that.
        chosen: Its value in the validation after which ``best.ckpt`` was written; None if it was
            not, or the task was undefined there.
        chosen_epoch: The epoch of that validation.
    """

    last: float
    best: float
    best_epoch: int
    chosen: float | None
    chosen_epoch: int | None


@dataclass
class RunFacts:
    """All facts of a run.

    Attributes:
        name: The name of the run.
        version: The name of its folder.
        tasks: The tasks by name.
        merged: The merged data of the training.
        notes: The notes of ``fit``.
        sizes: The sizes of the training.
        sessions: The commands that worked on the run, in order.
        epochs: The finished epochs, in order.
        validations: The validations within the training, in order.
        checkpoints: The written checkpoints.
        evaluations: Split to its last evaluation.
    """

    name: str
    version: str
    tasks: dict[str, TaskFacts] = field(default_factory=dict)
    merged: MergedCounts | None = None
    notes: list[str] = field(default_factory=list)
    sizes: Sizes | None = None
    sessions: list[Session] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    checkpoints: Checkpoints | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    def add_epoch(self, epoch: Epoch) -> None:
        """Add an epoch, replacing what an earlier session recorded from there on."""
        self.epochs = [*(e for e in self.epochs if e.epoch < epoch.epoch), epoch]

    def add_validation(self, validation: Validation) -> None:
        """Add a validation, replacing what an earlier session recorded from there on."""
        earlier = [v for v in self.validations if v.step < validation.step]
        self.validations = [*earlier, validation]

    def rewind(self, step: int) -> None:
        """Drop what was recorded after a number of optimizer steps, from which training resumes.

        Records at exactly this step stay: they are replaced if they are measured again.
        """
        self.epochs = [epoch for epoch in self.epochs if epoch.step <= step]
        self.validations = [each for each in self.validations if each.step <= step]

    def best(self) -> dict[str, float]:
        """Return the best value so far of each task's primary metric on the validation images."""
        best: dict[str, float] = {}
        for validation in self.validations:
            for task, values in validation.results.tasks.items():
                value = values.get(self.tasks[task].primary, math.nan)
                if value > best.get(task, -math.inf):
                    best[task] = value
        return best

    def courses(self) -> dict[str, TaskCourse]:
        """Return each task's last, best and chosen values; nothing before a second validation."""
        if len(self.validations) < 2:
            return {}
        best = self.checkpoints.best if self.checkpoints is not None else None
        at = [v for v in self.validations if best is not None and v.step == best.step]
        courses = {}
        for task, kind in self.tasks.items():

            def value(each: Validation, task: str = task, primary: str = kind.primary) -> float:
                return each.results.tasks.get(task, {}).get(primary, math.nan)

            known = [each for each in self.validations if math.isfinite(value(each))]
            if not known:
                continue
            top = max(known, key=value)
            chosen = value(at[-1]) if at else math.nan
            courses[task] = TaskCourse(
                last=value(known[-1]),
                best=value(top),
                best_epoch=top.epoch,
                chosen=chosen if math.isfinite(chosen) else None,
                chosen_epoch=at[-1].epoch if at else None,
            )
        return courses

    def adopt(self, other: "RunFacts") -> None:
        """Take over sessions and evaluations that are newer in another record of this run."""
        sessions = {session.started: session for session in self.sessions}
        for session in other.sessions:
            if session.started not in sessions or session.ended is not None:
                sessions[session.started] = session
        self.sessions = [sessions[started] for started in sorted(sessions)]
        for split, evaluation in other.evaluations.items():
            if split not in self.evaluations or self.evaluations[split].time < evaluation.time:
                self.evaluations[split] = evaluation
