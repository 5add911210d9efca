"""``--only TASK...``: single-task baselines from the config of many tasks."""

from collections.abc import Mapping
from typing import Any

from mtl_lightning.system.errors import UserError, did_you_mean, listed


def keep_only(config: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the config with only these tasks.

    The others stay known to the sources (``data.left_out``), so that images and splits remain those
    of the whole config and a baseline is tested on the same images.

    Args:
        config: A config whose tasks have been checked.
        names: The tasks to keep.

    Raises:
        UserError: If one of them does not exist.
    """
    tasks = config["tasks"]
    for name in names:
        if name not in tasks:
            raise UserError(
                f"--only {name}: no such task{did_you_mean(name, tasks)}; known: {listed(tasks)}"
            )
    data = dict(config.get("data") or {})
    others = {name: entry for name, entry in tasks.items() if name not in names}
    left_out = {**(data.get("left_out") or {}), **others}
    kept = {name: entry for name, entry in tasks.items() if name in names}
    return {**config, "tasks": kept, "data": {**data, "left_out": left_out}}
