"""Command-line options, and merging configs: ``--model.backbone.pooling avg``.

A flag is merged into the config before anything is parsed. So it is checked by the same rules as a
file, ``init_args`` may be left out, and a flag that names another class drops the arguments of the
old one, including defaults.
"""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from mtl_lightning.config import yaml_io
from mtl_lightning.config.values import display
from mtl_lightning.system.errors import UserError, did_you_mean, listed

ENTRIES = ("tasks", "data.sources")
"""Dicts with keys of the user's choice; a flag changes an existing entry."""


def pop_options(arguments: list[str], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Remove the options called ``names`` from the arguments; return their values, and the rest.

    Raises:
        UserError: If an option has no value.
    """
    found, rest = split_options(arguments, lambda option: option in names)
    return [value for _, value in found], rest


def pop_list(arguments: list[str], name: str) -> tuple[list[str], list[str]]:
    """Remove an option with any number of values (``--only a b``); return them, and the rest.

    Raises:
        UserError: If it has none.
    """
    found: list[str] = []
    rest: list[str] = []
    taking = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option == name:
            taking = not equals
            found += [value] if equals else []
        elif taking and not argument.startswith("-"):
            found.append(argument)
        else:
            taking = False
            rest.append(argument)
    if name in [argument.partition("=")[0] for argument in arguments] and not found:
        raise UserError(f"{name} needs a value")
    return found, rest


def split_options(
    arguments: list[str], wanted: Callable[[str], bool]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Split the arguments into wanted options with their values, and the rest.

    Raises:
        UserError: If a wanted option has no value.
    """
    found, rest = [], []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        option, equals, value = argument.partition("=")
        if not wanted(option):
            rest.append(argument)
        elif equals:
            found.append((option, value))
        elif waiting and not waiting[0].startswith("--"):
            found.append((option, waiting.pop(0)))
        else:
            raise UserError(f"{option} needs a value")
    return found, rest


def pop_overrides(
    arguments: list[str], sections: Container[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Remove the options that change a section of the config; return them, and the rest.

    Some are left to jsonargparse: ``--trainer.callbacks+=EarlyStopping`` adds to a list, and
    ``--trainer.callbacks.monitor`` after it sets an argument of the new entry.
    """
    options = [argument.partition("=")[0] for argument in arguments]
    lists = tuple(f"{option[:-1]}." for option in options if option.endswith("+"))

    def wanted(option: str) -> bool:
        section = option.removeprefix("--").partition(".")[0]
        ours = option.startswith("--") and section in sections
        return ours and not option.endswith("+") and not option.startswith(lists)

    return split_options(arguments, wanted)


def apply_override(config: dict[str, Any], option: str, text: str) -> None:
    """Change the config, in place, as one option says.

    Args:
        config: The config.
        option: Such as ``--data.batch_size``.
        text: Its value as typed.

    Raises:
        UserError: If there is nothing of this name to change.
    """
    *parents, last = option.removeprefix("--").split(".")
    node = config
    for depth, part in enumerate(parents):
        _check_entry(option, ".".join(parents[:depth]), node, part)
        node = _child(_holder(node, part), part, option)
    _check_entry(option, ".".join(parents), node, last)
    holder = _holder(node, last)
    value, below = yaml_io.parse(text), holder.get(last)
    if last == "class_path":
        if not is_same_class(value, below):
            holder.pop("init_args", None)
        holder[last] = value
    elif isinstance(value, str) and not parents:
        holder[last] = deep_merge(below or {}, yaml_io.load(Path(value)))  # --trainer FILE
    else:
        holder.update(deep_merge(holder, {last: value}))


def deep_merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``under`` updated by ``over``, entry by entry; another class drops the arguments."""
    result = dict(under)
    for key, given in over.items():
        value, below = given, result.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and set(value) == {"init_args"}:
            below = {"class_path": below}
        elif isinstance(value, str) and _is_component(below):
            value = {"class_path": value}
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            changed = "class_path" in value and not is_same_class(
                value["class_path"], below.get("class_path")
            )
            result[key] = dict(value) if changed else deep_merge(below, value)
        else:
            result[key] = value
    return result


def is_same_class(one: Any, other: Any) -> bool:
    """Whether two class paths name one class: ``VGG16`` and its full path."""
    return str(one).rpartition(".")[2] == str(other).rpartition(".")[2]


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_path"), str)


def _holder(node: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the dict that holds ``part``: for a class with arguments, these."""
    if not _is_component(node) or part in ("class_path", "init_args"):
        return node
    if not isinstance(node.get("init_args"), dict):
        node["init_args"] = {}
    arguments: dict[str, Any] = node["init_args"]
    return arguments


def _child(holder: dict[str, Any], part: str, option: str) -> dict[str, Any]:
    value = holder.get(part)
    if value is None:
        value = holder[part] = {}
    elif isinstance(value, str):
        value = holder[part] = {"class_path": value}  # a class named without arguments
    elif not isinstance(value, dict):
        raise UserError(f"{option}: {part} is {display(value)}, which has no parts to set")
    return value


def _check_entry(option: str, path: str, node: Mapping[str, Any], part: str) -> None:
    if path in ENTRIES and part not in node:
        raise UserError(
            f"{option}: there is no {part}{did_you_mean(part, node)}; "
            f"{path} has {listed(node) or 'nothing'}"
        )
