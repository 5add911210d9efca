"""Images whose labels are files of the same stem in other folders: NYUv2, Cityscapes."""

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.folder import check_folder, images_below
from mtl_lightning.data.sources.locate import Path, locate, relative_keys, texts
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted, short

_FIELD = re.compile(r"\{(\w+)\}")


class StemsSource(Source):
    """Folders of images and of label files that have a part of their paths in common.

    A pattern is a path below the folder with names in braces for its parts, such as ``{stem}``.
    What they stand for in the path of an image is put into the patterns of the labels; an image
    without such a file is not labelled. ``{split}`` and ``{group}`` are its split and its group.
    Cityscapes as downloaded::

        images: leftImg8bit/{split}/{group}/{stem}_leftImg8bit.png
        labels: {segmentation: gtFine/{split}/{group}/{stem}_gtFine_labelIds.png}

    Args:
        path: The folder.
        images: The pattern of the images' paths; ``*`` is any text without ``/``.
        labels: Task to the pattern of its files. The tasks read their targets from files
            (``Segmentation``, ``DenseRegression``).
        allow_outside_root: Whether links may lead out of ``path``; only for a folder that you
            trust.
        intensity: The values of the image files that are black and white, see `TableSource`.

    Raises:
        UserError: If a pattern has a name that the images' pattern lacks.
    """

    def __init__(
        self,
        path: Path,
        images: str,
        labels: dict[str, str],
        allow_outside_root: bool = False,
        intensity: Intensity | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.images = images
        self.labels = labels
        self.allow_outside_root = allow_outside_root
        self.intensity = intensity
        known = list(dict.fromkeys(_FIELD.findall(images)))
        if not known:
            raise UserError(f"images should have a name in braces, as {{stem}}. Found {images}")
        for task, pattern in labels.items():
            for name in _FIELD.findall(pattern):
                if name not in known:
                    raise UserError(
                        f"labels of {task}: {{{name}}} should be in `images`, one of "
                        f"{listed(known)}{did_you_mean(name, known)}. Found {images}"
                    )

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Find the images and the files of their labels; see `Source.read`."""
        check_folder(self.path)
        for task in self.labels:
            if task not in tasks:
                raise UserError(
                    f'{self._origin}: `labels` names the task "{task}", expected one of '
                    f"{listed(tasks)}{did_you_mean(task, tasks)}"
                )
        names, parts = self._matched()
        labels = {task: self._files(task, parts) for task in self.labels}
        keys = relative_keys(self.path, names)

        def location(i: int) -> str:
            return f"{self._origin} {short(names[i])}"

        return SourceTable(
            self._origin,
            images=rooted(self.path, names, location, self.allow_outside_root),
            keys=keys,
            labels=labels,
            splits=self._splits(names, parts),
            groups=texts([part["group"] for part in parts]) if "group" in parts[0] else None,
        )

    @property
    def _origin(self) -> str:
        return f"folder {self.path}"

    def _matched(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the paths of the images, and what the names of the pattern stand for."""
        pattern = _expression(self.images)
        found = [
            (name, match.groupdict())
            for file in images_below(self.path, ".", self.allow_outside_root)
            if (match := pattern.fullmatch(name := file.removeprefix("./")))
        ]
        if not found:
            below = images_below(self.path, ".", self.allow_outside_root)
            first = next((short(name.removeprefix("./")) for name in below), "no image at all")
            raise UserError(
                f"{self._origin}: no image is named like {quoted(self.images)}; the first below is "
                f"{first}"
            )
        return [name for name, _ in found], [parts for _, parts in found]

    def _files(self, task: str, parts: Sequence[dict[str, str]]) -> Texts:
        """Return the files of a task relative to the folder, None where there is none."""
        files = texts([_filled(self.labels[task], part) for part in parts])
        there = locate(self.path, files.tolist(), self.allow_outside_root)[1]
        if not there.any():
            raise UserError(
                f"{self._origin}: no image has a file for task {task}; expected for the first: "
                f"{short(files[0])}"
            )
        files[~there] = None
        return files

    def _splits(self, names: Sequence[str], parts: Sequence[dict[str, str]]) -> Texts | None:
        if "split" not in parts[0]:
            return None
        for name, part in zip(names, parts, strict=True):
            if part["split"].lower() not in SPELLINGS:
                raise UserError(
                    f"{self._origin} {short(name)}: {quoted(part['split'])} is not a split; "
                    f"expected train, val or test{did_you_mean(part['split'], SPELLINGS)}"
                )
        return texts([SPELLINGS[part["split"].lower()] for part in parts])

    def target_files(self, table: SourceTable, task: str) -> Texts:
        """Resolve the files of a task; see `Source.target_files`."""
        files: Texts = table.labels[task].copy()
        named = np.flatnonzero(pd.notna(files))

        def location(i: int) -> str:
            return table.location(int(named[i]))

        what = f"target files of task {task}"
        files[named] = rooted(
            self.path, files[named].tolist(), location, self.allow_outside_root, what
        )
        return files


def _filled(pattern: str, parts: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: parts[match[1]], pattern)


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern; a name that is repeated is the same text."""
    seen: set[str] = set()
    out = ""
    for number, piece in enumerate(_FIELD.split(pattern)):
        if number % 2 == 0:
            out += re.escape(piece).replace(r"\*", "[^/]*")
        elif piece in seen:
            out += f"(?P={piece})"
        else:
            out += f"(?P<{piece}>[^/]+)"
            seen.add(piece)
    return re.compile(out)
