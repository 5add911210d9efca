"""Notes of ``fit`` on data, machine and network, one line each."""

import os
import platform

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_lightning.audit import label_checks
from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.hardware import cores

X86 = ("x86_64", "AMD64")
TOO_OLD = ("DEFAULT", "AVX2")
"""Instruction sets, as torch calls them, for which oneDNN has no fast bfloat16."""


def before_training(data: PartialLabels, trainer: Trainer) -> list[str]:
    """Return the notes on the data and on the machine."""
    size = StepSize(data.batch_size, trainer.world_size, trainer.accumulate_grad_batches)
    return [*data.notes(), *label_checks.notes(data, size), *emulated_precision(trainer)]


def emulated_precision(trainer: Trainer) -> list[str]:
    """Note that bfloat16 is slow on this CPU, if it is."""
    capability = torch.backends.cpu.get_cpu_capability()
    precision = str(trainer.precision)
    if (
        precision.startswith("bf16")
        and trainer.strategy.root_device.type == "cpu"
        and platform.machine() in X86
        and capability in TOO_OLD
    ):
        return [
            f"this CPU ({capability}) has no bfloat16: trainer.precision {precision} is emulated "
            "here, several times slower than --trainer.precision 32-true"
        ]
    return []


def batch_norm(module: LightningModule, trainer: Trainer) -> list[str]:
    """Note that batch norm makes the result depend on the number of devices, if it does."""
    trained = any(isinstance(m, _BatchNorm) and m.training for m in module.modules())
    if trainer.world_size == 1 or not trained:
        return []
    return [
        "batch norm in training mode mixes the rows of one device: the result depends on the "
        "number of devices (freeze it, or trainer.sync_batchnorm)"
    ]


def starved(share: float, data: PartialLabels, trainer: Trainer) -> str:
    """Return advice for a device that waits for its data.

    Args:
        share: Share of the current epoch's training time that was spent waiting.
        data: The data module.
        trainer: The trainer.
    """
    helps, own_cores = [], cores()
    if data.num_workers * trainer.num_devices < own_cores:
        helps.append(
            f"more data.num_workers (now {data.num_workers} for each device, on {own_cores} cores)"
        )
    if data.augmentation != "none" and data.augment_on == "cpu":
        on_cpu = trainer.strategy.root_device.type == "cpu"
        helps.append("less in data.augmentation" if on_cpu else "data.augment_on: device")
    if data.cache == "none":
        height, width = data.size
        files = all(map(os.path.isabs, data.labels.table.images[:1]))
        helps.append(f"data.cache: {'disk' if files else 'memory'}")
        helps.append(f"image files not much larger than data.image_size (now {height} x {width})")
    helps.append("a smaller data.image_size")
    return (
        f"in epoch {trainer.current_epoch} {share:.0%} of the training time went into waiting for "
        f"data; what helps: {', '.join(helps)}"
    )
