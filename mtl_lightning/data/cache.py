"""Images that are decoded and scaled once, and then read as they are.

What is kept is what `dataset.covering` gives: augmentation comes after, so each epoch still sees
other crops, and batches are the same bit by bit with and without a cache.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import PIL
import simplejpeg
import torch
from rich.console import Console

from mtl_lightning.data.dataset import covering
from mtl_lightning.data.images import Pixels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.merging import MergedTable
from mtl_lightning.data.pixel_file import CHANNELS, PixelFile, Places
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.errors import UserError, fault
from mtl_lightning.system.hardware import cores, free_memory
from mtl_lightning.system.progress import ProgressBar

Mode = Literal["none", "memory", "disk"]
VERSION = 2
"""Of what is kept; another one begins other files."""
CHUNK = 2**26
"""Bytes that the memory is taken in, so that it never has to be moved."""
TRIED = 16
"""Images that are decoded to say how large all will be."""


class Store(Protocol):
    """Bytes of many images."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """All of them, (bytes,)."""


@dataclass(frozen=True)
class InMemory:
    """Bytes in memory, which processes that are forked share."""

    data: npt.NDArray[np.uint8]


class OnDisk:
    """Bytes of a file; processes that are forked share the mapping, others map it themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped: npt.NDArray[np.uint8] | None = None

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """Return the mapped file."""
        return self.open() if self._mapped is None else self._mapped

    def open(self) -> npt.NDArray[np.uint8]:
        """Map the file that has the name now."""
        self._mapped = np.memmap(self.path, mode="r")
        return self._mapped

    def __reduce__(self) -> tuple[type["OnDisk"], tuple[Path]]:
        return OnDisk, (self.path,)


@dataclass
class CachedImages:
    """The images of a table, some of which are kept.

    Attributes:
        table: Where the others are loaded from.
        stores: Where pixels are.
        store: (N,) int32, which of these holds an image; -1: none does.
        places: Where it is in there, for all N images.
    """

    table: MergedTable
    stores: list[Store] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.table)
        self.store = np.full(count, -1, dtype=np.int32)
        self.places = Places(np.full(count, -1), np.zeros((count, 2), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.table)

    def load(self, row: int) -> Pixels:
        """Return an image as (height, width, 3) RGB, uint8, scaled already if it is kept."""
        if self.store[row] < 0:
            return self.table.load(row)
        data, start = self.stores[self.store[row]].data, self.places.offsets[row]
        height, width = self.places.shapes[row]
        own: Pixels = np.array(data[start : start + height * width * CHANNELS])
        return own.reshape(height, width, CHANNELS)

    def name(self, row: int) -> str:
        """Return the image's path, or its source's own key."""
        return self.table.name(row)

    def where(self, row: int) -> str:
        """Return what a message calls the place that names the image."""
        return self.table.where(row)

    def keep(
        self, rows: npt.NDArray[np.int64], places: Places, store: int | npt.NDArray[np.int32]
    ) -> None:
        """Take images from a store from now on; those that it does not hold are passed over."""
        there = places.offsets >= 0
        self.store[rows[there]] = store if isinstance(store, int) else store[there]
        self.places.offsets[rows] = places.offsets
        self.places.shapes[rows] = places.shapes


@dataclass(frozen=True)
class Builder:
    """Fills a cache.

    Attributes:
        table: Whose images to keep.
        size: The (height, width) that they are scaled to cover.
        max_pixels: See `dataset.covering`.
        skip: Whether images that cannot be used are passed over; else the first is an error.
        console: Where to say what is done, and to show a bar.
    """

    table: MergedTable
    size: tuple[int, int]
    max_pixels: int
    skip: bool
    console: Console

    def in_memory(self, rows: npt.NDArray[np.int64], processes: int = 1) -> CachedImages:
        """Keep the images of some rows in the memory of this process.

        Args:
            rows: Of the table.
            processes: How many of this machine do so.
        """
        cached = CachedImages(self.table)
        need, free = self._estimate(rows) * processes, free_memory()
        self._say(f"{len(rows):,} images are decoded once, about {_mb(need)} of memory")
        if free is not None and need > free:
            raise UserError(
                f"data.cache: memory takes about {_mb(need)} and {_mb(free)} are free; "
                "use data.cache: disk, or a smaller data.image_size"
            )
        places = Places(np.full(len(rows), -1), np.zeros((len(rows), 2), dtype=np.int64))
        store, used = np.zeros(len(rows), dtype=np.int32), CHUNK
        for position, pixels in self._decoded(rows):
            if used + pixels.nbytes > CHUNK:
                room = np.empty(max(CHUNK, pixels.nbytes), dtype=np.uint8)
                cached.stores.append(InMemory(room))
                used = 0
            store[position] = len(cached.stores) - 1
            places.offsets[position], places.shapes[position] = used, pixels.shape[:2]
            room[used : used + pixels.nbytes] = pixels.ravel()
            used += pixels.nbytes
        cached.keep(rows, places, store)
        return cached

    def on_disk(self, rows: npt.NDArray[np.int64], folder: Path) -> CachedImages:
        """Keep the images of some rows in a file a source, of which most may be there already.

        Raises:
            UserError: If a source's images are no files, or the file cannot be written.
        """
        cached = CachedImages(self.table)
        for number, (name, source) in enumerate(
            zip(self.table.names, self.table.sources, strict=True)
        ):
            own = rows[self.table.source[rows] == number]
            file = PixelFile(folder / self._file_name(name, source.intensity))
            store = OnDisk(file.pixels)
            try:
                places = self._filled(file, own, store)
            except OSError as error:
                raise UserError(
                    f"data.cache: {error.filename or file.pixels}: {error.strerror}; "
                    "data.cache_dir names another folder"
                ) from error
            cached.stores.append(store)
            cached.keep(own, places, number)
        return cached

    def _file_name(self, source: str, intensity: Intensity | None) -> str:
        libraries = PIL.__version__, simplejpeg.__version__, torch.__version__
        settings = repr((VERSION, *libraries, self.max_pixels, str(intensity))).encode()
        height, width = self.size
        digest = blake2b(settings, digest_size=4).hexdigest()
        return f"{quote(source, safe='')}-{height}x{width}-{digest}"

    def _filled(self, file: PixelFile, rows: npt.NDArray[np.int64], store: OnDisk) -> Places:
        images: Texts = self.table.images[rows]
        stamps = self._stamps(rows)
        with file.locked(lambda: self._say(f"waiting for another process to fill {file.pixels}")):
            file.drop_dead()
            missing = np.flatnonzero(file.find(images, stamps).offsets < 0)
            if len(missing):
                self._announce(rows[missing], file.pixels.parent)
                file.add(
                    (images[missing[position]], stamps[missing[position]], pixels)
                    for position, pixels in self._decoded(rows[missing])
                    if stamps[missing[position]]
                )
            places = file.find(images, stamps)
            if (places.offsets >= 0).any():
                store.open()  # the file that these places are in, whatever takes its name later
            return places

    def _stamps(self, rows: npt.NDArray[np.int64]) -> Texts:
        """Return for each image what changes when its file does."""
        stamps = np.empty(len(rows), dtype=object)
        for position, row in enumerate(rows):
            image = self.table.images[row]
            if not os.path.isabs(image):
                raise UserError(
                    f"data.cache: disk is for images that are files, which tell when they change; "
                    f"those of data.sources.{self.table.names[self.table.source[row]]} are not "
                    f"({image}): use data.cache: memory"
                )
            try:
                found = os.stat(image)
                stamps[position] = f"{found.st_size} {found.st_mtime_ns}"
            except (OSError, ValueError):
                stamps[position] = ""  # to decode it says why
        return stamps

    def _announce(self, rows: npt.NDArray[np.int64], folder: Path) -> None:
        need, free = self._estimate(rows), shutil.disk_usage(folder).free
        self._say(f"{len(rows):,} images are decoded once, about {_mb(need)} in {folder}")
        if need > free:
            raise UserError(
                f"data.cache: {folder} has {_mb(free)} free, and about {_mb(need)} are needed; "
                "data.cache_dir names another folder"
            )

    def _estimate(self, rows: npt.NDArray[np.int64]) -> int:
        """Return about how many bytes the images will take."""
        some = rows[np.linspace(0, len(rows) - 1, min(TRIED, len(rows))).astype(np.int64)]
        sizes = [found.nbytes for found in map(self._decode, some) if not isinstance(found, str)]
        return int(np.mean(sizes) * len(rows)) if sizes else 0

    def _decoded(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, Pixels]]:
        """Yield the positions of images that can be used, and their pixels."""
        what = "decoding once (data.cache)"
        threads = cores() if all(source.threadsafe for source in self.table.sources) else 1
        results = ProgressBar(self.console).imap(self._decode, list(rows), what, threads)
        for position, found in enumerate(results):
            if not isinstance(found, str):
                yield position, found
            elif not self.skip:
                raise UserError(f"{found}; data.on_bad_image: skip goes on without such images")

    def _decode(self, row: np.int64) -> Pixels | str:
        """Return an image, or why there is none."""
        try:
            return covering(self.table, int(row), self.size, self.max_pixels)
        except UserError as error:
            return fault(error)

    def _say(self, text: str) -> None:
        self.console.print(f"data.cache: {text}", markup=False, highlight=False, soft_wrap=True)


def default_folder() -> Path:
    """Return where caches are kept unless a config names a folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mtl-lightning"


def _mb(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):,.1f} MB"
