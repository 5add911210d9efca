"""What many tests build on: a small backbone, images in memory, and a training of both."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Classification,
    Encoded,
    MultiLabel,
    Regression,
    Task,
)
from mtl_lightning.training.module import MultiTask

SHARED = Path(__file__).resolve().parents[3] / "shared"


class Small(Backbone):
    """Two convolutions: fast, smooth, without batch norm."""

    def __init__(self) -> None:
        trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2), nn.Tanh()
        )
        super().__init__(trunk, {"all": list(trunk)}, None, "imagenet", "avg", None)

    def named_weights(self, name: str) -> NamedWeights:
        raise NotImplementedError


def column(values: Sequence[Any]) -> np.ndarray:
    """Return texts and Nones as the object array that sources give."""
    out = np.empty(len(values), dtype=object)
    out[:] = [None if value is None else str(value) for value in values]
    return out


class Memory(Source):
    """Random images, with the labels and splits that a test wants; ``bad`` ones cannot be read."""

    def __init__(
        self,
        labels: Mapping[str, Sequence[Any]],
        splits: Sequence[str],
        name: str = "memory",
        bad: Collection[int] = (),
    ) -> None:
        self.labels = labels
        self.splits = splits
        self.name = name
        self.bad = bad

    def read(self, tasks: Sequence[str]) -> SourceTable:
        keys = column([f"{self.name}:{i}" for i in range(len(self.splits))])
        return SourceTable(
            origin=self.name,
            images=keys,
            keys=keys,
            labels={t: column(v) for t, v in self.labels.items() if t in tasks},
            splits=column(self.splits),
        )

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


def make_module(seed: int = 1, tasks: dict[str, Task] | None = None, **arguments: Any) -> MultiTask:
    torch.manual_seed(seed)
    options = {"dropout": 0.0, "image_size": 16, "head_hidden": None} | arguments
    return MultiTask(tasks or make_tasks(), Small(), **options)


def make_trainer(folder: Path, **arguments: Any) -> Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**(options | arguments))


def fit(
    folder: Path, data: PartialLabels | None = None, module: MultiTask | None = None, **trainer: Any
) -> MultiTask:
    """Train a module on the data and return it."""
    seed_everything(3, verbose=False)
    module = module or make_module()
    make_trainer(folder, **trainer).fit(module, datamodule=data or make_data())
    return module


def weights(module: MultiTask) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.network.state_dict().items()}


def largest_difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference of any weight, relative to the largest of its tensor."""
    assert one.keys() == other.keys()
    return max(
        float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-3))
        for name in one
    )


class Batches(Callback):
    """Keeps what a training is given: (epoch, batch) of each micro-batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Batch]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.seen.append((trainer.current_epoch, batch))

    def rows(self) -> dict[int, list[list[int]]]:
        """Epoch to the rows of its micro-batches."""
        epochs: dict[int, list[list[int]]] = {}
        for epoch, batch in self.seen:
            epochs.setdefault(epoch, []).append(batch.rows.tolist())
        return epochs


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


def written(task: Task, outputs: torch.Tensor) -> Mapping[str, np.ndarray]:
    """Return the columns of ``predictions.csv`` for outputs of a head."""
    answers = task.predict(outputs.detach())
    return task.columns({name: value.numpy() for name, value in answers.items()})
