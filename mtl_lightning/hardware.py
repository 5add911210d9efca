"""What of the machine does not fit what was asked of it."""

import os
import platform

import torch
from pytorch_lightning import Trainer

X86 = ("x86_64", "AMD64")
TOO_OLD = ("DEFAULT", "AVX2")
"""Instruction sets, as torch calls them, for which oneDNN has no fast bfloat16."""


def notes(trainer: Trainer) -> list[str]:
    """Return what a user should know before training, a line each."""
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


def starved(share: float, num_workers: int, size: tuple[int, int], trainer: Trainer) -> str:
    """Say what to do about a device that waits for its data.

    Args:
        share: Of the training time of the present epoch.
        num_workers: Processes that load images, for each device.
        size: Height and width of the images, in pixels.
        trainer: Of the training.
    """
    cores = _cores()
    more = ""
    if num_workers * trainer.num_devices < cores:
        more = f"more data.num_workers (now {num_workers} for each device, on {cores} cores), "
    return (
        f"in epoch {trainer.current_epoch} {share:.0%} of the training time went into waiting for "
        f"data; what helps: {more}image files not much larger than data.image_size (now {size[0]} "
        f"x {size[1]}), a smaller data.image_size, less in data.augmentation"
    )


def _cores() -> int:
    """Return how many cores this process may use, which in a container are not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
