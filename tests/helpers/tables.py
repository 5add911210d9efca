"""Rows with columns that a network reads, with or without images, and modules that read them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import SourceTable
from mtl_lightning.inputs import Category, Date, Input, Number
from mtl_lightning.models import Backbone, ImageAndTable, TableMLP, TabM
from mtl_lightning.models.sharing import Sharing, Soft
from mtl_lightning.tasks import Task
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, column, make_data, make_tasks, sparse_labels
from tests.helpers.models import Small
from tests.helpers.training import fit, weights


def columns(rows: int) -> dict[str, list[Any]]:
    """Return columns of every kind, in which each sixth cell is missing; row 7 has none at all."""
    draw = np.random.default_rng(5)
    found = {
        "age": draw.normal(50, 15, rows).round(2).tolist(),
        "sex": draw.choice(["f", "m", "x"], rows).tolist(),
        "visit": [f"20{d % 20 + 10}-{d % 12 + 1:02}-03" for d in draw.integers(0, 99, rows)],
    }
    return {
        name: [None if row == 7 or draw.random() < 1 / 6 else v for row, v in enumerate(values)]
        for name, values in found.items()
    }


class TableRows(Memory):
    """Random images (in some rows) with columns; see `columns`."""

    def __init__(self, *args: Any, imageless: Sequence[int] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.imageless = imageless

    def read(self, tasks: Sequence[str]) -> SourceTable:
        table, rows = super().read(tasks), len(self.splits)
        cells = {n: column(v) for n, v in columns(rows).items() if n in self.inputs_wanted}
        without = np.isin(np.arange(rows), list(self.imageless))
        return replace(table, inputs=cells, without_image=without if without.any() else None)


def make_inputs() -> dict[str, Input]:
    return {"age": Number(), "sex": Category(), "visit": Date(["year"])}


def table_data(
    in_splits: Sequence[str],
    labels: dict[str, list[Any]] | None = None,
    imageless: Sequence[int] = (),
    inputs: dict[str, Input] | None = None,
    **options: Any,
) -> PartialLabels:
    labels = sparse_labels(len(in_splits)) if labels is None else labels
    source = TableRows(labels, list(in_splits), imageless=imageless)
    inputs = make_inputs() if inputs is None else inputs
    return make_data(sources={"rows": source}, inputs=inputs, **options)


def known_inputs() -> dict[str, Input]:
    """Return inputs that have learned from the training rows of `table_data`."""
    data = table_data(["train"] * 45 + ["val"] * 7)
    data.labels.learn_inputs()
    return dict(data.inputs)


def small_mlp(**options: Any) -> TableMLP:
    sizes = {"width": 8, "blocks": 1, "number_width": 3, "frequencies": 2, "category_width": 2}
    return TableMLP(**(sizes | {"dropout": 0.0} | options))


def small_tabm(**options: Any) -> TabM:
    sizes = {"width": 8, "blocks": 2, "members": 3, "number_width": 3, "frequencies": 2}
    return TabM(**(sizes | {"category_width": 2, "dropout": 0.0} | options))


def table_module(
    tasks: dict[str, Task] | None = None, backbone: Backbone | None = None, **options: Any
) -> MultiTask:
    torch.manual_seed(1)
    backbone = backbone or small_mlp()
    defaults = {"dropout": 0.0, "image_size": 16, "inputs": known_inputs()} | options
    return MultiTask(tasks or make_tasks(), backbone, **defaults)


def both(join: str = "concatenate") -> ImageAndTable:
    return ImageAndTable(Small(), small_mlp(), join)


def trained(
    folder: Path,
    devices: int = 1,
    kind: str = "table",
    strength: float | None = None,
    accumulate: int = 1,
    balancing: Any = None,
) -> dict[str, torch.Tensor]:
    """Train in double precision on 17 rows, the last of which is a micro-batch; return weights."""
    torch.manual_seed(1)
    kinds: dict[str, Callable[[], Backbone]] = {"table": small_mlp, "members": small_tabm}
    backbone = (kinds | {"concatenate": both, "film": lambda: both("film")})[kind]()
    sharing: Sharing | None = None if strength is None else Soft(strength)
    module = table_module(
        backbone=backbone,
        sharing=sharing,
        balancing=balancing,
        # Not Adam, whose first step is the sign of a gradient, be it a rounding error.
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    )
    data = table_data(
        ["train"] * 17,
        inputs=dict(module.inputs),
        imageless=(2, 7, 11) if isinstance(backbone, ImageAndTable) else (),
        batch_size=4 // devices,
        splits={},
    )
    fit(
        folder,
        data,
        module,
        devices=devices,
        accumulate_grad_batches=accumulate,
        precision="64-true",
        max_epochs=2,
    )
    return weights(module)
