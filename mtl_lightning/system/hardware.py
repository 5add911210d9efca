"""What the machine has, and what of it does not fit what was asked of it."""

import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pytorch_lightning import Trainer

if TYPE_CHECKING:
    from mtl_lightning.data.datamodule import PartialLabels  # which asks how many cores there are

X86 = ("x86_64", "AMD64")
CGROUP = Path("/sys/fs/cgroup")
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


def cores() -> int:
    """Return how many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return how many bytes of memory are free for the asking, None where it is not said."""
    try:
        said = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    free = [int(said[1]) * 1024] if said else []
    try:  # a container, or a job of a cluster, may be allowed less
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        spare = re.search(r"^inactive_file (\d+)", (CGROUP / "memory.stat").read_text(), re.M)
        free.append(limit - used + (int(spare[1]) if spare else 0))
    except (OSError, ValueError):  # there is no limit
        pass
    return min(free, default=None)


def starved(share: float, data: "PartialLabels", trainer: Trainer) -> str:
    """Say what to do about a device that waits for its data.

    Args:
        share: Of the training time of the present epoch.
        data: What is loaded.
        trainer: Of the training.
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
        files = all(map(os.path.isabs, data.merged().images[:1]))
        helps.append(f"data.cache: {'disk' if files else 'memory'}")
        helps.append(f"image files not much larger than data.image_size (now {height} x {width})")
    helps.append("a smaller data.image_size")
    return (
        f"in epoch {trainer.current_epoch} {share:.0%} of the training time went into waiting for "
        f"data; what helps: {', '.join(helps)}"
    )
