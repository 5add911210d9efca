"""Classes and texts that a checkpoint may name, so that an untrusted one cannot run its own code.

A checkpoint holds plain values. Numbers do no harm, but texts can, if a class is built, a function
imported or a file opened by their name. So the texts of a checkpoint are marked as untrusted until
`checks` knows the place of each: a class must be from the packages below or from a module that the
user's own config imports, and of the type that its place requires; a text must be at a place for
text. Texts of a config or a flag are the user's own, and are not marked.
"""

import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from torch import nn

from mtl_lightning.config import import_path
from mtl_lightning.config.annotations import choices, options
from mtl_lightning.system.errors import UserError

PACKAGES = ("mtl_lightning", "torch", "torchvision", "timm", "torchjd")
"""The packages whose classes a checkpoint may name."""

LATE_IMPORTS = ("timm.optim", "torchjd")
"""The only modules imported because a checkpoint names them: others of the packages, such as
torch's for servers, import packages that may not be installed, and might then not be genuine."""

NARROWER: dict[type, tuple[str, ...]] = {nn.Module: ("mtl_lightning", "torchvision.transforms.v2")}
"""The only classes allowed where any layer would be a subclass: some of the others download."""

INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"
"""The key under which Lightning writes what it calls with the hyper-parameters."""

_UNIONS = (typing.Union, types.UnionType)
_PLAIN = (str, int, float, bool, type(None), Path, os.PathLike)
_UNTYPED = (Any, list, tuple, dict, set)
_MORE = re.compile(r"[{\[:\n]|^\s*[-?]\s")  # jsonargparse may read more than a text in these


@dataclass(frozen=True)
class Origin:
    """The checkpoint that untrusted texts are from.

    Args:
        name: The name of the checkpoint in messages.
        trusted: The modules that the user imports without it.
        fix: The action for a user who trusts what it names.
    """

    name: str
    trusted: Container[str]
    fix: str = "name it in a config of your own (--config)"


class Untrusted(str):
    """A text that only a checkpoint contains."""

    origin: Origin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Untrusted":
        return self


def mark(value: Any, origin: Origin) -> Any:
    """Return the values of a checkpoint with every text in them marked as untrusted.

    Raises:
        UserError: If there is anything but texts, numbers, lists and mappings.
    """
    try:
        return _marked(value, origin)
    except RecursionError:
        raise UserError(f"checkpoint {origin.name}: its hyper-parameters have no end") from None


def _marked(value: Any, origin: Origin) -> Any:
    if isinstance(value, str):
        text = Untrusted(value)
        text.origin = origin
        return text
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_marked(key, origin): _marked(entry, origin) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(entry, origin) for entry in value]
    if value is None or isinstance(value, int | float):
        return value
    raise UserError(
        f"checkpoint {origin.name}: its hyper-parameters should be texts, numbers, lists and "
        f"mappings. Found a {type(value).__name__}"
    )


def unmark(value: Any) -> Any:
    """Return the values with every text unmarked."""
    if isinstance(value, Untrusted):
        return str(value)
    if isinstance(value, Mapping):
        return {unmark(key): unmark(entry) for key, entry in value.items()}
    return [unmark(entry) for entry in value] if isinstance(value, list) else value


def message_prefix(text: str) -> str:
    """Return the start of a message about a text: its checkpoint, if it is from one."""
    return f"checkpoint {text.origin.name}: " if isinstance(text, Untrusted) else ""


def imported_modules(config: Any) -> set[str]:
    """Return the modules whose classes a config names itself."""
    if isinstance(config, list):
        return {module for entry in config for module in imported_modules(entry)}
    if not isinstance(config, Mapping):
        return set()
    found = {module for entry in config.values() for module in imported_modules(entry)}
    name = config.get("class_path")
    if isinstance(name, str) and not isinstance(name, Untrusted):
        found.add(name.rpartition(".")[0])
    return found - {""}


def check_import(class_path: str, path: str) -> None:
    """Refuse to import a module that only a checkpoint names.

    Raises:
        UserError: If it is neither the user's own nor one of the packages'.
    """
    if isinstance(class_path, Untrusted):
        module = class_path.rpartition(".")[0]
        if module not in class_path.origin.trusted and not _is_importable(module):
            raise _refused(class_path, path, PACKAGES)


def check_class(class_path: str, found: type, bases: Iterable[type], path: str) -> None:
    """Refuse a class that only a checkpoint names, unless it is known to be harmless.

    Raises:
        UserError: If it is defined neither in a module of the user nor in one of the packages, or
            ``runs_code`` (see `mtl_lightning.data.sources.base.Source`).
    """
    if not isinstance(class_path, Untrusted):
        return
    if vars(found).get("runs_code"):
        place = path.removesuffix(".class_path")
        raise UserError(
            f"{message_prefix(class_path)}{place} names {found.__name__}, which "
            f"may run or download what its arguments name; if you trust it, {class_path.origin.fix}"
        )
    packages = next((NARROWER[base] for base in bases if base in NARROWER), PACKAGES)
    home, named, own = found.__module__, class_path.rpartition(".")[0], class_path.origin.trusted
    if _is_inside(home, packages):
        return
    # Trusting one class of a package does not mean trusting its others.
    if _is_inside(home, PACKAGES) or not (home in own or named in own):
        raise _refused(class_path, path, packages)


def check_text(hint: Any, value: Any, path: str) -> None:
    """Refuse texts of a checkpoint that could be read as a name to import or a file.

    Args:
        hint: The annotation of their place; None if it is unknown.
        value: The value at this place.
        path: The place in the config.

    Raises:
        UserError: For the first of them.
    """
    if isinstance(value, str) and value in choices(hint):
        return
    fields = _fields(hint)
    if isinstance(value, Mapping) and fields and fields.keys() >= value.keys():
        for key, entry in value.items():
            check_text(fields[key], entry, f"{path}.{key}")
        return
    typed, plain = is_plain(hint), is_plain(hint, untyped=True)
    for text, names_a_class in _texts(value):
        if names_a_class or not (typed or (plain and not _MORE.search(text))):
            raise UserError(
                f'{message_prefix(text)}{path}: "{text[:100]}" could be the name of something to '
                f"import; if you trust it, {text.origin.fix}"
            )


def is_plain(hint: Any, untyped: bool = False) -> bool:
    """Whether a text at a place with this annotation is never read as anything else.

    Args:
        hint: The annotation; None if it is unknown.
        untyped: Include the places that take anything.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint in _UNTYPED:
        return untyped and hint is not None
    if origin is typing.Literal or hint in _PLAIN:
        return True
    if origin is None:
        return inspect.isclass(hint) and issubclass(hint, Enum)
    holds = inspect.isclass(origin) and issubclass(origin, Iterable | os.PathLike)
    return (holds or origin in _UNIONS) and all(
        is_plain(argument, untyped) for argument in arguments if argument is not Ellipsis
    )


def _refused(class_path: Untrusted, path: str, packages: Iterable[str]) -> UserError:
    place = path.removesuffix(".class_path")
    *most, last = packages
    return UserError(
        f'{message_prefix(class_path)}{place} names the class "{class_path[:100]}", which is not '
        f"a class of {', '.join(most)} or {last}; if you trust it, {class_path.origin.fix}"
    )


def _is_importable(module: str) -> bool:
    """Whether a module of the packages is imported, or may be, from where it is installed."""
    if module in sys.modules:
        return _is_inside(module, PACKAGES)
    package = module.partition(".")[0]
    return _is_inside(module, LATE_IMPORTS) and bool(
        PathFinder.find_spec(package, import_path.without_cwd())
    )


def _is_inside(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _texts(value: Any, names_a_class: bool = False) -> Iterator[tuple[Untrusted, bool]]:
    """Yield the untrusted texts of a value and its keys, and whether each is a ``class_path``."""
    if isinstance(value, Untrusted):
        yield value, names_a_class
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, key == "class_path")
            yield from _texts(key)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _fields(hint: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a dataclass among the options."""
    found = [typing.get_type_hints(o) for o in options(hint) if is_dataclass(o)]
    return found[0] if found else {}
