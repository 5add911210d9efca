"""A checkpoint of a network that reads columns, alone or beside an image, for exports."""

from pathlib import Path
from typing import Any

import torch

from mtl_lightning.inference.description import Description
from tests.helpers.files import checkpoints, exports

INPUTS: dict[str, Any] = {
    "age in years": {
        "class_path": "mtl_lightning.Number",
        "init_args": {
            "robust": True,
            "centre": 41.0,
            "scale": 12.5,
            "bins": 3,
            "edges": [-2.0, 0.0, 0.5, 2.0],
        },
    },
    "cat": {
        "class_path": "mtl_lightning.Category",
        "init_args": {"values": ["red", "2"], "min_count": 1},
    },
    "visit": {
        "class_path": "mtl_lightning.Date",
        "init_args": {"centre": 19700.0, "scale": 300.0, "cycles": ["year", "day"]},
    },
    "income": {
        "class_path": "mtl_lightning.Number",
        "init_args": {"centre": 1e9, "scale": 0.25},
    },
}
"""``cat`` is also what torch calls a node of the graph."""

TASKS = {name: exports.TASKS[name] for name in ("kind", "size")}
TASKS["kind"] = {**TASKS["kind"], "init_args": {"classes": ["cat", "dog", "eel"]}}
TABLE = {
    "class_path": "mtl_lightning.TableMLP",
    "init_args": {"width": 8, "blocks": 1, "category_width": 2},
}
BOTH = {
    "class_path": "mtl_lightning.ImageAndTable",
    "init_args": {"image": exports.model()["backbone"], "table": TABLE, "join": "concatenate"},
}


def made(folder: Path, backbone: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint, and return its path."""
    torch.manual_seed(0)
    backbone = backbone or TABLE
    description = Description(TASKS, {"backbone": backbone}, exports.SIZE, inputs=INPUTS)
    options = {
        "model.tasks": TASKS,
        "model.backbone": backbone,
        "model.image_size": list(exports.SIZE),
        "model.inputs": INPUTS,
        "data.tasks": TASKS,
        "data.image_size": list(exports.SIZE),
        "data.inputs": INPUTS,
    }
    state = exports.state_of(description.build())
    return checkpoints.write(folder / "a.ckpt", options, state_dict=state)
