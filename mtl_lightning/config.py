"""From what was typed to what LightningCLI parses: one config, complete and checked.

Configs are merged entry by entry (a second file that names one task changes that task and keeps
the others), what a checkpoint remembers lies beneath them, flags into a task or a source are put
where they belong, and names are checked, before LightningCLI sees anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from mtl_lightning import checks
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import Source
from mtl_lightning.errors import UserError, did_you_mean, listed
from mtl_lightning.module import MultiTask
from mtl_lightning.runs import resolve_checkpoint
from mtl_lightning.schedule import LENGTHS, WHOLE_RUN
from mtl_lightning.tasks import Task

TEXT_LISTS = ("classes", "missing")
"""Keys whose values are compared as text: ``[0, 1]`` and ``[no, yes]`` mean what they look like."""

ENTRIES = ("tasks", "data.sources")
"""Dicts whose keys the user chooses; a flag into one goes to the entry."""


@dataclass(frozen=True)
class Prepared:
    """What was asked for, ready to be parsed.

    Attributes:
        config: The merged config.
        flags: What was typed beside it and is LightningCLI's business.
        name: The name of the run.
        root: The folder of all runs.
        checkpoint: The file that ``ckpt_path`` means.
    """

    config: dict[str, Any]
    flags: list[str]
    name: str
    root: Path
    checkpoint: Path | None


def prepare(command: str, arguments: list[str]) -> Prepared:
    """Merge, complete and check everything that a command was given.

    Raises:
        UserError: For anything that is wrong or missing.
    """
    files, flags = _taken(arguments, ("-c", "--config"))
    config: dict[str, Any] = {}
    for file in files:
        config = merged(config, load(Path(file)))
    flags = _apply_entry_flags(config, flags)
    for key in ("name", "ckpt_path", "trainer.default_root_dir"):
        values, flags = _taken(flags, (f"--{key}",))
        if values:
            _set(config, key, values[-1])

    name = str(config.get("name") or (Path(files[0]).stem if files else "")) or None
    root = Path((config.get("trainer") or {}).get("default_root_dir") or "runs")
    spec = config.get("ckpt_path")
    checkpoint = None
    if spec is not None:
        if name is None and spec in ("best", "last"):
            raise UserError(f"ckpt_path {spec}: of which run? Give --name, or --config")
        checkpoint = resolve_checkpoint(str(spec), root, name or "")
        config = _over_checkpoint(config, remembered(checkpoint), command)
        config["ckpt_path"] = str(checkpoint)
    elif command != "fit":
        raise UserError(f"{command} needs --ckpt_path: a checkpoint file, best or last")
    if "tasks" not in config:
        raise UserError(
            "tasks are missing: give --config FILE that names them "
            "(configs/quickstart.yaml is one to start from)"
        )
    config["name"] = name = name or _run_of(checkpoint)
    _fill_schedule(config)
    check(config)
    return Prepared(config, flags, name, root, checkpoint)


# --------------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-4 is a number, and yes and no are words."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'the key "{key.value}" is there twice', problem_mark=key.start_mark
                )
            seen.add(key.value)
            if key.value in TEXT_LISTS and isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    if isinstance(item, yaml.ScalarNode):
                        item.tag = "tag:yaml.org,2002:str"
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if not tag.endswith((":bool", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load(path: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        UserError: If it is not there, or not a YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"config {path}: no such file{did_you_mean(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config {path}: cannot be read: {error}") from None
    try:
        config = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"config {path}{where}: not valid YAML: {problem}") from None
    if not isinstance(config, dict):
        raise UserError(f"config {path}: expected keys and values, such as `tasks: ...`")
    return config


def remembered(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of tasks, model and data; plain values only.

    Raises:
        UserError: If the file is not one of our checkpoints.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise UserError(f"checkpoint {path}: cannot be read ({_first_line(error)})") from error
    model = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(model, Mapping) or "tasks" not in model:
        raise UserError(f"checkpoint {path}: was not written by `mtl-lightning fit`")
    model = {key: value for key, value in model.items() if key != "_instantiator"}
    data = {
        key: value
        for key, value in content.get("datamodule_hyper_parameters", {}).items()
        if key not in ("_instantiator", "tasks")
    }
    model.pop("image_size", None)
    return {"tasks": model.pop("tasks"), "model": model, "data": data}


# --------------------------------------------------------------------- merging


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``over`` laid on ``under``, entry by entry; another class forgets the arguments."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            changed = "class_path" in value and not same_class(
                value["class_path"], below.get("class_path")
            )
            result[key] = dict(value) if changed else merged(below, value)
        else:
            result[key] = value
    return result


def same_class(one: Any, other: Any) -> bool:
    """Whether two class paths mean one class: ``VGG16`` and its full path."""
    return str(one).rpartition(".")[2] == str(other).rpartition(".")[2]


def _over_checkpoint(config: dict[str, Any], below: dict[str, Any], command: str) -> dict[str, Any]:
    if command == "predict":
        below["data"].pop("sources", None)
        (config.get("data") or {}).pop("sources", None)
    elif "sources" in (config.get("data") or {}):
        below["data"].pop("sources", None)
    tasks = config.get("tasks")
    if isinstance(tasks, Mapping):
        _check_same_tasks(tasks, below["tasks"])
    return merged(below, config)


def _check_same_tasks(tasks: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse tasks that are not those of the checkpoint: never relabel silently."""
    for name in tasks:
        if name not in trained:
            raise UserError(
                f"tasks.{name}: the checkpoint has no such task{did_you_mean(str(name), trained)}; "
                f"it has {listed(trained)}"
            )
    for name, below in trained.items():
        if name not in tasks:
            raise UserError(
                f"tasks: the checkpoint has a task {name} that the config does not name"
            )
        entry = tasks[name]
        entry = {"class_path": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or "class_path" not in entry:
            continue  # wrong in another way, which `check` says
        if not same_class(entry["class_path"], below["class_path"]):
            raise UserError(
                f"tasks.{name}: the config has {entry['class_path']}, the checkpoint "
                f"{below['class_path']}"
            )
        given = (entry.get("init_args") or {}).get("classes")
        known = (below.get("init_args") or {}).get("classes")
        if given is not None and known is not None and [str(c) for c in given] != known:
            raise UserError(
                f"tasks.{name}.classes: the config has {listed(map(str, given))}; the checkpoint "
                f"was trained with {listed(known)}, in this order. Leave classes out, or train anew"
            )


def _fill_schedule(config: dict[str, Any]) -> None:
    """Let a scheduler's required length be left out; the trainer knows it."""
    entry = (config.get("model") or {}).get("lr_scheduler")
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


# --------------------------------------------------------------------- flags


def _taken(arguments: list[str], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Take the options called ``names`` out of the arguments: their values, and the rest."""
    values, rest = [], []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        option, equals, value = argument.partition("=")
        if option not in names:
            rest.append(argument)
        elif equals:
            values.append(value)
        elif waiting:
            values.append(waiting.pop(0))
        else:
            raise UserError(f"{option} needs a value")
    return values, rest


def _apply_entry_flags(config: dict[str, Any], flags: list[str]) -> list[str]:
    """Put ``--tasks.NAME.KEY VALUE`` and ``--data.sources.NAME.KEY VALUE`` into the config."""
    rest = list(flags)
    for flag in flags:
        option = flag.partition("=")[0]
        for entries in ENTRIES:
            if not option.startswith(f"--{entries}."):
                continue
            values, rest = _taken(rest, (option,))
            if not values:
                continue
            name, dot, key = option.removeprefix(f"--{entries}.").partition(".")
            known = _get(config, entries) or {}
            if name not in known:
                raise UserError(
                    f"{option}: the config has no {name}{did_you_mean(name, known)}; "
                    f"{entries} has {listed(known) or 'nothing'}"
                )
            if not dot:
                raise UserError(f"{option}: name what to change, as {option}.KEY VALUE")
            if isinstance(known[name], str):
                known[name] = {"class_path": known[name]}
            if key != "class_path":
                key = "init_args." + key.removeprefix("init_args.")
            value = yaml.load(values[-1], Loader=_Loader)
            _set(config, f"{entries}.{name}.{key}", value)
    return rest


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(config.get(parent), dict):
            config[parent] = {}
        config = config[parent]
    config[last] = value


# --------------------------------------------------------------------- checking


def check(config: dict[str, Any]) -> None:
    """Check every name and value that stands in a config.

    Raises:
        UserError: For the first that is wrong.
    """
    from pytorch_lightning import Trainer

    sections = {"model": MultiTask, "data": PartialLabels, "trainer": Trainer}
    others = ("seed_everything", "tasks", "name", "ckpt_path", "checkpoint", "weights_only")
    for key in config:
        if key not in sections and key not in others:
            raise UserError(
                f"{key}: no such key{did_you_mean(str(key), (*sections, *others))}; "
                f"a config has {listed((*sections, *others))}"
            )
    check_tasks(config["tasks"])
    linked = {"model": ("tasks", "image_size"), "data": ("tasks",)}
    for key, target in sections.items():
        if config.get(key) is not None:
            arguments = (
                {k: v for k, v in config[key].items() if v is not None}
                if isinstance(config[key], Mapping)
                else config[key]
            )
            checks.check_arguments(target, arguments, key, skip=("self", *linked.get(key, ())))
    for name, entry in ((config.get("data") or {}).get("sources") or {}).items():
        _try(Source, entry, f"data.sources.{name}")


def check_tasks(tasks: Any) -> None:
    """Check the tasks, their names included."""
    if not isinstance(tasks, Mapping) or not tasks:
        raise UserError("tasks: expected at least one entry, `name: {class_path: Classification}`")
    for name, entry in tasks.items():
        if not re.fullmatch(r"[\w-]+", str(name)) or name in ("image", "loss", "score"):
            raise UserError(
                f'tasks: "{name}" cannot be the name of a task; expected letters, digits, _ and -, '
                f"and not image, loss or score, which are columns and metrics of their own"
            )
        checks.check_component(Task, entry, f"tasks.{name}")
        _try(Task, entry, f"tasks.{name}")


def _try(base: type, entry: Any, path: str) -> None:
    """Build the entry, which is cheap, so that what its constructor says gets the entry's name."""
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    target = checks.resolve(entry["class_path"], (base,), checks.subclasses((base,)), path)
    try:
        target(**(entry.get("init_args") or {}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _run_of(checkpoint: Path | None) -> str:
    """Return the name of the run in which a checkpoint lies."""
    if checkpoint is not None and checkpoint.resolve().parent.name == "checkpoints":
        return checkpoint.resolve().parents[2].name
    return "run"
