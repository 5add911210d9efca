"""Cores and memory that this process may use."""

import os
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return the free memory in bytes, ``None`` if the system does not report it."""
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    free = [int(available[1]) * 1024] if available else []
    try:  # a container, or a job of a cluster, may be allowed less
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        spare = re.search(r"^inactive_file (\d+)", (CGROUP / "memory.stat").read_text(), re.M)
        free.append(limit - used + (int(spare[1]) if spare else 0))
    except (OSError, ValueError):  # there is no limit
        pass
    return min(free, default=None)
