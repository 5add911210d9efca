"""Packs: merged data in shards, in a folder or an object store."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.images import decode
from mtl_lightning.data.packs.reading import Pack
from mtl_lightning.data.packs.storage import PackStorage
from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.system.errors import UserError, quoted


class StreamSource(Source):
    """A pack that ``mtl-lightning pack`` wrote: images in shards, labels and splits in one table.

    A few large files instead of many small ones, so that data can be on a network drive or in an
    object store, with only some shards on the machine at a time. Unless ``data.sampling`` is set,
    an epoch takes the shards in random order, a few at a time; see `Shards`.

    Args:
        path: The folder, or a URL that fsspec knows: ``s3://`` (which needs
            ``pip install 'mtl-lightning[stream]'``), ``https://``, ``gs://``, ``az://`` and others
            (which need the client that fsspec names), or ``file://`` and a folder on a slow drive,
            from which shards are copied to this machine.
        labels: Task to the packed task; by default the one of the same name.
        values: Meanings of texts, see `TableSource`.
        cache_dir: The folder for copies of the shards of a URL, which all processes of the machine
            share; by default ``mtl-lightning/packs`` in the user's cache folder.
        cache_gb: Gigabytes of most recently opened shards to keep. If there is room for all of
            them, each is fetched once.
        storage_options: Options of fsspec's client for the storage, such as
            ``{endpoint_url: http://minio:9000}`` for s3fs. They are written into the saved config:
            leave keys and passwords to the environment.
    """

    runs_code = True

    def __init__(
        self,
        path: Path,
        labels: Labels | None = None,
        values: Values | None = None,
        cache_dir: Path | None = None,
        cache_gb: float = 20.0,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        if not cache_gb > 0:
            raise UserError(f"`cache_gb` should be above 0. Found {cache_gb}")
        self.labels = labels
        self.values = values
        copies = None if cache_dir is None else os.fspath(cache_dir)
        self._storage = PackStorage(os.fspath(path), copies, cache_gb, storage_options)
        self._pack: Pack | None = None

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the table of the pack; see `Source.read`."""
        pack = self._pack = Pack(self._storage)
        name = self._storage.name
        columns = Columns(
            name,
            list(pack.labels),
            lambda task: pack.labels[task].copy(),
            lambda i, task: f"{name} {pack.keys[i]}, task {quoted(task)}",
            kind="packed task",
        )
        chosen = columns.of_tasks(tasks, self.labels)
        return SourceTable(
            origin=name,
            images=texts([f"pack:{name}:{row}" for row in range(len(pack.keys))]),
            keys=pack.keys,
            labels=columns.labels(chosen, tasks, self.values),
            splits=pack.splits,
            shards=pack.shards,
            slices=columns.slices(self.slices_wanted),
            notes=columns.notes,
        )

    @property
    def threadsafe(self) -> bool:
        """Whether several threads may load: yes, since shards are only read."""
        return True

    def content(self, image: str) -> bytes:
        """Return the bytes of an image as they were packed; see `Source.content`."""
        if self._pack is None:
            self._pack = Pack(self._storage)
        return self._pack.content(int(image.rpartition(":")[2]))

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return an image as (height, width, 3) RGB, uint8."""
        return decode(image, self.max_pixels, self.content(image), self.cover)
