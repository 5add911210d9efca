"""Images that are decoded and scaled only once.

The result of `dataset.load_scaled` is kept. Augmentation comes after it, so each epoch still sees
other crops, and batches are the same bit for bit with and without a cache.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import PIL
import simplejpeg
import torch
from rich.console import Console

from mtl_lightning.data.dataset import load_scaled
from mtl_lightning.data.disk_cache import (
    CHANNELS,
    MISSING,
    PIXELS,
    DiskCache,
    PixelIndex,
)
from mtl_lightning.data.images import Pixels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.records import MappedFiles
from mtl_lightning.data.resizing import Resize
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.errors import UserError, image_error
from mtl_lightning.system.hardware import cores, free_memory
from mtl_lightning.system.progress import ProgressBar

Mode = Literal["none", "memory", "disk"]
VERSION = 2
"""Version of the content; another version uses another folder."""
CHUNK = 2**26
"""Size in bytes of the blocks of memory, so that nothing ever has to be moved."""
SAMPLE = 16
"""Number of images that are decoded to estimate the size of all."""
OPEN_SHARDS = 256
"""Number of shards that a process has mapped: each takes a file descriptor."""


class CachedImages:
    """The images of a table, some of which are cached.

    Args:
        table: The N images; those that are not cached are loaded from it.
        index: (N,): the places of cached images, see `PIXELS`.
        shards: The pixels, by the numbers of the index.
    """

    def __init__(
        self, table: MergedTable, index: PixelIndex, shards: Sequence[Pixels] | MappedFiles
    ) -> None:
        self.table = table
        self.index = index
        self.shards = shards

    def __len__(self) -> int:
        return len(self.table)

    def load(self, row: int) -> Pixels:
        """Return an image as (height, width, 3) RGB, uint8, already scaled if it is cached."""
        shard, start, height, width = self.index[row].item()
        if shard < 0:
            return self.table.load(row)
        try:
            pixels = self.shards[shard]
        except OSError:  # the cache has been deleted since it was filled
            return self.table.load(row)
        own: Pixels = np.frombuffer(pixels, np.uint8, height * width * CHANNELS, start).copy()
        return own.reshape(height, width, CHANNELS)

    def name(self, row: int) -> str:
        """Return the image's path, or its source's own key."""
        return self.table.name(row)

    def location(self, row: int) -> str:
        """Return the place of the image in a table, for messages."""
        return self.table.location(row)


@dataclass(frozen=True)
class Builder:
    """Fills a cache.

    Attributes:
        table: The images.
        size: The (height, width) that they are scaled to.
        max_pixels: See `resizing.resize`.
        skip: Whether images that cannot be used are skipped; otherwise the first is an error.
        console: For messages and the progress bar.
        mode: How images are scaled, see `resizing.resize`.
    """

    table: MergedTable
    size: tuple[int, int]
    max_pixels: int
    skip: bool
    console: Console
    mode: Resize = "cover"

    def in_memory(self, rows: npt.NDArray[np.int64], processes: int = 1) -> CachedImages:
        """Keep the images of some rows in the memory of this process.

        Args:
            rows: The rows of the table.
            processes: The number of processes of this machine that do so.
        """
        need, free = self._estimate(rows) * processes, free_memory()
        self._print(f"{len(rows):,} images are decoded once, about {_size(need)} of memory")
        if free is not None and need > free:
            raise UserError(
                f"data.cache: memory takes about {_size(need)} and {_size(free)} are free; "
                "use data.cache: disk, or a smaller data.image_size"
            )
        index, chunks, used = self._empty(), list[Pixels](), CHUNK
        for position, pixels in self._decoded(rows):
            if used + pixels.nbytes > CHUNK:
                chunks.append(np.empty(max(CHUNK, pixels.nbytes), dtype=np.uint8))
                used = 0
            index[rows[position]] = len(chunks) - 1, used, *pixels.shape[:2]
            chunks[-1][used : used + pixels.nbytes] = pixels.ravel()
            used += pixels.nbytes
        return CachedImages(self.table, index, chunks)

    def on_disk(self, rows: npt.NDArray[np.int64], folder: Path) -> CachedImages:
        """Keep the images of some rows in one folder per source, where most may be already.

        Raises:
            UserError: If a source's images are not files, or the folder cannot be written to.
        """
        index, paths = self._empty(), list[Path]()
        for number, (name, source) in enumerate(
            zip(self.table.names, self.table.sources, strict=True)
        ):
            own = rows[self.table.source[rows] == number]
            cache = DiskCache(folder / self._folder_name(name, source.intensity))
            try:
                found = self._filled(cache, own)
            except OSError as error:
                raise UserError(
                    f"data.cache: {error.filename or cache.folder}: {error.strerror}; "
                    "data.cache_dir names another folder"
                ) from error
            there = found["shard"] >= 0
            shards, positions = np.unique(found["shard"][there], return_inverse=True)
            found["shard"][there] = len(paths) + positions
            paths += map(cache.path, shards)
            index[own] = found
        return CachedImages(self.table, index, MappedFiles(partial(_open, paths), OPEN_SHARDS))

    def _empty(self) -> PixelIndex:
        return np.full(len(self.table), MISSING, PIXELS)

    def _folder_name(self, source: str, intensity: Intensity | None) -> str:
        libraries = PIL.__version__, simplejpeg.__version__, torch.__version__
        settings = repr((VERSION, *libraries, self.max_pixels, str(intensity), self.mode)).encode()
        height, width = self.size
        digest = blake2b(settings, digest_size=4).hexdigest()
        return f"{quote(source, safe='')}-{height}x{width}-{digest}"

    def _filled(self, cache: DiskCache, rows: npt.NDArray[np.int64]) -> PixelIndex:
        """Return the places of the images of some rows, after adding missing ones."""
        images: Texts = self.table.images[rows]
        stamps = self._stamps(rows)
        with cache.locked(
            lambda: self._print(f"waiting for another process to fill {cache.folder}")
        ):
            cache.clean()
            found = cache.find(images, stamps)
            missing = np.flatnonzero(found["shard"] < 0)
            if not len(missing):
                return found
            self._announce(rows[missing], cache.folder.parent)
            cache.add(
                (images[missing[position]], stamps[missing[position]], pixels)
                for position, pixels in self._decoded(rows[missing])
                if stamps[missing[position]]
            )
            return cache.find(images, stamps)

    def _stamps(self, rows: npt.NDArray[np.int64]) -> Texts:
        """Return a stamp for each image that changes when its file does."""
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
                stamps[position] = ""  # decoding it gives the reason
        return stamps

    def _announce(self, rows: npt.NDArray[np.int64], folder: Path) -> None:
        need, free = self._estimate(rows), shutil.disk_usage(folder).free
        self._print(f"{len(rows):,} images are decoded once, about {_size(need)} in {folder}")
        if need > free:
            raise UserError(
                f"data.cache: {folder} has {_size(free)} free, and about {_size(need)} are needed; "
                "data.cache_dir names another folder"
            )

    def _estimate(self, rows: npt.NDArray[np.int64]) -> int:
        """Estimate the size of the images in bytes."""
        some = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)]
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
                raise UserError(f"{found}; data.on_bad_image: skip continues without such images")

    def _decode(self, row: np.int64) -> Pixels | str:
        """Return an image, or the reason why there is none."""
        try:
            return load_scaled(self.table, int(row), self.size, self.max_pixels, self.mode)
        except UserError as error:
            return image_error(error)

    def _print(self, text: str) -> None:
        self.console.print(f"data.cache: {text}", markup=False, highlight=False, soft_wrap=True)


def _open(paths: Sequence[Path], number: int) -> IO[bytes]:
    return open(paths[number], "rb")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):,.1f} MB"
