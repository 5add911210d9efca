"""From what was typed to what LightningCLI parses: one config, complete and checked.

Configs are merged entry by entry (a second file that names one task changes that task and keeps
the others), what a checkpoint remembers lies beneath them, flags lie on top, and names are checked,
before LightningCLI sees anything.
"""

import copy
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from torch.optim.lr_scheduler import LRScheduler

from mtl_lightning.balancing.arguments import check_method, fill_sizes
from mtl_lightning.commands.only import keep_only
from mtl_lightning.config import (
    checks,
    flags,
    import_path,
    untrusted,
    yaml_io,
)
from mtl_lightning.config.annotations import argument_hints
from mtl_lightning.config.flags import deep_merge, is_same_class
from mtl_lightning.config.values import display
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources import Source
from mtl_lightning.models import Backbone
from mtl_lightning.runs.checkpoint_reading import saved_config
from mtl_lightning.runs.folder import ALIASES, check_name, requeued_checkpoint, resolve_checkpoint
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Task
from mtl_lightning.training.module import MultiTask
from mtl_lightning.training.schedule import LENGTHS, WHOLE_RUN

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
    """What ``best.ckpt`` is, and how often ``last.ckpt`` is written.

    Args:
        monitor: The logged name by which the best is chosen.
        mode: ``max`` where higher is better.
        every_n_train_steps: Write ``last.ckpt`` each so many optimizer steps, not only after
            each epoch.
        train_time_interval: And whenever so much time has passed, as ``00:30:00``.

    Raises:
        UserError: If an interval is not above 0.
    """

    monitor: str = "val/score"
    mode: Literal["max", "min"] = "max"
    every_n_train_steps: int | None = None
    train_time_interval: timedelta | None = None

    def __post_init__(self) -> None:
        for name, least in (("every_n_train_steps", 1), ("train_time_interval", timedelta(0))):
            value = getattr(self, name)
            if value is not None and (value < least or not value):
                raise UserError(f"checkpoint.{name} should be above 0. Found {value}")


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
    "predict": {
        "images": str | None,
        "output": str,
        "allow_outside_root": bool,
        "intensity": Intensity | None,
        "return_predictions": bool | None,
    },
    "inspect": {},
    "pack": {},
}
LINKED = ("tasks", "image_size")
"""What the model is told by other keys."""
TRAINING = (
    ("model", "optimizer"),
    ("model", "lr_scheduler"),
    ("data", "augmentation"),
    ("data", "mirror"),
    ("data", "augment_on"),
    ("data", "sampling"),
)
"""What nothing but training reads."""
BALANCING = ("balancing", "gradients", "balance_every_n_steps")
"""What of the model nothing but training reads, and cannot be understood one without the other."""


@dataclass(frozen=True)
class Prepared:
    """What was asked for, ready to be parsed.

    Attributes:
        config: The merged config.
        flags: What was typed beside it and is LightningCLI's business.
        name: The name of the run.
        root: The folder of all runs.
        checkpoint: The file that ``ckpt_path`` means.
        resumed_step: The optimizer steps that were made before it was written.
        export_weights: Where a balancing's average weights are written to.
    """

    config: dict[str, Any]
    flags: list[str]
    name: str
    root: Path
    checkpoint: Path | None
    resumed_step: int | None = None
    export_weights: Path | None = None


def prepare(command: str, arguments: list[str]) -> Prepared:
    """Merge, complete and check everything that a command was given.

    Raises:
        UserError: For anything that is wrong or missing.
    """
    files, rest = flags.pop_options(arguments, ("-c", "--config"))
    given: dict[str, Any] = {}
    for file in files:
        given = deep_merge(given, yaml_io.load(Path(file)))
    import_path.add_cwd_for(given)
    only, rest = flags.pop_list(rest, "--only")
    exports, rest = flags.pop_options(rest, ("--export-weights",))
    if exports and command != "fit":
        raise UserError(f"--export-weights: {command} balances nothing; it is for fit")
    typed: dict[str, Any] = {}
    for key in ("name", "ckpt_path", "weights_only"):
        values, rest = flags.pop_options(rest, (f"--{key}",))
        if values:
            typed[key] = values[-1]
    if command == "predict":
        values, rest = flags.pop_options(rest, ("--intensity",))
        typed |= {"intensity": yaml_io.parse(values[-1])} if values else {}
    given |= typed
    changes, rest = flags.pop_overrides(rest, SECTIONS)
    given = check_keys(command, given)

    name = str(given.get("name") or (Path(files[0]).stem if files else ""))
    check_name(name)
    if only and "tasks" in given:
        given = keep_only({**given, "tasks": check_tasks(given["tasks"])}, only)
    if only and name and "name" not in typed:
        name = "-".join([name, "only", *only])  # its best and last are not those of all tasks
    _check_weights_only(given)
    root = _root(given, changes)
    checkpoint, below = None, {}
    if command == "fit" and given.get("ckpt_path") is None:
        requeued = requeued_checkpoint(root, name)
        given |= {} if requeued is None else {"ckpt_path": str(requeued)}
    own = untrusted.imported_modules(given)
    if given.get("ckpt_path") is not None:
        checkpoint = _checkpoint(str(given["ckpt_path"]), root, name)
        below = saved_config(checkpoint, resume=command == "fit")
        below = untrusted.mark(below, untrusted.Origin(str(checkpoint), own))
        if only and set(only) != set(below["tasks"]):
            raise UserError(
                f"--only {' '.join(only)}: the checkpoint was trained for "
                f"{listed(below['tasks'])}; a network is tested with the tasks it was trained for"
            )
        given["ckpt_path"] = str(checkpoint)
    elif command not in ("fit", "inspect", "pack"):
        raise UserError(f"{command} needs --ckpt_path: a checkpoint file, best or last")
    if below:
        given = _over_checkpoint(below, given, command)
    config = copy.deepcopy(deep_merge(DEFAULTS, given))
    for option, text in changes:
        flags.apply_override(config, option, text)
    own |= untrusted.imported_modules(config)
    if "tasks" not in config:
        raise UserError(
            "tasks are missing: give --config FILE that names them "
            "(configs/quickstart.yaml is one to start from)"
        )
    config["name"] = name = name or _run_of(checkpoint)
    config = check_keys(command, config)
    _fill_schedule(config)
    if command != "fit":  # a method's solver need not be installed where nothing is balanced
        for key in BALANCING:
            config.get("model", {}).pop(key, None)
    if _part(config, "model", "balancing") is not None and isinstance(config["tasks"], Mapping):
        entry = fill_sizes(config["model"]["balancing"], list(config["tasks"]))
        config["model"]["balancing"] = entry
    config = check(config)
    if below:
        _check_same_tasks(config["tasks"], below["tasks"])
    config["weights_only"] = True  # also where Lightning finds a checkpoint itself, under SLURM
    export = Path(exports[-1]) if exports else None
    plain = untrusted.unmark(config)
    return Prepared(plain, rest, name, root, checkpoint, below.get("step"), export)


def _check_weights_only(given: Mapping[str, Any]) -> None:
    if str(given.get("weights_only")).lower() not in ("none", "null", "true"):
        raise UserError(
            f"weights_only: {given['weights_only']}: a checkpoint is read as plain values and in "
            f"no other way, so that it cannot run code; leave it out"
        )


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
        if "intensity" not in given:
            given = {**given, "intensity": _trained_intensity(below)}
    below = {key: below[key] for key in ("tasks", "model")} | {"data": dict(below["data"])}
    if command == "predict" or data.get("sources") is not None:
        below["data"].pop("sources", None)
    elif "sources" in data:
        del data["sources"]
    if command != "fit":
        below = _without_what_is_refused(below)
    config = deep_merge(below, {**given, "data": data})
    for name, entry in config["tasks"].items():
        trained = _part(below, "tasks", name)
        for key in _identity(trained):
            if _part(entry, "init_args", key) is None:
                known = {"init_args": {key: trained["init_args"][key]}}
                entry = config["tasks"][name] = deep_merge(entry, known)
    return config


def _trained_intensity(below: Mapping[str, Any]) -> Any:
    """Return the `Intensity` of the images that a network was trained on, as a config has it."""
    sources = _part(below, "data", "sources") or {}
    found = [_part(entry, "init_args", "intensity") for entry in sources.values()]
    if any(intensity != found[0] for intensity in found):
        written = [f"{name}: {own}" for name, own in zip(sources, found, strict=True)]
        raise UserError(
            f"predict: the sources of the training differ in `intensity` ({listed(written)}); say "
            f"which is meant: --intensity '{{min: 0, max: 4095}}', or null"
        )
    return found[0] if found else None


def _identity(entry: Any) -> dict[str, object]:
    """Return what a task says must agree; nothing where `check` will say what is wrong with it."""
    try:
        task = checks.try_build(Task, entry, "tasks")
    except UserError:
        return {}
    return {} if task is None else dict(task.identity())


def _without_what_is_refused(below: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only training needs, where it is not to be trusted: a test does without it."""
    kept = {section: dict(values) for section, values in below.items()}
    for section, key in TRAINING:
        if key in kept[section]:
            try:
                hint = argument_hints(SECTIONS[section])[key]
                checks.check_value(hint, kept[section][key], f"{section}.{key}")
            except UserError:
                del kept[section][key]
    return kept


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
        if not is_same_class(entry["class_path"], below["class_path"]):
            raise UserError(
                f"tasks.{name}: the config has {entry['class_path']}, the checkpoint "
                f"{below['class_path']}"
            )
        given = _identity(entry)
        for key, known in _identity(below).items():
            if key in given and given[key] != known:
                order = ", in this order" if isinstance(known, list) else ""
                raise UserError(
                    f"tasks.{name}.{key}: the config has {_shown(given[key])}; the checkpoint was "
                    f"trained with {_shown(known)}{order}. "
                    f"Leave {key} as they were, or train anew"
                )


def _shown(value: object) -> str:
    return listed(map(str, value)) if isinstance(value, list) else display(value)


def _fill_schedule(config: dict[str, Any]) -> None:
    """Let a scheduler's required length be left out; the trainer knows it."""
    entry = _part(config, "model", "lr_scheduler")
    if isinstance(entry, str):
        entry = config["model"]["lr_scheduler"] = {"class_path": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
        return
    name = entry["class_path"].rpartition(".")[2]
    scheduler = getattr(torch.optim.lr_scheduler, name, None)
    if not inspect.isclass(scheduler) or not issubclass(scheduler, LRScheduler):
        return
    arguments = entry.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        return  # `check` says that it is wrong
    arguments = dict(arguments)
    for length in LENGTHS:
        if length in scheduler.__init__.__code__.co_varnames and arguments.get(length) is None:
            arguments[length] = WHOLE_RUN
    if name == "OneCycleLR" and arguments.get("epochs") is not None:
        arguments.pop("total_steps")
    if name == "OneCycleLR" and "max_lr" not in arguments:
        raise UserError("model.lr_scheduler: OneCycleLR needs max_lr, the highest learning rate")
    config["model"]["lr_scheduler"] = {**entry, "init_args": arguments}


# --------------------------------------------------------------------- checking


def check_keys(command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys at the top of a config, and that sections are sections.

    Returns:
        The config, with the scalars at its top read.

    Raises:
        UserError: For the first that is wrong.
    """
    singles = SINGLE | OF_COMMANDS[command]
    checked = dict(config)
    for key, value in config.items():
        if key in SECTIONS:
            if not isinstance(value, Mapping):
                raise UserError(f"{key}: expected entries as `name: ...`. Found {display(value)}")
        elif key in singles:
            if value is not None:
                checked[key] = checks.check_value(singles[key], value, key)
        else:
            known = (*SECTIONS, *singles)
            raise UserError(
                f"{key}: no such key{did_you_mean(key, known)}; a config has {listed(known)}"
            )
    return checked


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check every name and value in the sections of a config.

    Returns:
        The config, with its scalars read.

    Raises:
        UserError: For the first that is wrong.
    """
    config = {**config, "tasks": check_tasks(config["tasks"])}
    for key, target in SECTIONS.items():
        if key in config and key != "tasks":
            skip = {"model": LINKED, "data": ("tasks",)}.get(key, ())
            config[key] = checks.check_arguments(target, config[key], key, skip, owner=key)
    for name, entry in (_part(config, "data", "sources") or {}).items():
        checks.try_build(Source, entry, f"data.sources.{name}")
    backbone = _part(config, "model", "backbone")
    if backbone is not None:
        with torch.device("meta"):  # its weights would take seconds
            checks.try_build(Backbone, backbone, "model.backbone")
    if _part(config, "model", "balancing") is not None:
        check_method(config["model"], list(config["tasks"]))
    return config


def check_tasks(tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Check the tasks, their names included, and return them with their scalars read."""
    if not tasks or "class_path" in tasks or "init_args" in tasks:
        raise UserError(
            "tasks: expected at least one entry with a name, "
            "`NAME: {class_path: Classification}`. Found " + display(dict(tasks))
        )
    checked = {}
    for name, entry in tasks.items():
        if not re.fullmatch(r"[\w-]+", name) or name in RESERVED:
            raise UserError(
                f'tasks: "{name}" cannot be the name of a task; expected letters, digits, _ and -, '
                f"and not {listed(RESERVED)}, which are columns and metrics of their own"
            )
        checked[name] = checks.check_component((Task,), entry, f"tasks.{name}")
        checks.try_build(Task, checked[name], f"tasks.{name}")
    return checked


def _run_of(checkpoint: Path | None) -> str:
    """Return the name of the run in which a checkpoint lies."""
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        return checkpoint.resolve().parents[2].name
    return "run"
