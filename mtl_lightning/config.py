"""From what was typed to what LightningCLI parses: one config, complete and checked.

Configs are merged entry by entry (a second file that names one task changes that task and keeps
the others), what a checkpoint remembers lies beneath them, flags lie on top, and names are checked,
before LightningCLI sees anything.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer

from mtl_lightning import checks, flags, reading
from mtl_lightning.balancing.arguments import check_method, fill_sizes
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import Source
from mtl_lightning.errors import UserError, did_you_mean, listed
from mtl_lightning.flags import merged, same_class
from mtl_lightning.models import Backbone
from mtl_lightning.module import MultiTask
from mtl_lightning.only import keep_only
from mtl_lightning.runs import ALIASES, resolve_checkpoint
from mtl_lightning.schedule import LENGTHS, WHOLE_RUN
from mtl_lightning.tasks import Task

DEFAULTS = {
    "model": {
        "backbone": {"class_path": "VGG16"},
        "sharing": {"class_path": "Hard"},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
    }
}
"""Written out, so that the saved config says what was used.

They lie beneath the config here and are no defaults of the parser, because jsonargparse would give
AdamW's weight decay to an SGD that the config names instead.
"""

RESERVED = ("image", "loss", "score")
"""No task can be called so: these are columns and metrics of their own."""


@dataclass
class CheckpointOptions:
    """What ``best.ckpt`` is.

    Args:
        monitor: The logged name by which it is chosen.
        mode: ``max`` where higher is better.
    """

    monitor: str = "val/score"
    mode: Literal["max", "min"] = "max"


SECTIONS: dict[str, Any] = {
    "tasks": dict[str, Task],
    "model": MultiTask,
    "data": PartialLabels,
    "trainer": Trainer,
    "checkpoint": CheckpointOptions,
}
SINGLE: dict[str, Any] = {
    "seed_everything": bool | int,
    "name": str,
    "ckpt_path": str | None,
    "weights_only": bool | None,
}
OF_COMMANDS: dict[str, dict[str, Any]] = {
    "fit": {},
    "validate": {"verbose": bool},
    "test": {"verbose": bool},
    "predict": {"images": str | None, "output": str, "return_predictions": bool | None},
}
LINKED = ("tasks", "image_size")
"""What the model is told by other keys."""


@dataclass(frozen=True)
class Prepared:
    """What was asked for, ready to be parsed.

    Attributes:
        config: The merged config.
        flags: What was typed beside it and is LightningCLI's business.
        name: The name of the run.
        root: The folder of all runs.
        checkpoint: The file that ``ckpt_path`` means.
        export_weights: Where a balancing's average weights are written to.
    """

    config: dict[str, Any]
    flags: list[str]
    name: str
    root: Path
    checkpoint: Path | None
    export_weights: Path | None = None


def prepare(command: str, arguments: list[str]) -> Prepared:
    """Merge, complete and check everything that a command was given.

    Raises:
        UserError: For anything that is wrong or missing.
    """
    files, rest = flags.taken(arguments, ("-c", "--config"))
    given: dict[str, Any] = {}
    for file in files:
        given = merged(given, reading.load(Path(file)))
    only, rest = flags.several(rest, "--only")
    exports, rest = flags.taken(rest, ("--export-weights",))
    if exports and command != "fit":
        raise UserError(f"--export-weights: {command} balances nothing; it is for fit")
    typed = {}
    for key in ("name", "ckpt_path"):
        values, rest = flags.taken(rest, (f"--{key}",))
        if values:
            typed[key] = values[-1]
    given |= typed
    changes, rest = flags.changes(rest, SECTIONS)
    check_keys(command, given)

    name = str(given.get("name") or (Path(files[0]).stem if files else ""))
    if only and "tasks" in given:
        check_tasks(given["tasks"])
        given = keep_only(given, only)
    if only and name and "name" not in typed:
        name = "-".join([name, "only", *only])  # its best and last are not those of all tasks
    root = _root(given, changes)
    checkpoint, below = None, {}
    if given.get("ckpt_path") is not None:
        checkpoint = _checkpoint(str(given["ckpt_path"]), root, name)
        below = remembered(checkpoint)
        if only and set(only) != set(below["tasks"]):
            raise UserError(
                f"--only {' '.join(only)}: the checkpoint was trained for "
                f"{listed(below['tasks'])}; a network is tested with the tasks it was trained for"
            )
        given["ckpt_path"] = str(checkpoint)
    elif command != "fit":
        raise UserError(f"{command} needs --ckpt_path: a checkpoint file, best or last")
    if below:
        given = _over_checkpoint(below, given, command)
    config = copy.deepcopy(merged(DEFAULTS, given))
    for option, text in changes:
        flags.apply(config, option, text, SECTIONS)
    if "tasks" not in config:
        raise UserError(
            "tasks are missing: give --config FILE that names them "
            "(configs/quickstart.yaml is one to start from)"
        )
    config["name"] = name = name or _run_of(checkpoint)
    check_keys(command, config)
    _fill_schedule(config)
    if _part(config, "model", "balancing") is not None and isinstance(config["tasks"], Mapping):
        entry = fill_sizes(config["model"]["balancing"], list(config["tasks"]))
        config["model"]["balancing"] = entry
    check(config)
    if below:
        _check_same_tasks(config["tasks"], below["tasks"])
    export = Path(exports[-1]) if exports else None
    return Prepared(config, rest, name, root, checkpoint, export)


def _root(config: Mapping[str, Any], changes: list[tuple[str, str]]) -> Path:
    typed = [text for option, text in changes if option == "--trainer.default_root_dir"]
    folder = typed[-1] if typed else _part(config, "trainer", "default_root_dir")
    return Path(str(folder or "runs"))


def _checkpoint(spec: str, root: Path, name: str) -> Path:
    if not name and spec in ALIASES:
        raise UserError(f"ckpt_path {spec}: of which run? Give --name, or --config")
    return resolve_checkpoint(spec, root, name)


def _part(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


# --------------------------------------------------------------------- the checkpoint's part


def remembered(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of tasks, model and data; plain values only.

    Raises:
        UserError: If the file is not one of our checkpoints.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle and zip have many, and all of them mean this
        reason = getattr(error, "strerror", None) or "it is cut short, or of another kind"
        raise UserError(f"checkpoint {path}: cannot be read; {reason}") from error
    model = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(model, Mapping) or not model.get("tasks"):
        raise UserError(f"checkpoint {path}: was not written by `mtl-lightning fit`")
    model = {key: value for key, value in model.items() if key != "_instantiator"}
    data = {
        key: value
        for key, value in content.get("datamodule_hyper_parameters", {}).items()
        if key not in ("_instantiator", "tasks")
    }
    model.pop("image_size", None)
    return {"tasks": model.pop("tasks"), "model": model, "data": data}


def _over_checkpoint(below: dict[str, Any], given: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the config laid on what a checkpoint remembers; sources are one's or the other's."""
    tasks = given.get("tasks")
    if isinstance(tasks, Mapping):
        _check_same_tasks(tasks, below["tasks"])
        for name in below["tasks"]:
            if name not in tasks:
                raise UserError(
                    f"tasks: the checkpoint has a task {name} that the config does not name"
                )
    data = dict(given.get("data") or {})
    if command == "predict":
        data.pop("sources", None)
    below = {**below, "data": dict(below["data"])}
    if command == "predict" or data.get("sources") is not None:
        below["data"].pop("sources", None)
    elif "sources" in data:
        del data["sources"]
    config = merged(below, {**given, "data": data})
    for name, entry in config["tasks"].items():
        known = _part(below, "tasks", name, "init_args", "classes")
        if known is not None and _part(entry, "init_args", "classes") is None:
            config["tasks"][name] = merged(entry, {"init_args": {"classes": known}})
    return config


def _check_same_tasks(tasks: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse tasks that are not those of the checkpoint: never relabel silently."""
    for name in tasks:
        if name not in trained:
            raise UserError(
                f"tasks.{name}: the checkpoint has no such task{did_you_mean(str(name), trained)}; "
                f"it has {listed(trained)}"
            )
    for name, below in trained.items():
        entry = tasks.get(name)
        entry = {"class_path": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or "class_path" not in entry:
            continue  # wrong in another way, which `check` says
        if not same_class(entry["class_path"], below["class_path"]):
            raise UserError(
                f"tasks.{name}: the config has {entry['class_path']}, the checkpoint "
                f"{below['class_path']}"
            )
        for key in ("classes", "labels"):
            given = _part(entry, "init_args", key)
            known = _part(below, "init_args", key)
            if isinstance(given, list) and known is not None and [str(c) for c in given] != known:
                raise UserError(
                    f"tasks.{name}.{key}: the config has {listed(map(str, given))}; the checkpoint "
                    f"was trained with {listed(known)}, in this order. Leave {key} as they were, "
                    f"or train anew"
                )


def _fill_schedule(config: dict[str, Any]) -> None:
    """Let a scheduler's required length be left out; the trainer knows it."""
    entry = _part(config, "model", "lr_scheduler")
    if isinstance(entry, str):
        entry = config["model"]["lr_scheduler"] = {"class_path": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
        return
    name = entry["class_path"].rpartition(".")[2]
    scheduler = getattr(torch.optim.lr_scheduler, name, None)
    if scheduler is None:
        return
    arguments = dict(entry.get("init_args") or {})
    for length in LENGTHS:
        if length in scheduler.__init__.__code__.co_varnames and arguments.get(length) is None:
            arguments[length] = WHOLE_RUN
    if name == "OneCycleLR" and arguments.get("epochs") is not None:
        arguments.pop("total_steps")
    if name == "OneCycleLR" and "max_lr" not in arguments:
        raise UserError("model.lr_scheduler: OneCycleLR needs max_lr, the highest learning rate")
    config["model"]["lr_scheduler"] = {**entry, "init_args": arguments}


# --------------------------------------------------------------------- checking


def check_keys(command: str, config: Mapping[str, Any]) -> None:
    """Check the keys at the top of a config, and that sections are sections.

    Raises:
        UserError: For the first that is wrong.
    """
    singles = SINGLE | OF_COMMANDS[command]
    for key, value in config.items():
        if key in SECTIONS:
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{key}: expected entries as `name: ...`. Found {checks.shown(value)}"
                )
        elif key in singles:
            if value is not None:
                checks.check_value(singles[key], value, key)
        else:
            known = (*SECTIONS, *singles)
            raise UserError(
                f"{key}: no such key{did_you_mean(key, known)}; a config has {listed(known)}"
            )


def check(config: Mapping[str, Any]) -> None:
    """Check every name and value in the sections of a config.

    Raises:
        UserError: For the first that is wrong.
    """
    check_tasks(config["tasks"])
    for key, target in SECTIONS.items():
        if key in config and key != "tasks":
            skip = {"model": LINKED, "data": ("tasks",)}.get(key, ())
            checks.check_arguments(target, config[key], key, skip, owner=key)
    for name, entry in (_part(config, "data", "sources") or {}).items():
        checks.tried(Source, entry, f"data.sources.{name}")
    backbone = _part(config, "model", "backbone")
    if backbone is not None:
        with torch.device("meta"):  # its weights would take seconds
            checks.tried(Backbone, backbone, "model.backbone")
    if _part(config, "model", "balancing") is not None:
        check_method(config["model"], list(config["tasks"]))


def check_tasks(tasks: Mapping[str, Any]) -> None:
    """Check the tasks, their names included."""
    if not tasks or "class_path" in tasks or "init_args" in tasks:
        raise UserError(
            "tasks: expected at least one entry with a name, "
            "`NAME: {class_path: Classification}`. Found " + checks.shown(dict(tasks))
        )
    for name, entry in tasks.items():
        if not re.fullmatch(r"[\w-]+", name) or name in RESERVED:
            raise UserError(
                f'tasks: "{name}" cannot be the name of a task; expected letters, digits, _ and -, '
                f"and not {listed(RESERVED)}, which are columns and metrics of their own"
            )
        checks.check_component((Task,), entry, f"tasks.{name}")
        checks.tried(Task, entry, f"tasks.{name}")


def _run_of(checkpoint: Path | None) -> str:
    """Return the name of the run in which a checkpoint lies."""
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        return checkpoint.resolve().parents[2].name
    return "run"
