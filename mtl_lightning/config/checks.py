"""Every name and value of a config, checked entry by entry before anything is built.

jsonargparse checks too, but it reports a wrong entry of a dict without the entry's name, and a
misspelt class as a bad import path. These checks name the key and suggest the nearest name; what
they let pass is parsed by jsonargparse all the same.
"""

import dataclasses
import importlib
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonargparse
from torch import Tensor, nn

from mtl_lightning.config import untrusted
from mtl_lightning.system.errors import UserError, did_you_mean, listed


def check_arguments(
    target: Callable[..., Any],
    given: Any,
    path: str,
    skip: Iterable[str] = (),
    owner: str | None = None,
) -> None:
    """Check the arguments of a class (or function) against its signature.

    Args:
        target: The class.
        given: What the config gives it.
        path: Where that stands.
        skip: Arguments that come from elsewhere.
        owner: What to call the class; its name by default.

    Raises:
        UserError: For an unknown or missing argument, or a value of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: expected arguments as `key: value`. Found {display(given)}")
    hints = _hints(target)
    known = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in skip
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for key, value in given.items():
        if key not in known:
            raise UserError(
                f"{path}.{key}: {owner or target.__name__} has no such argument"
                f"{did_you_mean(key, known)}; it has {listed(known) or 'none'}"
            )
        if key not in hints:
            untrusted.check_text(_of_default(known[key]), value, f"{path}.{key}")
        if value is not None or known[key].default is not None:
            check_value(hints.get(key, Any), value, f"{path}.{key}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise UserError(f"{path}: {target.__name__} needs {name}")


def check_value(hint: Any, value: Any, path: str) -> None:
    """Check one value against a type annotation."""
    options = _options(hint)
    if value is None and type(None) in options:
        return
    named = component_classes(hint)
    by_name = _entries(options, dict)
    in_line = _entries(options, list, Iterable)
    produced = _produced(options)
    records = [option for option in options if _is_record(option)]
    if named and _names_a_class(value, [o for o in options if o not in named]):
        check_component(named, value, path)
    elif produced:
        check_component(tuple(produced), value, path, skip_first=True)
    elif by_name and isinstance(value, Mapping):
        for name, entry in value.items():
            check_component(by_name, entry, f"{path}.{name}")
    elif in_line and isinstance(value, list):
        for number, entry in enumerate(value):
            check_component(in_line, entry, f"{path}[{number}]")
    elif isinstance(value, Mapping) and len(records) == 1:
        check_arguments(records[0], value, path)
    elif by_name:
        raise UserError(f"{path}: expected entries as `name: ...`. Found {display(value)}")
    else:
        _check_leaf(hint, value, path)


def _names_a_class(value: Any, others: list[Any]) -> bool:
    """Whether a value is meant as a class, where the annotation has ``others`` besides classes."""
    if isinstance(value, str):
        return str not in others and all(typing.get_origin(o) is not typing.Literal for o in others)
    if isinstance(value, Mapping):
        return "class_path" in value
    return not set(others) - {type(None)}


def check_component(
    classes: tuple[type, ...], value: Any, path: str, skip_first: bool = False
) -> None:
    """Check what names a class: ``Name``, or ``{class_path: Name, init_args: {...}}``.

    Args:
        classes: It should be a subclass of one of these.
        value: What stands in the config.
        path: Where it stands.
        skip_first: The first argument is not the config's to give (an optimizer's parameters).

    Raises:
        UserError: If there is no such class, or it does not take these arguments.
    """
    known = concrete_subclasses(classes)
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping):
        raise UserError(
            f"{path}: expected class_path and init_args. Found {display(value)}; "
            f"class_path may be {listed(known)}"
        )
    if "class_path" not in value:
        raise UserError(
            f"{path}: class_path is missing; it may be {listed(known)}"
            + (f" ({listed(map(str, value))} then go under init_args)" if value else "")
        )
    beside = [str(key) for key in value if key not in ("class_path", "init_args")]
    if beside:
        raise UserError(
            f"{path}.{beside[0]}: arguments stand under init_args, not beside class_path; "
            f"write {{class_path: {value['class_path']}, init_args: {{{beside[0]}: ...}}}}"
        )
    target = resolve_class(value["class_path"], classes, f"{path}.class_path")
    first = list(inspect.signature(target).parameters)[:1] if skip_first else []
    arguments = value.get("init_args")
    check_arguments(target, {} if arguments is None else arguments, f"{path}.init_args", first)


def annotation(hint: Any, node: Mapping[str, Any], part: str) -> Any:
    """Return the annotation of ``part`` in a node of a config, ``Any`` where it has none.

    Args:
        hint: The node's own annotation, or a mapping of its parts to theirs.
        node: What stands there.
        part: A key of the node; in a class with arguments ``init_args`` may be left out.
    """
    if isinstance(hint, Mapping):
        return hint.get(part, Any)
    options = _options(hint)
    if isinstance(node.get("class_path"), str):
        bases = [option for option in options if _is_component(option)] or _produced(options)
        try:
            target = resolve_class(node["class_path"], tuple(bases), part)
        except UserError:  # it is said when the whole is checked
            return Any
        return target if part == "init_args" else _hints(target).get(part, Any)
    for option in options:
        if typing.get_origin(option) is dict:
            return typing.get_args(option)[1]
        if _is_record(option):
            return _hints(option).get(part, Any)
    return _hints(hint).get(part, Any) if inspect.isclass(hint) else Any


def fitting(hint: Any, value: Any, text: str) -> Any:
    """Return a value as YAML reads it, or its text where text is wanted: column ``1``."""
    if str not in _options(hint) or not isinstance(value, bool | int | float | None):
        return value
    try:
        check_value(hint, value, "")
    except UserError:
        return text
    return value


def concrete_subclasses(bases: Iterable[type]) -> dict[str, list[type]]:
    """Return the concrete classes under ``bases`` that are imported, by their short names."""
    found: dict[str, list[type]] = {}
    waiting = list(bases)
    while waiting:
        cls = waiting.pop()
        waiting += type.__subclasses__(cls)
        hidden = inspect.isabstract(cls) or cls.__name__.startswith("_")
        if not hidden and cls not in found.setdefault(cls.__name__, []):
            found[cls.__name__].append(cls)
    return found


def resolve_class(class_path: Any, bases: tuple[type, ...], path: str) -> type:
    """Return the class that a ``class_path`` means.

    Args:
        class_path: A short name, or the import path of one's own.
        bases: It should be a subclass of one of these.
        path: Where it stands in the config.

    Raises:
        UserError: If there is no such class, or several.
    """
    wanted = " or ".join(base.__name__ for base in bases)
    known = concrete_subclasses(bases)
    if not isinstance(class_path, str):
        raise UserError(f"{path}: expected the name of a {wanted}. Found {display(class_path)}")
    if len(known.get(class_path, [])) == 1:
        untrusted.check_class(class_path, known[class_path][0], bases, path)
        return known[class_path][0]
    if class_path in known:
        paths = [_public_path(cls) for cls in known[class_path]]
        raise UserError(
            f'{path}: several are called "{class_path}", write the whole path: {listed(paths)}'
        )
    module, dot, name = class_path.rpartition(".")
    if not dot:
        raise UserError(
            f'{path}: no {wanted} is called "{class_path}"{did_you_mean(class_path, known)}; '
            f"there is {listed(sorted(known))}, or the import path of your own"
        )
    untrusted.check_import(class_path, path)
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # one's own module may fail in any way
        raise UserError(
            f'{untrusted.message_prefix(class_path)}{path}: cannot import "{class_path}": {error}'
            f"{did_you_mean(name, known)}"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, bases)):
        raise UserError(
            f'{untrusted.message_prefix(class_path)}{path}: "{class_path}" is not a {wanted}'
        )
    untrusted.check_class(class_path, found, bases, path)
    return found


def _public_path(cls: type) -> str:
    parts = [part for part in cls.__module__.split(".") if not part.startswith("_")]
    return ".".join([*parts, cls.__name__])


def try_build(base: type, entry: Any, path: str) -> Any:
    """Build an entry, which is cheap, so that what its constructor says gets the entry's name.

    Returns:
        The object; None if it cannot be built yet, because one's own class takes objects that the
        config only describes.

    Raises:
        UserError: If the constructor refuses its arguments.
    """
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    target = resolve_class(entry["class_path"], (base,), path)
    try:
        return target(**(entry.get("init_args") or {}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception:
        return None


def display(value: Any) -> str:
    """Return a value as a message shows it, short."""
    text = "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def type_name(hint: Any) -> str:
    """Return an annotation in the words of a config."""
    return " or ".join(dict.fromkeys(word for option in _options(hint) for word in _words(option)))


def _words(hint: Any) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return [str(argument) for argument in arguments]
    if origin in (list, Iterable):
        return [f"[{type_name(arguments[0])}, ...]"]
    if origin is dict:
        return [f"{{name: {type_name(arguments[1])}, ...}}"]
    if dataclasses.is_dataclass(hint):
        return ["{" + ", ".join(f"{field.name}: ..." for field in dataclasses.fields(hint)) + "}"]
    names = {str: "text", bool: "true or false", float: "a number", int: "an integer"}
    names |= {type(None): "null", Path: "text", Tensor: "a list of numbers"}
    return ["text" if _is_path(hint) else names.get(hint, getattr(hint, "__name__", str(hint)))]


def _check_leaf(hint: Any, value: Any, path: str) -> None:
    untrusted.check_text(hint, value, path)
    value = untrusted.unmark(value)
    # To jsonargparse every object is a path; a config can only hold text.
    options = [str if _is_path(option) else option for option in _options(hint)]
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=typing.Union[tuple(options)])  # noqa: UP007
    try:
        if value is None and type(None) not in options and Any not in options:
            raise ValueError  # jsonargparse takes it for an option that is not given
        parser.parse_object({"value": value})
    except (jsonargparse.ArgumentError, TypeError, ValueError):
        choices = [str(a) for o in options for a in typing.get_args(o)]
        hint_text = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise UserError(
            f"{path}: expected {type_name(hint)}. Found {display(value)}{hint_text}"
        ) from None


def _of_default(parameter: inspect.Parameter) -> Any:
    """Return what jsonargparse takes an argument without an annotation for; None: who knows."""
    if parameter.annotation is not parameter.empty:
        return None  # one that cannot be resolved here
    return Any if parameter.default is parameter.empty else type(parameter.default)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # names that a library imports for type checkers only: jsonargparse can
        return {}


def component_classes(hint: Any) -> tuple[type, ...]:
    """Return the classes that an annotation lets a config name."""
    return tuple(option for option in _options(hint) if _is_component(option))


def takes_tensor(hint: Any) -> bool:
    """Whether an annotation takes a tensor, which a config writes as a list of numbers."""
    return Tensor in _options(hint)


def _options(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [option for argument in typing.get_args(hint) for option in _options(argument)]
    if inspect.isclass(origin) and issubclass(origin, nn.Module):
        return [origin]  # of a generic class: what it is generic in is no config's business
    return [hint]


def _produced(options: Iterable[Any]) -> list[Any]:
    """Return the classes of what the callables among the options return."""
    return [
        produced
        for option in options
        if typing.get_origin(option) is Callable
        for produced in _options(typing.get_args(option)[1])
    ]


def _entries(options: Iterable[Any], *kinds: Any) -> tuple[Any, ...]:
    """Return the classes of the entries of dicts or lists among the options."""
    found = [typing.get_args(o)[-1] for o in options if typing.get_origin(o) in kinds]
    return tuple(entry for entry in found if _is_component(entry))


def _is_path(hint: Any) -> bool:
    return (typing.get_origin(hint) or hint) is os.PathLike


def _is_record(hint: Any) -> bool:
    """Whether a config gives a value of this type as the keys of a dataclass."""
    return inspect.isclass(hint) and dataclasses.is_dataclass(hint)


def _is_component(hint: Any) -> bool:
    """Whether a config gives a value of this type as a class_path with init_args."""
    return (
        inspect.isclass(hint)
        and not _is_path(hint)
        and hint is not Tensor  # a list of numbers: see mtl_lightning.balancing.arguments
        and hint.__module__ not in ("builtins", "pathlib", "datetime", "typing")
        and not dataclasses.is_dataclass(hint)
    )
