"""CelebA: faces of celebrities with forty yes/no attributes."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtl_lightning.data.sources.base import Recognised, Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.system.errors import (
    UserError,
    one_line,
    quoted,
    short,
)

_FOLDERS = ("", "Anno", "Eval", "Img")
"""Places of the files in the official download, and in torchvision's."""

_LIST, _PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
_SPLITS = {"0": "train", "1": "val", "2": "test"}


class CelebASource(Source):
    """The 202,599 faces of CelebA: ``list_attr_celeba.txt`` and the files next to it.

    Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015;
    https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. Each attribute is a label ``yes`` or
    ``no``, for a task of its name or for the label of that name in a multi-label task.

    Args:
        path: The folder with ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and
            ``img_align_celeba``, or with the folders ``Anno``, ``Eval`` and ``Img`` of the
            official download.
        labels: Task to attribute, see `TableSource`; by default the attributes named
            like a task or a label.
        values: Meanings of ``yes`` and ``no``, see `TableSource`: ``{gender: {yes: male, no:
            female}}``.
        images: The folder of images; by default ``img_align_celeba``.
        partition: Whether the splits are those of ``list_eval_partition.txt``.
        identities: Whether the images of one person (``identity_CelebA.txt``) form a group.
        allow_outside_root: Whether images may be outside ``images``, by ``../``, an
            absolute path or a link; only for a list that you trust.
    """

    def __init__(
        self,
        path: Path,
        labels: Labels | None = None,
        values: Values | None = None,
        images: Path | None = None,
        partition: bool = True,
        identities: bool = False,
        allow_outside_root: bool = False,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.labels = labels
        self.values = values
        self.images = None if images is None else os.path.expanduser(images)
        self.partition = partition
        self.identities = identities
        self.allow_outside_root = allow_outside_root

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Recognise the list of attributes, or a folder that holds it."""
        folder = os.path.dirname(path) if os.path.basename(path) == _LIST else path
        if folder != path and os.path.basename(folder) == "Anno":
            folder = os.path.dirname(folder)
        found = _found(folder or ".", _LIST)
        if not os.path.isfile(found):
            return None
        with open(found, encoding="utf-8", errors="replace") as file:
            names = [file.readline(), file.readline()][1].split()
        parted = {} if _found(folder or ".", _PARTITION) else {"partition": False}
        return Recognised({"path": folder or ".", **parted}, tuple(names))

    def check_files(self) -> None:
        """Check the folder; see `Source.check_files`."""
        self._find(_LIST)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the lists and find the images; see `Source.read`."""
        origin = self._find(_LIST)
        names, attributes = _attributes(origin)
        rows = np.arange(3, len(attributes) + 3, dtype=np.int64)
        columns = Columns(
            origin,
            attributes.columns.tolist(),
            lambda name: np.where(attributes[name] == 1, "yes", "no").astype(object),
            lambda i, name: f"{origin} row {rows[i]}, column {quoted(name)}",
            kind="attribute",
        )
        chosen = columns.of_tasks(tasks, self.labels)
        split = None
        if self.partition:
            split = self._of_images(_PARTITION, names, _SPLITS)
        root = self._find("img_align_celeba") if self.images is None else self.images
        return SourceTable(
            origin=origin,
            images=rooted(
                root,
                names.tolist(),
                lambda i: f"{origin} row {rows[i]}",
                self.allow_outside_root,
            ),
            keys=names,
            labels=columns.labels(chosen, tasks, self.values),
            splits=split,
            groups=self._of_images("identity_CelebA.txt", names) if self.identities else None,
            rows=rows,
            slices=columns.slices(self.slices_wanted),
            columns=chosen,
            notes=columns.notes,
        )

    def _find(self, name: str) -> str:
        found = _found(self.path, name)
        if found:
            return found
        raise UserError(
            f"{self.path} has no {name}, nor has one of its folders Anno, Eval and Img; expected "
            "the folder of the CelebA download"
        )

    def _of_images(self, name: str, images: Texts, meanings: dict[str, str] | None = None) -> Texts:
        """Return the codes of ``images`` from a list of images and codes."""
        path = self._find(name)
        frame = _read(path, header=None)
        if frame.shape[1] != 2:
            raise UserError(f"{path}: expected two columns, an image and a code")
        code_of = dict(zip(frame[0].astype(str), frame[1].astype(str), strict=True))
        codes = [code_of.get(image) for image in images]
        for image, code in zip(images, codes, strict=True):
            if code is None:
                raise UserError(f"{path} says nothing of {short(image)}; is it cut short?")
            if meanings is not None and code not in meanings:
                raise UserError(
                    f"{path} says {quoted(code)} of {short(image)}; expected 0 (train), 1 (val) or "
                    "2 (test)"
                )
        return texts([meanings[code] if meanings else code for code in codes if code is not None])


def _found(path: str, name: str) -> str:
    """Return the path of a file or folder of the download, ``""`` if it does not exist."""
    candidates = [os.path.join(path, folder, name) for folder in _FOLDERS]
    return next(filter(os.path.exists, candidates), "")


def _attributes(path: str) -> tuple[Texts, pd.DataFrame]:
    """Read ``list_attr_celeba.txt``: the images' names, (N,), and their attributes, 1 or -1."""
    try:
        with open(path, encoding="utf-8") as file:
            first = file.readline().strip()
            header = file.readline().split()
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not first.isdigit() or not header:
        raise UserError(
            f"{path} row 1 is {quoted(first)}; expected the number of images, and below it the "
            "names of the attributes"
        )
    frame = _read(path, header=None, skiprows=2)
    if frame.shape[1] != len(header) + 1:
        raise UserError(
            f"{path} row 3 has {frame.shape[1]} cells; expected {len(header) + 1}: the image and "
            "an answer for each attribute"
        )
    if len(frame) != int(first):
        raise UserError(f"{path} says {first} images and lists {len(frame)}; is it cut short?")
    names = texts(frame[0].astype(str).tolist())
    attributes = frame.iloc[:, 1:].set_axis(header, axis=1)
    wrong = np.argwhere(~attributes.isin([1, -1]).to_numpy())
    if len(wrong):
        row, column = wrong[0].tolist()
        raise UserError(
            f"{path} row {row + 3}, column {quoted(header[column])}: "
            f"{quoted(str(attributes.iloc[row, column]))} is not an answer; expected 1 or -1"
        )
    return names, attributes


def _read(path: str, header: None, skiprows: int = 0) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=r"\s+", header=header, skiprows=skiprows)
    except (ValueError, OSError) as error:  # pandas' own are ValueErrors
        raise UserError(
            f"{path} cannot be read: {one_line(' '.join(str(error).split()))}"
        ) from None
