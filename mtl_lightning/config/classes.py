"""Finding a class by its name in a config."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from mtl_lightning.config import untrusted
from mtl_lightning.config.values import display
from mtl_lightning.system.errors import UserError, did_you_mean, listed


def concrete_subclasses(bases: Iterable[type]) -> dict[str, list[type]]:
    """Return the imported concrete subclasses of ``bases`` by their short names."""
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
        raise UserError(
            f'{path}: no {wanted} is called "{class_path}"{did_you_mean(class_path, known)}; '
            f"known: {listed(sorted(known))}; or give the import path of your own"
        )
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
