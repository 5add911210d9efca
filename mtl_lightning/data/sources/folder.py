"""Labels from the names of folders."""

import os
from collections.abc import Iterator, Sequence

from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.locate import (
    Path,
    check_inside,
    locate,
    texts,
)
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
    short,
)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What counts as an image in a folder, in any case."""


class FolderSource(Source):
    """A folder per class: ``<path>/<class>/**/<image>``, or ``<path>/<split>/<class>/...``.

    If all folders at the top are named like splits (train, val, test and their usual spellings),
    they are splits. Hidden files and folders are passed over.

    Args:
        path: The folder of folders.
        task: The task that the folders' names are the labels of.
        allow_outside_root: Whether links may lead out of ``path``; say so only of a folder that
            you trust.
        intensity: Which values of the image files are black and white, see `Intensity`: ``{min:
            -1000, max: 2000}`` or ``{percentiles: [1, 99]}``; by default what the format says, and
            an image of which it does not say so (signed, float, 12 bits in 16) is refused.
    """

    def __init__(
        self,
        path: Path,
        task: str,
        allow_outside_root: bool = False,
        intensity: Intensity | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.task = task
        self.allow_outside_root = allow_outside_root
        self.intensity = intensity

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """List the images; see `Source.read`."""
        if self.task not in tasks:
            raise UserError(
                f'folder {self.path} is for the task "{self.task}", expected one of '
                f"{listed(tasks)}{did_you_mean(self.task, tasks)}"
            )
        if not os.path.isdir(self.path):
            raise UserError(f"folder {self.path} does not exist or is not a folder")
        top = self._subfolders("")
        by_split = bool(top) and all(name.lower() in SPELLINGS for name in top)
        classes = (
            [(s, c) for s in top for c in self._subfolders(s)]
            if by_split
            else [(None, c) for c in top]
        )
        layout = "<split>/<class>/<image>" if by_split else "<class>/<image>"
        if not classes:
            raise UserError(f"folder {self.path} has no folder per class; expected {layout}")
        found = [
            (key, label, split and SPELLINGS[split.lower()])
            for split, label in classes
            for key in images_below(
                self.path, f"{split}/{label}" if split else label, self.allow_outside_root
            )
        ]
        if not found:
            raise UserError(
                f"folder {self.path} has no image; expected {layout} with {listed(EXTENSIONS)}"
            )
        keys, labels, splits = (texts(column) for column in zip(*found, strict=True))
        return SourceTable(
            origin=f"folder {self.path.rstrip('/')}/",
            images=found_below(self.path, keys.tolist(), self.allow_outside_root),
            keys=keys,
            labels={self.task: labels},
            splits=splits if by_split else None,
        )

    def _subfolders(self, folder: str) -> list[str]:
        with os.scandir(os.path.join(self.path, folder)) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        for name in names:
            if not self.allow_outside_root:
                check_inside(self.path, os.path.join(folder, name))
            if name != name.encode("utf-8", "replace").decode():
                raise UserError(
                    f"folder {self.path}: {quoted(name)} is not a name in UTF-8; rename it"
                )
        return names


def found_below(root: str, keys: Sequence[str], allow_outside_root: bool = False) -> Texts:
    """Resolve the images that `images_below` lists, of which links may lead anywhere.

    Raises:
        UserError: If one leads to nothing, or out of ``root``, unless that is allowed.
    """
    images, exists = locate(root, keys, allow_outside_root)
    if not exists.all():
        key = texts(keys)[~exists][0]
        if not allow_outside_root:
            check_inside(root, key)
        raise UserError(f"folder {root}: {short(key)} links to nothing")
    return images


def images_below(root: str, folder: str, allow_outside_root: bool = False) -> Iterator[str]:
    """Yield the images below ``root/folder``, relative to ``root``, sorted, links followed.

    Raises:
        UserError: If a folder is a link out of ``root``, unless that is allowed; it is not listed.
    """
    above: set[str] = set()  # a link to a folder already seen would never end
    if os.path.normpath(folder) != ".":
        above.add(os.path.realpath(root))
    if not allow_outside_root:
        check_inside(root, folder)
    for path, folders, files in os.walk(os.path.join(root, folder), followlinks=True):
        real = os.path.realpath(path)
        if real in above:
            folders.clear()
            continue
        above.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(path, root).replace(os.sep, "/")
        for name in () if allow_outside_root else folders:
            if os.path.islink(os.path.join(path, name)):
                check_inside(root, f"{inside}/{name}")
        for name in sorted(files):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield f"{inside}/{name}"
