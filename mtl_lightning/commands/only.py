"""``--only TASK...``: single-task baselines from the config of many tasks."""

from collections.abc import Mapping
from typing import Any

from mtl_lightning.config import checks
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Task


def keep_only(config: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the config with these tasks alone.

    The others become names that the sources may still speak of (``data.left_out``): so images and
    splits stay those of the whole config, and a baseline is tested on the same images.

    Args:
        config: A config whose tasks have been checked.
        names: The tasks to keep.

    Raises:
        UserError: If one of them is not there.
    """
    tasks = config["tasks"]
    for name in names:
        if name not in tasks:
            raise UserError(
                f"--only {name}: no such task{did_you_mean(name, tasks)}; there is {listed(tasks)}"
            )
    data = dict(config.get("data") or {})
    left_out = [*(data.get("left_out") or [])]
    for name, entry in tasks.items():
        if name not in names:
            task = checks.try_build(Task, entry, f"tasks.{name}")
            fields = ("",) if task is None else task.fields
            left_out += [f"{name}/{field}" if field else name for field in fields]
    kept = {name: entry for name, entry in tasks.items() if name in names}
    return {**config, "tasks": kept, "data": {**data, "left_out": left_out}}
