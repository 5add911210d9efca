"""The data sets of torchvision, and classes like them."""

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from PIL import Image
from torchvision import datasets

from mtl_lightning.data.images import pixels_of, reading
from mtl_lightning.data.sources.base import Recognised, Source, SourceTable
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.data.sources.torchvision_targets import targets_of
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError, did_you_mean, listed

_Parameters: TypeAlias = Mapping[str, inspect.Parameter]

_PARTS: dict[type, dict[str, dict[str, Any]]] = {
    datasets.CelebA: {name: {"split": {"val": "valid"}.get(name, name)} for name in SPLITS},
    datasets.OxfordIIITPet: {"train": {"split": "trainval"}, "test": {"split": "test"}},
}
"""Split to the arguments of a class that select it, if its signature does not tell."""


_PETS, _PET_LISTS = "oxford-iiit-pet", ("trainval", "test")


class TorchvisionSource(Source):
    """A data set class of torchvision, or your own class of the same form.

    The targets of ``CIFAR100`` are ``fine`` and ``coarse`` (which the class itself hides), those of
    ``OxfordIIITPet`` are ``category`` and ``binary-category``, those of ``CelebA`` are its
    attributes (``yes`` or ``no``) and ``identity``. Other classes have one ``target``; if it is a
    tuple, the targets are ``0``, ``1`` and so on; if it is a dict, they are its keys. Numbers are
    replaced by the names in ``classes``, if the class has such a list.

    Args:
        dataset: The name of a class in ``torchvision.datasets``, or the import path of another.
        root: The folder of the data, passed to the class as ``root``.
        splits: ``train``, ``val`` and ``test`` to the arguments of the class that select them,
            such as ``{train: {split: trainval}, test: {split: test}}``. By default those of a
            class that has an argument ``train``, of ``CelebA`` and of ``OxfordIIITPet`` are
            known; a class without either argument is divided by ``data.splits``.
        arguments: Further arguments of the class.
        labels: Task to target, see `TableSource`.
        values: Meanings of texts, see `TableSource`.
        download: Whether the class may download missing data.
    """

    runs_code = True

    def __init__(
        self,
        dataset: str,
        root: Path,
        splits: dict[str, dict[str, Any]] | None = None,
        arguments: dict[str, Any] | None = None,
        labels: Labels | None = None,
        values: Values | None = None,
        download: bool = False,
    ) -> None:
        self.dataset = dataset
        self.cls = _resolved(dataset)
        self.root = os.path.expanduser(root)
        self.arguments = arguments or {}
        self.labels = labels
        self.values = values
        self.download = download
        known = inspect.signature(self.cls).parameters
        if download and "download" not in known:
            raise UserError(f"{dataset} cannot download anything: leave `download` out")
        self.splits = _parts(self.cls, dataset, known) if splits is None else splits
        for split, own in (splits or {}).items():
            if split not in SPLITS:
                raise UserError(
                    f'`splits` has "{split}"; expected {listed(SPLITS)}'
                    f"{did_you_mean(split, SPLITS)}"
                )
            for name in own:
                _check_argument(dataset, name, known)
        for name in self.arguments:
            _check_argument(dataset, name, known)
        self._opened: dict[str, Any] = {}

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Recognise the folder ``oxford-iiit-pet``, or one that holds it, by its annotations."""
        above, name = os.path.split(os.path.normpath(path))
        if name in ("", os.curdir, os.pardir):
            above = os.path.join(path, os.pardir)
        for root, folder in ((above or os.curdir, path), (path, os.path.join(path, _PETS))):
            lists = [os.path.join(folder, "annotations", f"{name}.txt") for name in _PET_LISTS]
            is_pets = os.path.basename(os.path.abspath(folder)) == _PETS
            if is_pets and all(map(os.path.isfile, lists)):
                known = {"dataset": datasets.OxfordIIITPet.__name__, "root": root}
                return Recognised(known, ("category", "binary-category"))
        return None

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Open the data set and read its targets; see `Source.read`."""
        parts = self._open()
        targets = {split: targets_of(part) for split, part in parts.items()}
        names = list(dict.fromkeys(name for own in targets.values() for name in own))
        keys, images = [], []
        for split, part in parts.items():
            own = [f"{split}:{i}" for i in range(len(part))]
            keys += [f"{self.dataset}:{key}" for key in own]
            # The same data with other arguments count as other images.
            given = sorted((self.arguments | self.splits[split]).items())
            images += [f"torchvision:{self.dataset}:{self.root}:{given}:{key}" for key in own]
        cells = {
            name: np.concatenate(
                [own.get(name, texts([None] * len(parts[split]))) for split, own in targets.items()]
            )
            for name in names
        }
        columns = Columns(
            "torchvision",
            names,
            lambda name: cells[name].copy(),
            lambda i, name: f'{keys[i]}, target "{name}"',
            kind="target",
        )
        splits = np.repeat(texts(list(parts)), [len(part) for part in parts.values()])
        return SourceTable(
            origin="torchvision",
            images=texts(images),
            keys=texts(keys),
            labels=columns.labels(columns.of_tasks(tasks, self.labels), tasks, self.values),
            splits=texts([split or None for split in splits]),
            notes=columns.notes,
        )

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return an image as (height, width, 3) RGB, uint8."""
        split, number = image.split(":")[-2:]
        data = self._open()[split]
        with reading(image, self.max_pixels):
            found = data[int(number)][0]
            if isinstance(found, Image.Image):
                return pixels_of(found, self.max_pixels, self.cover)
        pixels = np.asarray(found)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise UserError(
                f"{image} is {pixels.dtype} {pixels.shape}; expected a PIL image, or uint8 "
                "(height, width, 3): leave out its `transform`"
            )
        return pixels

    def _open(self) -> dict[str, Any]:
        """Return the data set of each split; "" is the split of one that has none."""
        if not self._opened:
            try:
                with self._alone():
                    self._opened = {split: self._part(own) for split, own in self.splits.items()}
            except Exception as error:  # from the class, the network or the disk
                reason = " ".join(str(error).split()) or type(error).__name__
                remedy = (
                    "without internet, download it elsewhere and set `root` to its folder"
                    if self.download
                    else "is this its `root`? With internet, `download: true` downloads it"
                )
                raise UserError(
                    f"{self.dataset} cannot be opened in {self.root} ({reason}); {remedy}"
                ) from error
        return self._opened

    def _alone(self) -> AbstractContextManager[object]:
        """Let one of the processes of a machine download, and the others use its files."""
        if not self.download:
            return nullcontext()
        os.makedirs(self.root, exist_ok=True)
        return FileLock(os.path.join(self.root, f".{self.cls.__name__}.lock"))

    def _part(self, own: dict[str, Any]) -> Any:
        asked = {"download": True} if self.download else {}
        known = inspect.signature(self.cls).parameters
        where = {"root": self.root} if "root" in known else {}  # FakeData has none
        return self.cls(**where | self.arguments | own | asked)


def _resolved(dataset: str) -> Any:
    """Return the class of a data set."""
    module, dot, name = dataset.rpartition(".")
    if not dot:
        if dataset not in datasets.__all__:
            raise UserError(
                f'torchvision.datasets has no "{dataset}"; expected one of its classes, or the '
                f"import path of another{did_you_mean(dataset, datasets.__all__)}"
            )
        return getattr(datasets, dataset)
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's own module may fail in any way
        raise UserError(f'cannot import "{dataset}": {error}') from error


def _parts(cls: Any, name: str, known: _Parameters) -> dict[str, dict[str, Any]]:
    """Return the arguments of each split of a class."""
    if cls in _PARTS:
        return _PARTS[cls]
    if "train" in known:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" in known:
        raise UserError(
            f"{name} has an argument `split`: map its values to splits, such as "
            "`splits: {train: {split: train}, test: {split: test}}`"
        )
    return {"": {}}


def _check_argument(dataset: str, name: str, known: _Parameters) -> None:
    anything = any(each.kind is each.VAR_KEYWORD for each in known.values())
    if name in ("root", "download") or not (anything or name in known):
        own = [each for each in known if each not in ("self", "root", "download")]
        raise UserError(
            f"{dataset} has no argument `{name}` for `splits` or `arguments`"
            f"{did_you_mean(name, own)}; it has {listed(own)}"
        )
