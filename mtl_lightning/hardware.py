"""What the machine has, and what of it does not fit what was asked of it."""

import os
import platform
import re
from pathlib import Path

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
    return int(said[1]) * 1024 if said else None
