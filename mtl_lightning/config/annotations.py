"""Type annotations of a config's places: the classes it may name there, and other values."""

import dataclasses
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonargparse
from torch import Tensor, nn


def options(hint: Any) -> list[Any]:
    """Return the members of a union, or the annotation alone."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [option for argument in typing.get_args(hint) for option in options(argument)]
    if inspect.isclass(origin) and issubclass(origin, nn.Module):
        return [origin]  # a config has no type parameters
    return [hint]


def choices(hint: Any) -> list[Any]:
    """Return the values that an annotation lists one by one."""
    literals = [option for option in options(hint) if typing.get_origin(option) is typing.Literal]
    return [choice for literal in literals for choice in typing.get_args(literal)]


def argument_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the arguments of a class (or function)."""
    # Names that a library imports only for type checkers, which jsonargparse knows, are none here.
    with suppress(NameError):
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    return {}


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class (or function).

    Of a class that takes ``**kwargs`` these are also those that jsonargparse finds behind
    them, and writes into the config that is saved.
    """
    found = dict(inspect.signature(target).parameters)
    kinds = {parameter.kind for parameter in found.values()}
    if not inspect.isclass(target) or inspect.Parameter.VAR_KEYWORD not in kinds:
        return found
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(target, "a", fail_untyped=False)
    behind = [name.partition(".")[2] for name in names]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {k: inspect.Parameter(k, keyword, default=None) for k in behind} | found


def component_classes(hint: Any) -> tuple[type, ...]:
    """Return the classes that an annotation lets a config name."""
    return tuple(option for option in options(hint) if is_component(option))


def component_entries(hint: Any, *containers: Any) -> tuple[type, ...]:
    """Return the classes of the entries of dicts or lists among the options."""
    entries = [typing.get_args(o)[-1] for o in options(hint) if typing.get_origin(o) in containers]
    return tuple(entry for entry in entries if is_component(entry))


def produced_classes(hint: Any) -> tuple[type, ...]:
    """Return the return types of the callables among the options."""
    return tuple(
        produced
        for option in options(hint)
        if typing.get_origin(option) is Callable and typing.get_args(option)
        for produced in options(typing.get_args(option)[1])
        if is_component(produced)
    )


def contained(hint: Any, container: type) -> Any:
    """Return the annotation of the entries of the lists or mappings that an annotation takes.

    Args:
        hint: The annotation.
        container: ``list`` or ``dict``.

    Returns:
        A union if there are several, None if it takes no such container or any entries.
    """
    found: list[Any] = []
    for option in options(hint):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if not (inspect.isclass(origin) and issubclass(origin, Iterable)):
            continue
        if issubclass(origin, Mapping) == (container is dict):
            found += arguments[1:] if container is dict else arguments
    found = [hint for hint in found if hint is not Ellipsis]
    return typing.Union[tuple(found)] if found else None  # noqa: UP007 - of as many as there are


def takes_tensor(hint: Any) -> bool:
    """Whether an annotation takes a tensor, which a config writes as a list of numbers."""
    return Tensor in options(hint)


def is_path(hint: Any) -> bool:
    """Whether an annotation takes paths, which a config writes as text."""
    return (typing.get_origin(hint) or hint) is os.PathLike


def is_record(hint: Any) -> bool:
    """Whether a config gives a value of this type as the keys of a dataclass."""
    return inspect.isclass(hint) and dataclasses.is_dataclass(hint)


def is_component(hint: Any) -> bool:
    """Whether a config gives a value of this type as a class_path with init_args."""
    return (
        inspect.isclass(hint)
        and not is_path(hint)
        and hint is not Tensor  # a list of numbers: see mtl_lightning.balancing.arguments
        and hint.__module__ not in ("builtins", "pathlib", "datetime", "typing")
        and not dataclasses.is_dataclass(hint)
    )


def type_name(hint: Any) -> str:
    """Return an annotation in the words of a config."""
    return " or ".join(dict.fromkeys(word for option in options(hint) for word in _words(option)))


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
    return ["text" if is_path(hint) else names.get(hint, getattr(hint, "__name__", str(hint)))]
