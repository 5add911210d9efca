"""The worst mistakes and the most doubtful answers of each task, with thumbnails."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from mtl_lightning.audit.images import thumbnail
from mtl_lightning.audit.report import label_text
from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.callbacks.evaluation import EvaluationCallback
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.runs.facts import Example
from mtl_lightning.tasks import Task
from mtl_lightning.training.protocol import data_of, multi_task

MOST = 8
"""The most rows of a task that are shown of each kind."""
PICTURES = 160
"""The most rows that are shown of all tasks, with at least one of each kind for every task."""
SIDE = 96
"""The largest side of a thumbnail, in pixels."""
MOST_BYTES = 2_000_000
"""The most bytes of all thumbnails, as texts in the page."""
COLUMNS = 8
"""The most columns of a row that are shown."""
KINDS = ("mistakes", "doubts")


class _Found(NamedTuple):
    """A row among the worst so far; sorted, the worst is the first, and equal ones by number."""

    order: float
    row: int
    answer: str


class Gallery(EvaluationCallback):
    """Collects the rows of the worst mistakes and most doubtful answers in ``test``, ``validate``.

    Only rows with a label of the task are shown; `Task.mistakes` and `Task.doubts` rank them. The
    rows are the same on any number of ranks, and in any order of batches. The thumbnails are made
    after the evaluation, on the first rank.

    Args:
        enabled: Whether anything is collected.

    Attributes:
        mistakes: Task to its worst mistakes, on the first rank, after the evaluation.
        doubts: Task to its most doubtful answers, likewise.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.mistakes: dict[str, list[Example]] = {}
        self.doubts: dict[str, list[Example]] = {}
        self._found: dict[str, dict[str, list[_Found]]] = {}
        self._count = MOST

    def start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Start to collect."""
        del trainer, split
        self.mistakes, self.doubts, tasks = {}, {}, multi_task(pl_module).tasks
        self._count = min(max(PICTURES // (len(KINDS) * len(tasks)), 1), MOST)
        self._found = {name: {kind: [] for kind in KINDS} for name in tasks if self.enabled}

    @torch.no_grad()
    def add(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> None:
        """Keep the worst rows so far."""
        del trainer
        for name, found in list(self._found.items()):
            del self._found[name]  # put back if the update succeeds
            with errors_as_warnings(f"gallery of task {name}"):
                task = multi_task(pl_module).tasks[name]
                labelled = batch.labelled[name]
                rows = labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled
                if rows.any():
                    own = outputs[name][rows]
                    scores = {
                        "mistakes": task.mistakes(own, batch.targets[name][rows], labelled[rows]),
                        "doubts": task.doubts(own),
                    }
                    for kind, values in scores.items():
                        if values is not None:
                            found[kind] = self._worst(
                                task, found[kind], values, own, batch.rows[rows]
                            )
                self._found[name] = found

    def _worst(
        self, task: Task, before: list[_Found], values: Tensor, outputs: Tensor, rows: Tensor
    ) -> list[_Found]:
        """Return the worst of those before and of a batch."""
        # Rounded, as the last digits of a sum depend on the batch that a row is in.
        orders = [
            -float(f"{value:.5g}") for value in values.float().nan_to_num(torch.inf).cpu().tolist()
        ]
        numbers = rows.cpu().tolist()
        limit = before[-1][:2] if len(before) == self._count else (0.0, -1)
        places = [i for i, own in enumerate(zip(orders, numbers, strict=True)) if own < limit]
        places = sorted(places, key=lambda i: (orders[i], numbers[i]))[: self._count]
        if not places:
            return before
        answers = _answers(task, outputs[places])
        new = [_Found(orders[i], numbers[i], a) for i, a in zip(places, answers, strict=True)]
        return sorted([*before, *new])[: self._count]

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Choose among the rows of all ranks, and make the thumbnails."""
        found = self._gathered(trainer)
        self._found = {}
        if not trainer.is_global_zero:
            return
        labels, module = data_of(trainer).labels, multi_task(pl_module)
        scores = module.results[split].scores(dict(module.tasks.items()))
        thumbnails = _Thumbnails(labels)
        for name in sorted(found, key=lambda name: scores.get(name, 0.0)):
            with errors_as_warnings(f"gallery of task {name}"):
                for kind, into in zip(KINDS, (self.mistakes, self.doubts), strict=True):
                    shown = sorted(found[name][kind])[: self._count]
                    if shown:
                        into[name] = [
                            _example(labels, name, module.tasks[name], own, thumbnails)
                            for own in shown
                        ]

    def _gathered(self, trainer: Trainer) -> dict[str, dict[str, list[_Found]]]:
        """Return the rows of all ranks, without tasks that failed on one of them."""
        each: list[Any] = [self._found]
        if trainer.world_size > 1:
            each = [None] * trainer.world_size
            torch.distributed.all_gather_object(each, self._found)
        return {
            name: {kind: [row for own in each for row in own[name][kind]] for kind in KINDS}
            for name in each[0]
            if all(name in own for own in each)
        }


class _Thumbnails:
    """Makes thumbnails as long as there is room in the page; one of an image.

    Args:
        labels: The rows.
    """

    def __init__(self, labels: LabelTable) -> None:
        self.table = labels.table
        self.left = MOST_BYTES
        self._known: dict[int, str] = {}

    def of(self, row: int) -> tuple[str, str]:
        """Return the picture of a row, or an empty text and why there is none."""
        if not self.table.has_image[row]:
            return "", "no image"
        if row not in self._known:
            image, buffer = thumbnail(self.table, row, SIDE), BytesIO()
            if image is not None:
                image.save(buffer, "JPEG", quality=80)
            self._known[row] = base64.b64encode(buffer.getvalue()).decode("ascii")
        text = self._known[row]
        if not text:
            return "", "cannot be read"
        if len(text) > self.left:
            return "", "left out: the page would be too large"
        self.left -= len(text)
        return text, ""


def _example(
    labels: LabelTable, name: str, task: Task, found: _Found, thumbnails: _Thumbnails
) -> Example:
    """Return a row as it is shown."""
    table, row = labels.table, found.row
    cells = {column: own[row] for column, own in list(table.inputs.items())[:COLUMNS]}
    picture, why = thumbnails.of(row)
    return Example(
        name=str(table.keys[row]),
        location=table.location(row),
        score=-found.order,
        label="" if task.loads_targets else label_text(labels, name, row),
        answer=found.answer,
        columns={column: "-" if cell is None else str(cell) for column, cell in cells.items()},
        picture=picture,
        why=why,
    )


def _answers(task: Task, outputs: Tensor) -> list[str]:
    """Return the answers of rows as texts."""
    answers = {name: value.cpu().numpy() for name, value in task.predict(outputs).items()}
    columns = task.columns(answers)
    return [_text({name: own[i] for name, own in columns.items()}) for i in range(len(outputs))]


def _text(cells: Mapping[str, Any]) -> str:
    """Return an answer: with its probability or interval, or the numbers that it consists of."""
    if "" not in cells:
        return ", ".join(f"{name}: {_short(cell)}" for name, cell in _numbers(cells))
    answer = _short(cells[""])
    if isinstance(probability := cells.get(answer), np.floating):
        return f"{answer} ({probability:.2f})"
    if isinstance(cells[""], float | np.floating) and "low" in cells and "high" in cells:
        return f"{answer} ({_short(cells['low'])} to {_short(cells['high'])})"
    return answer


def _numbers(cells: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return [(name, cell) for name, cell in cells.items() if ":" not in name]


def _short(cell: Any) -> str:
    return f"{cell:.7g}" if isinstance(cell, float | np.floating) else str(cell)
