"""From a command line to the config that LightningCLI parses: complete and checked.

Configs are merged entry by entry (a second file that names one task changes that task and keeps
the others). They override the config of a checkpoint, flags override them, and names are checked,
before LightningCLI sees anything.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_lightning.balancing.arguments import fill_sizes
from mtl_lightning.commands.command_line import (
    CommandLine,
    check_has_tasks,
    check_weights_only,
    find_checkpoint,
    root_folder,
)
from mtl_lightning.commands.on_checkpoint import (
    check_same_coverage,
    check_same_inputs,
    check_same_tasks,
    grow_on_checkpoint,
    lay_on_checkpoint,
)
from mtl_lightning.commands.only import keep_only
from mtl_lightning.commands.schema import (
    BALANCING,
    DEFAULTS,
    check_keys,
    check_sections,
    check_tasks,
)
from mtl_lightning.config import flags, import_path, untrusted
from mtl_lightning.config.flags import deep_merge
from mtl_lightning.runs.checkpoint_reading import saved_config
from mtl_lightning.runs.folder import requeued_checkpoint
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.training.schedule import fill_lengths


@dataclass(frozen=True)
class Prepared:
    """A command line that is ready to be parsed by LightningCLI.

    Attributes:
        config: The merged config.
        flags: Other options, which LightningCLI handles.
        name: The name of the run.
        root: The folder of all runs.
        checkpoint: The file of ``ckpt_path``.
        resumed_step: The number of optimizer steps at the checkpoint.
        export_weights: The file for a balancing's average weights.
        grow: The checkpoint of the network that takes on tasks or classes, in a new run.
    """

    config: dict[str, Any]
    flags: list[str]
    name: str
    root: Path
    checkpoint: Path | None
    resumed_step: int | None = None
    export_weights: Path | None = None
    grow: Path | None = None


def prepare(command: str, arguments: list[str], line: CommandLine | None = None) -> Prepared:
    """Merge, complete and check all arguments of a command.

    Args:
        command: The command.
        arguments: Its arguments.
        line: What `command_line.check` returned for them; None to read them.

    Raises:
        UserError: For anything that is wrong or missing.
    """
    line = line or CommandLine.parse(command, arguments)
    import_path.add_cwd_for(line.given)
    given = check_keys(command, line.given)
    check_weights_only(given)
    name = line.run_name(given)
    if line.only and "tasks" in given:
        given = keep_only({**given, "tasks": check_tasks(given["tasks"])}, line.only)
    root = root_folder(given, line.overrides)
    checkpoint = find_checkpoint(command, given, root, name)
    grow = checkpoint if line.grow else None
    if grow is not None and (requeued := requeued_checkpoint(root, name)) is not None:
        checkpoint, grow = requeued, None  # a job that has grown the network before
    trusted = untrusted.imported_modules(given)
    remembered: dict[str, Any] = {}
    if checkpoint is not None:
        remembered = saved_config(checkpoint, resume=command == "fit" and grow is None)
        remembered = untrusted.mark(remembered, untrusted.Origin(str(checkpoint), trusted))
        _check_only(line.only, remembered["tasks"])
        if grow is None:
            given["ckpt_path"] = str(checkpoint)
            given = lay_on_checkpoint(remembered, given, command)
        else:
            given.pop("ckpt_path")
            given = grow_on_checkpoint(remembered, given)
            remembered, checkpoint = {}, None
    config = copy.deepcopy(deep_merge(DEFAULTS, given))
    for option, text in line.overrides:
        flags.apply_override(config, option, text)
    trusted |= untrusted.imported_modules(config)
    check_has_tasks(config)
    config["name"] = name = name or _run_of(checkpoint)
    config = check_keys(command, config)
    config["model"] = _complete_model(command, config["model"], config["tasks"])
    config = check_sections(config)
    if remembered:
        check_same_tasks(config["tasks"], remembered["tasks"])
        check_same_inputs(
            config["data"].get("inputs") or {}, remembered["data"].get("inputs") or {}
        )
        calibration = config.get("calibration") or {}
        if command != "fit" and calibration.get("enabled", True):
            check_same_coverage(calibration.get("coverage"), remembered["calibration"])
    config["weights_only"] = True  # also where Lightning finds a checkpoint itself, under SLURM
    return Prepared(
        config=untrusted.unmark(config),
        flags=line.rest,
        name=name,
        root=root,
        checkpoint=checkpoint,
        resumed_step=remembered.get("step"),
        export_weights=line.export_weights,
        grow=grow,
    )


def _check_only(only: list[str], trained: Mapping[str, Any]) -> None:
    if only and set(only) != set(trained):
        raise UserError(
            f"--only {' '.join(only)}: the checkpoint was trained for {listed(trained)}; a network "
            f"is tested with the tasks it was trained for"
        )


def _complete_model(command: str, model: dict[str, Any], tasks: Any) -> dict[str, Any]:
    """Fill in what follows from the rest, and remove what the command does not need."""
    model = dict(model)
    if model.get("lr_scheduler") is not None:
        model["lr_scheduler"] = fill_lengths(model["lr_scheduler"])
    if command != "fit":  # a method's solver need not be installed if nothing is balanced
        for key in BALANCING:
            model.pop(key, None)
    if model.get("balancing") is not None and isinstance(tasks, Mapping):
        model["balancing"] = fill_sizes(model["balancing"], list(tasks))
    return model


def _run_of(checkpoint: Path | None) -> str:
    """Return the name of the run that a checkpoint belongs to."""
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        return checkpoint.resolve().parents[2].name
    return "run"
