"""What of a config's classes, files and columns can be checked without importing torch.

These checks refuse only what later ones refuse, in the same words: what they cannot decide (a class
of the user's own, a source that is read from elsewhere) they leave to those.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtl_lightning.config import flags
from mtl_lightning.config.short_names import short_names
from mtl_lightning.config.values import no_such_class, texts_of
from mtl_lightning.system.errors import UserError

SOURCES = ("data", "sources")
INPUTS = ("data", "inputs")
KINDS = {
    ("tasks",): ("Task", "tasks"),
    ("model", "backbone"): ("Backbone", "models/backbones"),
    ("model", "sharing"): ("Sharing", "models/sharing"),
    ("data", "sampling"): ("Sampling", "data/sampling"),
    SOURCES: ("Source", "data/sources"),
    INPUTS: ("Input", "inputs"),
}
"""Places of classes of our own in a config: the name of the base class, and its folder."""

_OURS = re.compile(r"(mtl_lightning|torch|torchvision|pytorch_lightning|lightning|timm|torchjd)\.")
_DOTTED = re.compile(r"(\w+\.)+[^\W\d]\w*")


def overridden(
    config: Mapping[str, Any], overrides: list[tuple[str, str]]
) -> Mapping[str, Any] | None:
    """Return a config changed by options, None if they refer to what is not in it."""
    changed = copy.deepcopy(dict(config)) if overrides else dict(config)
    try:
        for option, text in overrides:
            flags.apply_override(changed, option, text)
    except UserError:
        return None  # the checkpoint, or a default, may have it
    return changed


def check_class_names(config: Mapping[str, Any], command: str) -> None:
    """Check the short names of tasks, sources and other classes of our own.

    Raises:
        UserError: For the first that no class has.
    """
    if any(_DOTTED.fullmatch(text) and not _OURS.match(text) for text in _class_paths(config)):
        return  # its module may define others
    for place, (wanted, folder) in KINDS.items():
        if command == "predict" and place == SOURCES:
            continue
        for path, entry in _entries(config, place):
            name = _name(entry)
            if name and "." not in name and name not in short_names(folder):
                raise UserError(
                    no_such_class(f"{path}.class_path", wanted, name, short_names(folder))
                )


def check_files(config: Mapping[str, Any]) -> None:
    """Check that the files, folders and columns that sources of ours name exist.

    Raises:
        UserError: For the first that does not exist.
    """
    known = short_names(KINDS[SOURCES][1])
    for path, entry in _entries(config, SOURCES):
        name = _name(entry)
        module, _, short = name.rpartition(".")
        arguments = entry.get("init_args") if isinstance(entry, Mapping) else None
        if short not in known or (module and not module.startswith("mtl_lightning")):
            continue
        from mtl_lightning.data import sources

        try:
            source = getattr(sources, short)(**texts_of(arguments or {}))
        except Exception:  # the check of its arguments says what is wrong
            continue
        try:
            source.check_files()
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except Exception:  # of an argument of the wrong type
            continue


def _name(entry: Any) -> str:
    """Return the class that an entry names, ``""`` if it is none."""
    named = entry.get("class_path") if isinstance(entry, Mapping) else entry
    return named if isinstance(named, str) else ""


def _entries(config: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a place with their names."""
    found: Any = config
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    path = ".".join(place)
    if place not in (("tasks",), SOURCES, INPUTS):
        yield path, found
    elif isinstance(found, Mapping):
        yield from ((f"{path}.{name}", entry) for name, entry in found.items())


def _class_paths(value: Any, arguments: bool = False) -> Iterator[str]:
    """Yield texts that may be class paths; among arguments, where paths are, those in capitals."""
    if isinstance(value, str):
        if not arguments or value.rpartition(".")[2][:1].isupper():
            yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _class_paths(
                entry, key == "init_args" or (arguments and key != "class_path")
            )
    elif isinstance(value, list):
        for entry in value:
            yield from _class_paths(entry, arguments)
