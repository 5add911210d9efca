"""Market-1501: pedestrians and their attributes."""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Recognised, Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.folder import found_below, images_below
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.system.errors import (
    UserError,
    one_line,
    quoted,
    short,
)

_FOLDERS = {"bounding_box_train": "train", "bounding_box_test": "test", "query": "test"}
_NAME = re.compile(r"\w+/(?P<identity>(?!0000)\d{4})_c\ds\d_.*")
_ANSWERS = {
    "gender": ["male", "female"],
    "hair": ["short", "long"],
    "up": ["long", "short"],
    "down": ["long", "short"],
    "clothes": ["dress", "pants"],
    "age": ["young", "teenager", "adult", "old"],
}
"""Meanings of 1, 2, ...; for all other attributes: no, yes."""
_WORN = ("hat", "backpack", "bag", "handbag")
_COLOURS = {"upcolor": "up", "downcolor": "down"}


class Market1501AttributeSource(Source):
    """The 751 and 750 pedestrians of Market-1501 with 27 attributes of each.

    Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern
    Recognition 2019; https://github.com/vana77/Market-1501_Attribute. There are labels for
    ``gender`` (``male``, ``female``), ``age`` (``young``, ``teenager``, ``adult``, ``old``),
    ``hair`` (``short``, ``long``), ``up`` and ``down`` (the length of sleeves and of the lower
    clothing: ``long``, ``short``), ``clothes`` (``dress``, ``pants``), and with ``yes`` or ``no``
    ``hat``, ``backpack``, ``bag``, ``handbag`` and the colours ``upblack`` to ``downbrown``;
    ``upcolor`` and ``downcolor`` name the colour that is ``yes``.

    ``bounding_box_train`` is train, ``bounding_box_test`` and ``query`` are test; a person is a
    group. Distractors and junk (identities 0000 and -1) are left out, since they have no
    attributes.

    Args:
        path: The folder ``Market-1501-v15.09.15``.
        attributes: The file ``market_attribute.mat``; by default it is in ``path``.
        labels: Task to attribute, see `TableSource`; by default the attributes named
            like a task or a label.
        values: Meanings of texts, see `TableSource`.
        allow_outside_root: Whether links may lead out of ``path``; only for a folder that
            you trust.
    """

    def __init__(
        self,
        path: Path,
        attributes: Path | None = None,
        labels: Labels | None = None,
        values: Values | None = None,
        allow_outside_root: bool = False,
    ) -> None:
        self.path = os.path.expanduser(path)
        default = os.path.join(self.path, "market_attribute.mat")
        self.attributes = default if attributes is None else os.path.expanduser(attributes)
        self.labels = labels
        self.values = values
        self.allow_outside_root = allow_outside_root

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Recognise a folder by its subfolders and the names of their images."""
        if not os.path.isdir(os.path.join(path, "bounding_box_train")):
            return None
        if not any(map(_NAME.fullmatch, images_below(path, "bounding_box_train"))):
            return None
        return Recognised({"path": path}, (*_ANSWERS, *_COLOURS, *_WORN))

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the attributes and find the images; see `Source.read`."""
        keys, identities, splits = self._images()
        persons = {split: _Persons(self.attributes, split) for split in ("train", "test")}
        for key, identity, split in zip(keys, identities, splits, strict=True):
            if identity not in persons[split].number:
                raise UserError(
                    f"{self.attributes} says nothing of {identity} in {split} ({short(key)})"
                )

        def fetch(name: str) -> Texts:
            answers = {split: own.answers(name) for split, own in persons.items()}
            numbers = [persons[s].number[i] for s, i in zip(splits, identities, strict=True)]
            return texts([answers[s][n] for s, n in zip(splits, numbers, strict=True)])

        origin = f"folder {self.path.rstrip('/')}/"
        columns = Columns(
            self.attributes,
            persons["train"].names,
            fetch,
            lambda i, name: (
                f"{self.attributes}, identity {identities[i]}, attribute {quoted(name)}"
            ),
            kind="attribute",
        )
        chosen = columns.of_tasks(tasks, self.labels)
        return SourceTable(
            origin=origin,
            images=found_below(self.path, keys, self.allow_outside_root),
            keys=texts(keys),
            labels=columns.labels(chosen, tasks, self.values),
            splits=texts(splits),
            groups=texts(identities),
            notes=columns.notes,
        )

    def _images(self) -> tuple[list[str], list[str], list[str]]:
        """Return the images of known persons below the folder, with their identities and splits."""
        found = []
        for folder, split in _FOLDERS.items():
            if os.path.isdir(os.path.join(self.path, folder)):
                for name in images_below(self.path, folder, self.allow_outside_root):
                    match = _NAME.fullmatch(name)
                    if match:
                        found.append((name, match["identity"], split))
        if not found:
            raise UserError(
                f"folder {self.path} has no image such as "
                "bounding_box_train/0002_c1s1_000451_03.jpg; expected the folder of Market-1501"
            )
        keys, identities, splits = zip(*found, strict=True)
        return list(keys), list(identities), list(splits)


class _Persons:
    """The attributes of the persons of a split in ``market_attribute.mat``.

    Args:
        path: The file.
        split: ``train`` or ``test``.

    Attributes:
        number: Identity to the person's position.
        names: The attributes.
    """

    def __init__(self, path: str, split: str) -> None:
        self.where = f"{path} ({split})"
        fields = _fields(path, split)
        identities = np.atleast_1d(fields.pop("image_index"))
        self.number = {str(identity): i for i, identity in enumerate(identities)}
        self.codes = {name: np.atleast_1d(codes) for name, codes in fields.items()}
        for name, codes in self.codes.items():
            if len(codes) != len(identities):
                raise UserError(
                    f"{self.where} has {len(codes)} answers for {short(name)} and "
                    f"{len(identities)} identities; expected as many"
                )
        several = [name for name, prefix in _COLOURS.items() if f"{prefix}black" in self.codes]
        self.names = [*self.codes, *several]

    def answers(self, name: str) -> list[str | None]:
        """Return the label of each person."""
        if name in _COLOURS:
            return self._colour(_COLOURS[name])
        meanings = dict(enumerate(_ANSWERS.get(name, ["no", "yes"]), start=1))
        codes = self.codes[name].tolist()
        for identity, code in zip(self.number, codes, strict=True):
            if code not in meanings:
                raise UserError(
                    f"{self.where}, identity {short(identity)}: {short(name)} is {code:g}; "
                    f"expected a number from 1 to {len(meanings)}"
                )
        return [meanings[code] for code in codes]

    def _colour(self, prefix: str) -> list[str | None]:
        """Return each person's only colour; None if there is none, or several."""
        own = [name for name in self.codes if re.fullmatch(f"{prefix}.+", name)]
        yes = np.array([self.codes[name] == 2 for name in own]).T
        return [own[row.argmax()].removeprefix(prefix) if row.sum() == 1 else None for row in yes]


def _fields(path: str, split: str) -> dict[str, npt.NDArray[Any]]:
    from scipy.io import loadmat  # other sources need not wait for it

    if not os.path.isfile(path):
        raise UserError(
            f"{path} does not exist; set the path of market_attribute.mat: `attributes: <file>`"
        )
    try:
        fields = dict(loadmat(path, simplify_cells=True)["market_attribute"][split])
        if "image_index" not in fields:
            raise KeyError("image_index")
    except Exception as error:  # SciPy's reader raises errors of any type for a broken file
        reason = one_line(" ".join(str(error).split())) or type(error).__name__
        raise UserError(
            f"{path} is not the market_attribute.mat of Market-1501_Attribute ({reason})"
        ) from error
    return fields
