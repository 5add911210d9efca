"""The facts of a run, as typed records: what ``run.json`` holds and every view reads.

Fields are numbers, texts, lists, dicts with text keys and further records, so that `run_file` can
write and read them by their annotations. Times are ISO 8601 in UTC, ``by split`` is a dict with
the keys ``train``, ``val`` and ``test``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mtl_lightning.tasks.plot_records import PlotRecord
from mtl_lightning.tasks.results import Results


@dataclass
class TaskFacts:
    """A task.

    Attributes:
        kind: The name of its class.
        primary: The name of its primary metric.
    """

    kind: str
    primary: str


@dataclass
class LabelCounts:
    """Images of a source, or of all.

    Attributes:
        images: Distinct images by split.
        labelled: Task to the images that carry a label of it, by split. A task for which the source
            has no column is left out.
    """

    images: dict[str, int]
    labelled: dict[str, dict[str, int]]


@dataclass
class MergedCounts:
    """What was merged.

    Attributes:
        sources: The counts of each source; what two sources have counts in both.
        total: The counts of the merged images.
    """

    sources: dict[str, LabelCounts]
    total: LabelCounts


@dataclass
class Parameters:
    """Numbers of parameters.

    Attributes:
        total: Of everything in the checkpoint, the balancing's own included.
        trained: Those that are not frozen.
        backbone: Everything but the heads.
        heads: Of each task's head.
    """

    total: int
    trained: int
    backbone: int
    heads: dict[str, int]


@dataclass
class Sizes:
    """What the network takes and what a step is made of.

    Attributes:
        parameters: Of the network.
        image: Height and width, in pixels.
        batch_size: Images per device and micro-batch.
        devices: Processes that take part.
        accumulate: Micro-batches per step.
    """

    parameters: Parameters
    image: list[int]
    batch_size: int
    devices: int
    accumulate: int


@dataclass
class Session:
    """One command that worked on the run; each time it was resumed is one of its own.

    Attributes:
        command: ``fit``, ``validate`` or ``test``.
        started: When.
        versions: Of python, torch, pytorch_lightning and mtl_lightning.
        device: What it ran on.
        precision: ``trainer.precision``.
        git: The revision of the current folder, with ``-dirty`` where files differ from it.
        resumed_step: The optimizer steps that were made before, where a checkpoint was resumed.
        ended: When; ``None`` while it runs, or where it was killed.
        outcome: ``finished``, ``stopped`` (by a signal) or ``failed``, once it has ended.
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
    """An epoch of training that has ended.

    Attributes:
        epoch: Its number, from 0.
        step: The optimizer steps that were made by its end.
        seconds: What it took, validations included; of an epoch that was resumed, since then.
        waiting: Share of the training time that went into waiting for data.
        results: Of the training images, without the values of single labels (``metric/label``),
            which are in ``metrics.csv``.
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
        step: The optimizer steps that were made before it.
        results: Of the validation images, without the values of single labels.
    """

    epoch: int
    step: int
    results: Results


@dataclass
class Checkpoint:
    """A checkpoint that was written.

    Attributes:
        step: The optimizer steps that were made before.
        value: Of the metric that is monitored; ``None`` where it is not why it was written.
    """

    step: int
    value: float | None = None


@dataclass
class Checkpoints:
    """The checkpoints of the run, and how the best is chosen.

    Attributes:
        monitor: The logged name.
        mode: ``max`` or ``min``.
        best: Of ``best.ckpt``.
        last: Of ``last.ckpt``.
    """

    monitor: str
    mode: str
    best: Checkpoint | None = None
    last: Checkpoint | None = None

    def update(self, written: Mapping[str, Checkpoint]) -> None:
        """Take what this session has written, by ``best`` and ``last``."""
        self.best = written.get("best", self.best)
        self.last = written.get("last", self.last)


@dataclass
class Evaluation:
    """The last evaluation of a split.

    Attributes:
        command: ``fit``, ``validate`` or ``test``.
        time: When it ended.
        step: The optimizer steps that the training had made, in ``fit``.
        weights: The file name of the checkpoint, in the other commands.
        results: Of every task, the values of single labels included.
        plots: The data behind each task's plot.
    """

    command: str
    time: str
    step: int | None
    weights: str | None
    results: Results
    plots: dict[str, PlotRecord] = field(default_factory=dict)


@dataclass
class RunFacts:
    """Everything that is kept of a run.

    Attributes:
        name: Of the run.
        version: Its folder's name.
        tasks: The tasks by name.
        merged: What was merged for training.
        notes: What ``fit`` noted.
        sizes: Of the training.
        sessions: The commands that worked on the run, in order.
        epochs: The epochs that have ended, in order.
        validations: The validations within the training, in order.
        checkpoints: What was written.
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
        """Add an epoch; it replaces what an earlier session recorded from there on."""
        self.epochs = [*(e for e in self.epochs if e.epoch < epoch.epoch), epoch]

    def add_validation(self, validation: Validation) -> None:
        """Add a validation; it replaces what an earlier session recorded from there on."""
        earlier = [v for v in self.validations if v.step < validation.step]
        self.validations = [*earlier, validation]

    def rewind(self, step: int) -> None:
        """Forget what was recorded after a number of optimizer steps, from which training goes on.

        What was recorded at exactly this step stays: it is replaced if it is measured again.
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
