"""Checkpoints as `mtl-lightning fit` writes them, without a training, and what strangers make."""

import copy
import os
from pathlib import Path
from typing import Any

import torch

LIGHTNING = "pytorch_lightning.cli.instantiate_module"
TASKS = {
    "digit": {"class_path": "mtl_lightning.Classification", "init_args": {"classes": ["a", "b"]}},
    "ink": {"class_path": "mtl_lightning.Regression", "init_args": {"loss": "mse"}},
}
GOOD: dict[str, Any] = {
    "epoch": 3,
    "global_step": 120,
    "pytorch-lightning_version": "2.6.4",
    "state_dict": {"network.weight": torch.arange(1000.0)},
    "loops": {},
    "callbacks": {},
    "optimizer_states": [],
    "lr_schedulers": [],
    "hyper_parameters": {
        "tasks": TASKS,
        "backbone": {
            "class_path": "mtl_lightning.Torchvision",
            "init_args": {"name": "squeezenet1_1", "weights": None, "preprocessing": "imagenet"},
        },
        "sharing": {"class_path": "mtl_lightning.Hard"},
        "loss_reduction": "labelled",
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.001}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {}},
        "image_size": 32,
        "_instantiator": LIGHTNING,
    },
    "datamodule_hyper_parameters": {
        "tasks": TASKS,
        "sources": {
            "shop": {"class_path": "mtl_lightning.TableSource", "init_args": {"path": "t.csv"}}
        },
        "augmentation": [{"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}],
        "image_size": 32,
        "_instantiator": LIGHTNING,
    },
}
GOOD["hyper_parameters"]["lr_scheduler"]["init_args"] |= {"max_lr": 0.1, "anneal_strategy": "cos"}
_SECTIONS = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}


def write(path: str | Path, changes: dict[str, Any] | None = None, **parts: Any) -> Path:
    """Write a checkpoint with changes by dotted key, ``model.`` and ``data.`` its hyper-parameters.

    Args:
        path: The file.
        changes: What is to stand there instead.
        parts: What is to stand at its top instead.
    """
    content = copy.deepcopy(GOOD) | parts
    for key, value in (changes or {}).items():
        section, *parents, last = key.split(".")
        node = content[_SECTIONS[section]]
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = value
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


class Payload:
    """What leaves the file ``ran`` behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)
