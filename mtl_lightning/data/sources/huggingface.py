"""Data sets of the Hugging Face library `datasets`, from a folder, a file or the hub."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.images import content_of, decode, encode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import (
    Path,
    is_below,
    relative_keys,
    texts,
)
from mtl_lightning.data.sources.parquet import arrow_values
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.data.sources.tabular import TableFile
from mtl_lightning.data.splits import SPELLINGS, SPLITS
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    one_line,
    quoted,
    short,
)

_KEY = "huggingface:"
"""Prefix of the keys of images that are not files."""


class HuggingFaceSource(Source):
    """A data set with a column of images and columns of labels.

    Needs ``pip install 'mtl-lightning[huggingface]'``. Classes appear by their names; -1 in
    such a column is no label. A column of lists is for a `MultiLabel`: labels that a list does not
    name do not apply, and null is no label.

    Args:
        path: A folder written by ``save_to_disk``; a folder of Parquet files or images, or one
            Parquet file; or the name of a data set on the hub, such as ``uoft-cs/cifar100``, which
            is downloaded once.
        name: The configuration of the data set, if it has several.
        revision: The version on the hub: a branch, tag or commit; by default the newest.
        image: The column of images; by default the only one.
        splits: The data set's split to ``train``, ``val``, ``test``, or null to
            divide it by ``data.splits``. Other splits are left out. By default, those named like
            one of ours; a data set with a single split is divided.
        labels: Task to column, see `TableSource`.
        values: Meanings of texts, see `TableSource`.
        missing: Further texts that mean "not labelled", like null and the empty text.
        group: The column of groups, whose rows are never in two splits; by default the column
            ``group`` if it exists and is not a label.
        date: The column of dates, for ``data.splits: {by: date}`` and `TimeOrder`.
        date_format: How it writes them, as in Python's ``strptime`` (``%d.%m.%Y``); by default
            ISO 8601: ``2024-03-01``, ``2024-03``, ``2024-03-01 12:30``.
        allow_outside_root: Whether images that are files of their own may be outside
            ``path`` (or the library's folder of downloaded and unpacked files), by ``../``, an
            absolute path or a link; only for a data set that you trust.
        intensity: The values of the images that are black and white, see `TableSource`.
    """

    runs_code = True

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        splits: dict[str, str | None] | None = None,
        labels: Labels | None = None,
        values: Values | None = None,
        missing: list[str] | None = None,
        group: str | None = None,
        allow_outside_root: bool = False,
        intensity: Intensity | None = None,
        date: str | None = None,
        date_format: str | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.name = name
        self.revision = revision
        self.image = image
        self.splits = splits
        self.labels = labels
        self.values = values
        self.missing = missing or []
        self.group = group
        self.allow_outside_root = allow_outside_root
        self.intensity = intensity
        self.date = date
        self.date_format = date_format
        self._opened: dict[str, Any] = {}
        for split in (splits or {}).values():
            if split is not None and split not in SPLITS:
                raise UserError(
                    f'`splits` has "{split}"; expected {listed(SPLITS)} or null'
                    f"{did_you_mean(split, SPLITS)}"
                )

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Open the data set and read its labels; see `Source.read`."""
        opened = self._open()
        splits = self._splits(list(opened))
        parts = [_Part(self.path, name, opened[name], self.allow_outside_root) for name in splits]
        origins = np.repeat(texts([part.origin for part in parts]), [len(p.rows) for p in parts])
        rows = np.concatenate([part.rows for part in parts])
        columns = Columns(
            self.path,
            list(dict.fromkeys(name for part in parts for name in part.names)),
            lambda name: np.concatenate([part.cells(name) for part in parts]),
            lambda i, name: f"{origins[i]} row {rows[i]}, column {quoted(name)}",
        )
        chosen = columns.of_tasks(tasks, self.labels)
        taken = {name for names in chosen.values() for name in names}
        return SourceTable(
            origin=self.path,
            images=np.concatenate([part.images for part in parts]),
            keys=np.concatenate([part.keys for part in parts]),
            labels=columns.labels(chosen, tasks, self.values, self.missing),
            splits=np.concatenate([texts([splits[p.split]] * len(p.rows)) for p in parts]),
            groups=columns.optional(self.group, "group", taken),
            dates=columns.dates(self.date, self.date_format),
            slices=columns.slices(self.slices_wanted),
            rows=rows,
            columns=chosen,
            origins=origins,
            notes=columns.notes,
        )

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return an image as (height, width, 3) RGB, uint8."""
        content = self._cell(image) if image.startswith(_KEY) else None
        return decode(image, self.max_pixels, content, self.cover, self.intensity)

    def content(self, image: str) -> bytes:
        """Return the bytes of an image's cell, or of its file; see `Source.content`."""
        if self.intensity is not None:
            return encode(self.load(image))
        return self._cell(image) if image.startswith(_KEY) else content_of(image, self.max_pixels)

    def _cell(self, image: str) -> bytes:
        split, row = image.rsplit(":", 2)[1:]
        data = self._open()[split]
        content: bytes = data[int(row)][data.column_names[0]]["bytes"]
        return content

    def _open(self) -> dict[str, Any]:
        """Return the data set's splits by name, the images in them not decoded."""
        if not self._opened:
            try:
                import datasets  # an extra
            except ImportError:
                raise UserError(
                    "HuggingFaceSource needs the library datasets: "
                    "pip install 'mtl-lightning[huggingface]'"
                ) from None
            try:
                found = self._load_all(datasets)
            except Exception as error:  # from the library, the network or the disk
                raise UserError(self._why(error)) from error
            parts = found if isinstance(found, dict) else {"all": found}
            self._opened = {str(name): self._with_images(name, parts[name]) for name in parts}
        return self._opened

    def _load_all(self, datasets: Any) -> Any:
        if os.path.isfile(self.path):
            return datasets.load_dataset("parquet", data_files=self.path)
        saved = ("dataset_dict.json", "state.json")
        if any(os.path.isfile(os.path.join(self.path, name)) for name in saved):
            return datasets.load_from_disk(self.path)
        if os.path.isdir(self.path):
            return datasets.load_dataset(self.path, self.name)
        with _offline_if_unreachable(datasets):
            return datasets.load_dataset(self.path, self.name, revision=self.revision)

    def _why(self, error: Exception) -> str:
        reason = one_line(" ".join(str(error).split())) or type(error).__name__
        if os.path.exists(self.path):
            return f"{self.path} cannot be opened by the library datasets: {reason}"
        return (
            f"{self.path} is neither a folder nor a file here, and as a data set on the hub it "
            f"cannot be fetched ({reason}); without internet, give the path of a folder that "
            "save_to_disk wrote, or of Parquet files"
        )

    def _with_images(self, split: str, data: Any) -> Any:
        """Return a split with undecoded images (files or bytes) as its first column."""
        from datasets import Image

        images = [name for name, feature in data.features.items() if isinstance(feature, Image)]
        if self.image is None and len(images) != 1:
            raise UserError(
                f"{self.path}, split {split}, has {len(images)} columns of images "
                f"({listed(images) or 'none'}); name one: `image: <column>`; "
                f"columns: {listed(data.column_names)}"
            )
        name = images[0] if self.image is None else self.image
        if name not in data.features:
            raise UserError(
                f"{self.path}, split {split}, has no column {quoted(name)} (image); columns: "
                f"{listed(data.column_names)}{did_you_mean(name, data.column_names)}"
            )
        try:
            undecoded = data.cast_column(name, Image(decode=False))
        except (
            TypeError,
            ValueError,
            NotImplementedError,
        ) as error:  # Arrow's errors are subclasses
            raise UserError(
                f"{self.path}, split {split}: column {quoted(name)} holds no images but "
                f"{short(str(data.features[name]))}: {one_line(' '.join(str(error).split()))}"
            ) from None
        others = [other for other in data.column_names if other != name]
        return undecoded.select_columns([name, *others])

    def _splits(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the data set's splits that are used, each with our name."""
        if self.splits is not None:
            for name in self.splits:
                if name not in names:
                    raise UserError(
                        f"{self.path} has no split {quoted(name)}; splits: {listed(names)}"
                        f"{did_you_mean(name, names)}"
                    )
            return self.splits
        if len(names) == 1:
            return {names[0]: None}
        unknown = [name for name in names if name.lower() not in SPELLINGS]
        if unknown:
            raise UserError(
                f"{self.path}: is its split {quoted(unknown[0])} to train, val or test? Set "
                f"`splits: {{{short(unknown[0])}: ...}}`, with all that are to be used of "
                f"{listed(names)}"
            )
        return {name: SPELLINGS[name.lower()] for name in names}


class _Part:
    """One split of a data set, as columns of text.

    Args:
        path: The data set.
        split: The split's name.
        data: The split, its first column the images, not decoded.
        allow_outside_root: See `HuggingFaceSource`.
    """

    def __init__(self, path: str, split: str, data: Any, allow_outside_root: bool) -> None:
        self.split = split
        self.data = data
        self.rows = np.arange(len(data), dtype=np.int64)
        self.origin = f"{path} ({split})"
        self.names: list[str] = data.column_names[1:]
        files = data.data.column(data.column_names[0]).combine_chunks()
        within = files.field("bytes").is_valid().to_numpy(zero_copy_only=False)
        names = np.where(within, None, files.field("path").to_numpy(zero_copy_only=False))
        outside = np.flatnonzero(~within)
        if pd.isna(names[outside]).any():
            row = outside[pd.isna(names[outside])][0]
            raise UserError(f"{self.origin} row {row} has no image; expected one in every row")
        self.keys = texts([f"{split}:{row}" for row in self.rows.tolist()])
        self.images = texts([f"{_KEY}{path}:{data.info.config_name}:{key}" for key in self.keys])
        paths = names[outside].tolist()
        root = _root(path, paths)
        self.images[outside] = rooted(
            root, paths, lambda i: f"{self.origin} row {outside[i]}", allow_outside_root
        )
        self.keys[outside] = relative_keys(root, paths)

    def cells(self, name: str) -> Texts:
        """Return a column as text, None for empty cells or if there is no such column."""
        if name not in self.names:
            return texts([None] * len(self.rows))
        feature = self.data.features[name]
        cells = arrow_values(
            self.data.data.column(name),
            lambda i: f"{self.origin} row {i}, column {quoted(name)}",
        )
        classes, lists = _class_names(feature)
        if classes is not None:  # -1 is none of them
            named: dict[object, str] = dict(enumerate(classes))
            cells = (
                [own and [*map(named.get, own)] for own in cast("list[list[object]]", cells)]
                if lists
                else [named.get(code) for code in cells]
            )
        return TableFile(self.origin, self.names, self.rows, lambda _: cells).column(name)


def _class_names(feature: Any) -> tuple[Sequence[str] | None, bool]:
    """Return the names of a column's classes, if it has any, and whether it has lists."""
    listed = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    own = feature if listed is None else listed
    return getattr(own, "names", None), listed is not None


def _root(path: str, files: Sequence[str]) -> str:
    """Return the folder below which the files that a data set names should be."""
    from datasets import config
    from huggingface_hub import constants

    # The library unpacks, or downloads, into one of these.
    for fetched in map(str, (config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE)):
        if files and is_below(files[0], fetched):
            return fetched
    return path if os.path.isdir(path) else os.path.dirname(path)


@contextmanager
def _offline_if_unreachable(datasets: Any) -> Iterator[None]:
    """Make the library use only its cache if there is no internet.

    Otherwise it tries six times, for half a minute, with a warning each.
    """
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
        reachable = True
    except OSError:
        reachable = bool(getproxies())  # a proxy may resolve the name
    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if not reachable:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
