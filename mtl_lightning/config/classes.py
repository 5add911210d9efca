"""Finding a class by its name in a config."""

import importlib
import inspect
import sys
from collections.abc import Iterable
from typing import Any

from mtl_lightning.config import untrusted
from mtl_lightning.config.values import display, no_such_class
from mtl_lightning.system.errors import UserError, did_you_mean, listed


def concrete_subclasses(bases: Iterable[type]) -> dict[str, list[type]]:
    """Return the concrete subclasses of ``bases``, ours and imported ones, by short name."""
    found: dict[str, list[type]] = {}
    waiting = list(bases)
    for base in waiting:
        _import_siblings(base)
    while waiting:
        cls = waiting.pop()
        waiting += type.__subclasses__(cls)
        hidden = inspect.isabstract(cls) or cls.__name__.startswith("_")
        if not hidden and cls not in found.setdefault(cls.__name__, []):
            found[cls.__name__].append(cls)
    return found


def _import_siblings(base: type) -> None:
    """Import the classes of the folder of a base class of ours, which are imported when used."""
    folder = base.__module__.rpartition(".")[0]
    if folder.partition(".")[0] == __name__.partition(".")[0]:
        for name in getattr(sys.modules[folder], "__all__", ()):
            getattr(sys.modules[folder], name)


def resolve_class(class_path: Any, bases: tuple[type, ...], path: str) -> type:
    """Return the class that a ``class_path`` names.

    Args:
        class_path: A short name, or an import path.
        bases: The class should be a subclass of one of these.
        path: The place of the name in the config.

    Raises:
        UserError: If there is no such class, or several.
    """
    wanted = " or ".join(base.__name__ for base in bases)
    known = concrete_subclasses(bases)
    if not isinstance(class_path, str):
        raise UserError(f"{path} should be the name of a {wanted}. Found {display(class_path)}")
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
        raise UserError(no_such_class(path, wanted, class_path, known))
    untrusted.check_import(class_path, path)
    blamed = f"{untrusted.message_prefix(class_path)}{path}"
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's own module may fail in any way
        raise UserError(
            f'{blamed}: cannot import "{class_path}": {error}{did_you_mean(name, known)}'
        ) from error
    if not (inspect.isclass(found) and issubclass(found, bases)):
        raise UserError(f'{blamed}: "{class_path}" is not a {wanted}')
    untrusted.check_class(class_path, found, bases, path)
    return found


def _public_path(cls: type) -> str:
    parts = [part for part in cls.__module__.split(".") if not part.startswith("_")]
    return ".".join([*parts, cls.__name__])
