"""The environment of a run: versions, device, revision of the current folder."""

import platform
import subprocess
from importlib.metadata import version

import torch

from mtl_lightning._version import __version__
from mtl_lightning.system.hardware import cores

PATIENCE = 10.0
"""Seconds after which a repository is considered too large."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "mtl_lightning": __version__,
    }


def device_name(device: torch.device) -> str:
    """Return a device's name for users: ``cpu, 16 cores`` or ``cuda, NVIDIA H200``."""
    if device.type == "cpu":
        return f"cpu, {cores()} cores"
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return device.type


def git_revision() -> str | None:
    """Return the commit of the current folder, ``None`` outside a repository or without git.

    It ends in ``-dirty`` if tracked files differ from the commit.
    """
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
