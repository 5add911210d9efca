"""Packs: merged data in shards, in a folder or an object storage."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.images import decode
from mtl_lightning.data.packs.reading import Contents, ShardFiles, read_contents
from mtl_lightning.data.packs.storage import place
from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.system.errors import UserError, quoted


class StreamSource(Source):
    """What ``mtl-lightning pack`` wrote: images in shards, their labels and splits in one table.

    Few large files instead of many small ones: so data can lie on a network drive or in an object
    storage, of which only some shards are on the machine at a time. Unless ``data.sampling`` says
    otherwise an epoch takes the shards in random order, a few at a time; see `Shards`.

    Args:
        path: The folder, or its address in an object storage (``s3://``, ``gs://``,
            ``azure://``), or ``local:`` and a folder on a slow drive whose shards are copied to
            this machine. All but a plain folder needs ``pip install 'mtl-lightning[stream]'``.
        labels: Task to the task that it was packed as; by default those of the same name.
        values: What texts mean, see `TableSource`.
        cache_dir: Where copies are kept of what is not in a plain folder, for all processes of
            the machine; by default ``mtl-lightning/packs`` in the user's folder of caches.
        cache_gb: Those that were last opened are kept, up to so many gigabytes. Where there is
            room for all of it a pack is fetched once.
        storage_options: What the client of the storage gets, such as ``{endpoint_url: ...}`` for
            one that speaks as S3 does, or ``{account_url: ...}`` for Azure. They are written into
            the saved config: leave keys and passwords to the environment.
    """

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
            raise UserError(f"cache_gb should be above 0. Found {cache_gb}")
        self.labels = labels
        self.values = values
        copies = None if cache_dir is None else os.fspath(cache_dir)
        self._place = place(os.fspath(path), copies, cache_gb, storage_options)
        self._files: ShardFiles | None = None

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the table of the pack; see `Source.read`."""
        contents = self._open()
        name = self._place.name
        columns = Columns(
            name,
            list(contents.labels),
            lambda task: contents.labels[task].copy(),
            lambda i, task: f"{name} {contents.keys[i]}, task {quoted(task)}",
            kind="packed task",
        )
        chosen = columns.of_tasks(tasks, self.labels)
        images = [
            f"pack:{name}/{shard.name}:{number}"
            for shard in contents.shards
            for number in range(shard.images)
        ]
        return SourceTable(
            origin=name,
            images=texts(images),
            keys=contents.keys,
            labels=columns.labels(chosen, tasks, self.values),
            splits=contents.splits,
            shards=np.repeat(
                np.arange(len(contents.shards)), [shard.images for shard in contents.shards]
            ),
            notes=columns.notes,
        )

    @property
    def threadsafe(self) -> bool:
        """Whether several threads may load: shards are mapped, and only as a whole replaced."""
        return True

    def content(self, image: str) -> bytes:
        """Return the bytes of an image as they were packed; see `Source.content`."""
        if self._files is None:
            self._open()
        assert self._files is not None
        shard, _, number = image.rpartition("/")[2].rpartition(":")
        return self._files.content(shard, int(number))

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return an image as (height, width, 3) RGB, uint8."""
        return decode(image, self.max_pixels, self.content(image), self.cover)

    def _open(self) -> Contents:
        contents = read_contents(self._place)
        self._files = ShardFiles(self._place, contents.shards, contents.checksums)
        return contents
