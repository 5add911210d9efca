"""A checkpoint of a network for every kind of answer, with random weights, for exports."""

from pathlib import Path
from typing import Any

import torch

from mtl_lightning.inference.description import Description
from mtl_lightning.tasks.calibration import Calibration
from mtl_lightning.tasks.predictor import Predictor
from tests.helpers.files import checkpoints

TASKS: dict[str, Any] = {
    "kind": {
        "class_path": "mtl_lightning.Classification",
        "init_args": {"classes": ["cat", "dog", "eel"], "head": {"pooling": "max", "hidden": 5}},
    },
    "tags": {"class_path": "mtl_lightning.MultiLabel", "init_args": {"labels": ["hat", "bag"]}},
    "size": {"class_path": "mtl_lightning.Regression"},
    "grade": {
        "class_path": "mtl_lightning.Ordinal",
        "init_args": {"classes": ["S", "M", "L"], "method": "coral"},
    },
}
CALIBRATION = {
    "kind": Calibration(2.0, coverage=0.9, set_from=0.335).plain(),
    "tags": Calibration(1.5, thresholds=(0.2, 0.9)).plain(),
    "size": Calibration(coverage=0.9, reach=(1.5,)).plain(),
    "grade": Calibration(0.5).plain(),
}
"""By ``kind``'s, its probabilities are nearer to each other."""
SIZE = (32, 40)
MEAN = 1700000000.25


def made(
    folder: Path,
    tasks: dict[str, Any] | None = None,
    calibration: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a checkpoint, and return its path."""
    tasks = tasks or TASKS
    torch.manual_seed(0)
    predictor = Description(tasks, model(), SIZE).build()
    for name, task in predictor.tasks.items():
        if name == "size":
            task.get_buffer("mean").fill_(MEAN)
            task.get_buffer("std").fill_(12.5)
    options = {
        "model.tasks": tasks,
        "model.backbone": model()["backbone"],
        "model.image_size": list(SIZE),
        "data.tasks": tasks,
        "data.image_size": list(SIZE),
    }
    path = folder / "a.ckpt"
    parts = {"state_dict": state_of(predictor), "calibration": calibration or {}}
    return checkpoints.write(path, options | changes, **parts)


def model() -> dict[str, Any]:
    """Return the arguments of a small network."""
    arguments = {"name": "squeezenet1_1", "weights": None, "pooling": "avg"}
    return {"backbone": {"class_path": "mtl_lightning.Torchvision", "init_args": arguments}}


def state_of(predictor: Predictor) -> dict[str, torch.Tensor]:
    return {**predictor.state_dict(), "measured.unused": torch.zeros(1)}
