"""Folders as data: classes, splits of classes, tables, or images without labels."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field

from mtl_lightning.data.sources.folder import PassedOver, are_splits, images_below
from mtl_lightning.data.sources.tabular import SUFFIXES
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.tasks.cells import canonical

GENERIC = re.compile("(data(set)?|image|img|photo|picture|raw|file)s?")
"""Folder names that do not describe their classes."""
MOSTLY = 0.9
"""Inner folders are examined if they hold at least this share of the images."""


@dataclass
class Folder:
    """A folder, inspected.

    Attributes:
        path: The path as the user wrote it, or the folder of all splits if it is one of them.
        tables: Tables in it.
        task: A name for the task of its classes.
        classes: Class to its number of images, in all splits; empty if it has no classes.
        inner_task: A name for the task of the inner folders; "" if they are not classes.
        inner: Inner class to its number of images; empty if inner folders are not classes.
        single: The inner folders if each is in one outer folder only.
        loose: Whether some images are in no folder of a class.
        splits: Whether the folders at the top are splits.
        images: All images below it.
        passed: Other files and folders below it.
    """

    path: str
    task: str
    tables: list[str] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    inner_task: str = ""
    inner: dict[str, int] = field(default_factory=dict)
    single: list[str] = field(default_factory=list)
    loose: bool = False
    splits: bool = False
    images: list[str] = field(default_factory=list)
    passed: PassedOver = field(default_factory=PassedOver)


def inspect_folder(path: str) -> Folder:
    """Inspect a folder; for ``data/train`` next to ``data/val``, both."""
    above, name = os.path.split(os.path.abspath(path))
    if name.lower() in SPELLINGS and all(n.lower() in SPELLINGS for n in _with_images(above)):
        path = os.path.dirname(path.rstrip("/")) or "."
        name = os.path.basename(above)
    task = "label" if GENERIC.fullmatch(name.lower()) or not name else re.sub(r"[^\w-]+", "_", name)
    folder = Folder(path, task)
    with os.scandir(path) as entries:
        folder.tables = sorted(
            entry.path for entry in entries if entry.is_file() and _is_table(entry.name)
        )
    below = [key.removeprefix("./") for key in images_below(path, ".", passed=folder.passed)]
    folder.images = [os.path.join(path, key) for key in below]
    parts = [key.split("/") for key in below]
    top = sorted({part[0] for part in parts if len(part) > 1})
    folder.passed.folders = [name for name in _folders(path) if name not in top]
    folder.splits = are_splits(path, top)
    depth = 1 if folder.splits else 0
    classes = Counter(canonical(part[depth]) for part in parts if len(part) > depth + 1)
    if len(classes) > 1:
        folder.classes = dict(sorted(classes.items()))
        folder.loose = any(len(part) <= depth + 1 for part in parts)
        _inspect_inner(folder, [part[depth:] for part in parts if len(part) > depth + 2])
    return folder


def _inspect_inner(folder: Folder, parts: list[list[str]]) -> None:
    """Find out whether inner folders are classes of a second task.

    They are if their names repeat: each domain has the same classes. A name that is in one outer
    folder only may be a group, such as a person or a clip.
    """
    places: dict[str, set[str]] = {}
    for outer, name, *_ in parts:
        places.setdefault(name, set()).add(outer)
    again = [name for name, outers in places.items() if len(outers) > 1]
    if len(parts) < MOSTLY * sum(folder.classes.values()) or len(places) < 2:
        return
    if 2 * len(again) < len(places):
        folder.single = sorted(places)
        return
    folder.task, folder.inner_task = "folder", "subfolder"
    folder.inner = dict(sorted(Counter(name for _, name, *_ in parts).items()))


def _is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _with_images(path: str) -> list[str]:
    return [name for name in _folders(path) if any(True for _ in images_below(path, name))]


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )
