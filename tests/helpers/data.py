"""Images and labels in memory or in the current folder, tasks about them, and both as data."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sampling import Population, Sampling
from mtl_lightning.data.sources import Source, SourceTable
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Classification,
    Encoded,
    MultiLabel,
    Regression,
    Task,
)

SHARED = Path(__file__).resolve().parents[3] / "shared"


def column(values: Sequence[Any]) -> np.ndarray:
    """Return texts and Nones as the object array that sources give."""
    out = np.empty(len(values), dtype=object)
    out[:] = [None if value is None else str(value) for value in values]
    return out


class Memory(Source):
    """Random images with given labels and splits; ``bad`` ones cannot be read.

    Labels that are among ``targets`` stand for the contents of files.
    """

    def __init__(
        self,
        labels: Mapping[str, Sequence[Any]],
        splits: Sequence[str | None],
        name: str = "memory",
        bad: Collection[int] = (),
        shards: Sequence[int] | None = None,
        targets: Mapping[str, bytes] | None = None,
        dates: Sequence[str] | None = None,
    ) -> None:
        self.targets = targets or {}
        self.labels = labels
        self.splits = splits
        self.name = name
        self.bad = bad
        self.dates = None if dates is None else np.array(dates, dtype="datetime64[us]")
        self.shards = None if shards is None else np.array(shards)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        keys = column([f"{self.name}:{i}" for i in range(len(self.splits))])
        return SourceTable(
            origin=self.name,
            images=keys,
            keys=keys,
            labels={t: column(v) for t, v in self.labels.items() if t in tasks},
            splits=column(self.splits),
            shards=self.shards,
            dates=self.dates,
        )

    def target_files(self, table: SourceTable, task: str) -> np.ndarray:
        return table.labels[task]

    def target_content(self, target: str) -> bytes:
        return self.targets[target]

    def load(self, image: str) -> np.ndarray:
        number = int(image.rpartition(":")[2])
        if number in self.bad:
            raise UserError(f"image {image} cannot be read (broken)")
        return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def labelled_photos(bad: Mapping[int, bytes], rows: int = 24) -> dict[str, Any]:
    """Write images and their table into the current folder; return a config that reads them.

    Args:
        bad: Row to what is written instead of an image.
        rows: Of the table; the last quarter is val and test.
    """
    Path("photos").mkdir()
    lines = ["image,kind,size,split"]
    for row in range(rows):
        path = Path(f"photos/{row:02}.png")
        pixels = np.random.default_rng(row).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if row in bad:
            path.write_bytes(bad[row])
        split = "train" if row < rows * 3 // 4 else ("val", "test")[row % 2]
        lines.append(f"{path},{KINDS[row % 3]},{row},{split}")
    Path("photos.csv").write_text("\n".join(lines), encoding="utf-8")
    source = {"class_path": "TableSource", "init_args": {"path": "photos.csv"}}
    return {
        "tasks": {"kind": {"class_path": "Classification"}, "size": {"class_path": "Regression"}},
        "data.sources": {"photos": source},
        "data.batch_size": 4,
        "trainer.limit_train_batches": 1.0,
        "trainer.limit_val_batches": 1.0,
    }


KINDS = ("cat", "dog", "eel")


def sparse_labels(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    """Return labels of three tasks with gaps; ``rare`` is labelled on every ninth row only."""
    draw = np.random.default_rng(seed)
    kind = [KINDS[i] for i in draw.integers(0, 3, rows)]
    size = draw.normal(50, 10, rows).round(3).tolist()
    rare = [("yes", "no")[i] for i in draw.integers(0, 2, rows)]
    apart = np.random.default_rng([seed, 1])
    tags = apart.choice(["yes", "no", None], (2, rows), p=[0.3, 0.3, 0.4])
    return {
        "tags/hat": tags[0].tolist(),
        "tags/bag": tags[1].tolist(),
        "kind": [k if draw.random() < 0.6 else None for k in kind],
        "size": [s if draw.random() < 0.5 else None for s in size],
        "rare": [r if i % 9 == 4 else None for i, r in enumerate(rare)],
    }


def make_tasks() -> dict[str, Task]:
    return {
        "kind": Classification(list(KINDS), class_weights="balanced", label_smoothing=0.1),
        "size": Regression(loss="huber", weight=0.7),
        "rare": Classification(["no", "yes"]),
    }


def make_more_tasks() -> dict[str, Task]:
    """Return `make_tasks`, and one with a mask for each of its labels."""
    return make_tasks() | {"tags": MultiLabel(["hat", "bag"], pos_weights="balanced")}


def make_data(
    train: int = 45,
    val: int = 7,
    batch_size: int = 8,
    tasks: dict[str, Task] | None = None,
    bad: Collection[int] = (),
    sources: dict[str, Source] | None = None,
    **arguments: Any,
) -> PartialLabels:
    rows = train + val
    if sources is None:
        splits = ["train"] * train + ["val"] * val
        sources = {"memory": Memory(sparse_labels(rows), splits, bad=bad)}
    options = {"image_size": 16, "num_workers": 0, "augmentation": "none"} | arguments
    tasks = tasks or make_tasks()
    return PartialLabels(tasks, sources, batch_size=batch_size, **options)


class Tags(Task):
    """A toy task with a mask per label: cells such as ``+-?`` say yes, no and nothing."""

    primary = "accuracy"

    def __init__(self, labels: int = 3) -> None:
        super().__init__()
        self.labels = labels

    def encode(self, cells: np.ndarray) -> Encoded:
        texts = [cell or "?" * self.labels for cell in cells]
        marks = np.array([list(text) for text in texts]).reshape(len(cells), self.labels)
        return Encoded((marks == "+").astype(np.float32), marks != "?", np.zeros(len(cells), bool))

    def expected(self, cell: str) -> str:
        return f"{self.labels} of + - ?"

    def fit_statistics(self, targets: torch.Tensor, labelled: torch.Tensor) -> None:
        del targets, labelled

    @property
    def num_outputs(self) -> int:
        return self.labels

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def predict(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.sigmoid()}

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": BinaryAccuracy()}, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, torch.Tensor],
        targets: torch.Tensor,
        labelled: torch.Tensor,
    ) -> None:
        metrics.update(answers["probabilities"][labelled], targets[labelled].long())

    def columns(self, answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"": (answers["probabilities"] > 0.5).sum(1)}


class Rows(Source):
    """A source of given rows: (image, labels, split, group)."""

    def __init__(self, *rows: Any, name: str = "rows") -> None:
        self.rows, self.name = rows, name

    def read(self, tasks: Sequence[str]) -> SourceTable:
        images, labels, splits, groups = (texts(c) for c in zip(*self.rows, strict=True))
        return SourceTable(
            self.name,
            images,
            images,
            {t: texts([row.get(t) for row in labels]) for t in tasks},
            splits,
            groups,
            np.arange(2, len(images) + 2),
        )


def row(image: str, split: str | None = None, group: str | None = None, **labels: Any) -> Any:
    return image, labels, split, group


def population(sources: Sequence[int], **strata: Sequence[int]) -> Population:
    tasks = {task: np.array(codes, dtype=np.int64) for task, codes in strata.items()}
    return Population(np.array(sources), np.full(len(sources), -1), tasks)


def random(seed: int, rows: int = 60, tasks: int = 3) -> Population:
    """Return images of three sources, with labels of some tasks; each is labelled."""
    draw = np.random.default_rng(seed)
    strata = draw.integers(-2, 3, (rows, tasks)).clip(-1)
    strata[np.arange(rows), draw.integers(0, tasks, rows)] = 1
    columns = {f"t{i}": strata[:, i].tolist() for i in range(tasks)}
    return population(draw.integers(0, 3, rows).tolist(), **columns)


def taken(sampling: Sampling, given: Population, step: int = 8, seed: int = 0) -> np.ndarray:
    """Return an epoch, which is as long as the population and the same when it is asked again."""
    places = sampling.draw(given, step, np.random.default_rng([seed, 0]))
    again = sampling.draw(given, step, np.random.default_rng([seed, 0]))
    assert places.tolist() == again.tolist()
    assert len(places) == len(given)
    assert set(places) <= set(range(len(given)))
    return places
