"""Labels from the names of folders."""

import os
from collections.abc import Iterator, Sequence

from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.data.sources.locate import Path, locate, texts
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.errors import UserError, did_you_mean, listed

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What counts as an image in a folder, in any case."""


class FolderSource(Source):
    """A folder per class: ``<path>/<class>/**/<image>``, or ``<path>/<split>/<class>/...``.

    If all folders at the top are named like splits (train, val, test and their usual spellings),
    they are splits. Hidden files and folders are passed over.

    Args:
        path: The folder of folders.
        task: The task that the folders' names are the labels of.
    """

    def __init__(self, path: Path, task: str) -> None:
        self.path = os.path.expanduser(path)
        self.task = task

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """List the images; see `Source.read`."""
        if self.task not in tasks:
            raise UserError(
                f'folder {self.path} is for the task "{self.task}", expected one of '
                f"{listed(tasks)}{did_you_mean(self.task, tasks)}"
            )
        if not os.path.isdir(self.path):
            raise UserError(f"folder {self.path} does not exist or is not a folder")
        top = _subfolders(self.path)
        by_split = bool(top) and all(name.lower() in SPELLINGS for name in top)
        classes = (
            [(s, c) for s in top for c in _subfolders(os.path.join(self.path, s))]
            if by_split
            else [(None, c) for c in top]
        )
        layout = "<split>/<class>/<image>" if by_split else "<class>/<image>"
        if not classes:
            raise UserError(f"folder {self.path} has no folder per class; expected {layout}")
        found = [
            (key, label, split and SPELLINGS[split.lower()])
            for split, label in classes
            for key in images_below(self.path, f"{split}/{label}" if split else label)
        ]
        if not found:
            raise UserError(
                f"folder {self.path} has no image; expected {layout} with {listed(EXTENSIONS)}"
            )
        keys, labels, splits = (texts(column) for column in zip(*found, strict=True))
        images, exists = locate(self.path, keys.tolist())
        if not exists.all():
            raise UserError(f"folder {self.path}: {keys[~exists][0]} links to nothing")
        return SourceTable(
            origin=f"folder {self.path.rstrip('/')}/",
            images=images,
            keys=keys,
            labels={self.task: labels},
            splits=splits if by_split else None,
        )


def _subfolders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images_below(root: str, folder: str) -> Iterator[str]:
    """Yield the images below ``root/folder``, relative to ``root``, sorted, links followed."""
    above: set[str] = set()  # a link to a folder already seen would never end
    if os.path.normpath(folder) != ".":
        above.add(os.path.realpath(root))
    for path, folders, files in os.walk(os.path.join(root, folder), followlinks=True):
        real = os.path.realpath(path)
        if real in above:
            folders.clear()
            continue
        above.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(path, root).replace(os.sep, "/")
        for name in sorted(files):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield f"{inside}/{name}"
