"""Writing a pack: all of it, or nothing."""

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning import __version__
from mtl_lightning.data.bad_images import BadImages
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.images import decode
from mtl_lightning.data.merging import MergedTable
from mtl_lightning.data.packs.layout import (
    FORMAT,
    INDEX,
    LABELS,
    MANIFEST,
    checksum,
)
from mtl_lightning.data.packs.storage import EXTRA
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError, fault
from mtl_lightning.system.files import part_of
from mtl_lightning.system.progress import ProgressBar

_THREADS = 8
_SEED = 0


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        images: Split to the number of images.
        shards: The number of shards.
        size: Of the shards, in bytes.
        unlabelled: Images that were left out because no task has a label of theirs.
        unreadable: Those left out because they cannot be read (``data.on_bad_image: skip``).
    """

    images: dict[str, int]
    shards: int
    size: int
    unlabelled: int
    unreadable: BadImages


def pack(data: PartialLabels, output: Path, shard_bytes: int, progress: ProgressBar) -> Packed:
    """Write all labelled images of a data module, with labels and splits.

    The images of a split come after those of another, and within a split in random order, which
    depends on their number alone: so each shard is a sample of its split, whatever the order of
    the tables is, and few of them together make good steps.

    Args:
        data: Whose labels have been set up for ``fit``.
        output: A folder that is not there yet.
        shard_bytes: Of a shard, which ends with the image that makes it larger.
        progress: Shows how far it is.

    Raises:
        UserError: If an image cannot be read (and is not to be skipped), there is none, or litdata
            is not installed. There is no ``output`` then.
    """
    writer = _litdata_writer()
    table = data.merged()
    rows = np.concatenate([_shuffled(data.rows(split)) for split in SPLITS])
    fields = [field for task in data.tasks for field in data.fields(task)]
    fields = [field for field in fields if pd.notna(table.cells[field]).any()]
    with _staged(output) as folder:
        kept: list[int] = []
        checksums: list[int] = []
        shards = writer(str(folder), chunk_bytes=shard_bytes)
        with warnings.catch_warnings():
            # An image that is larger than a shard should be is a shard by itself.
            warnings.filterwarnings("ignore", "An item was larger than the target chunk size")
            for row, content in _contents(data, rows, progress):
                shards.add_item(len(kept), content)
                kept.append(row)
                checksums.append(zlib.crc32(content))
            shards.done()
        if not kept:
            raise UserError("there is no image to pack: none carries a label and can be read")
        shards.merge()
        of = np.array(kept)
        counts = np.bincount(table.splits[of], minlength=len(SPLITS)).tolist()
        images = dict(zip(SPLITS, counts, strict=True))
        unlabelled = len(table) - len(rows)
        _write_labels(folder / LABELS, table, fields, of, checksums)
        _write_manifest(
            folder,
            {
                "images": len(kept),
                "splits": images,
                "tasks": fields,
                "left_out": {"unlabelled": unlabelled, "unreadable": len(rows) - len(kept)},
            },
        )
        files = list(folder.glob("*.bin"))
        size = sum(file.stat().st_size for file in files)
    return Packed(images, len(files), size, unlabelled, data.bad)


def _contents(
    data: PartialLabels, rows: npt.NDArray[np.int64], progress: ProgressBar
) -> Iterator[tuple[int, bytes]]:
    """Yield rows with the bytes of their images, without those that are to be skipped."""
    table = data.merged()
    read = partial(_read, table, data.max_pixels)
    numbers = rows.tolist()
    threads = _THREADS if all(source.threadsafe for source in table.sources) else 1
    for row, content in zip(numbers, progress.imap(read, numbers, "packing", threads), strict=True):
        if isinstance(content, bytes):
            yield row, content
        elif data.on_bad_image == "error":
            raise UserError(f"{content}; data.on_bad_image: skip leaves such images out")
        else:
            split = SPLITS[table.splits[row]]
            data.bad.add(split, {row: str(content)}, table, len(data.rows(split)))


def _litdata_writer() -> Any:
    try:
        from litdata.streaming.writer import BinaryWriter  # an extra
    except ImportError:
        raise UserError(f"pack needs the library litdata: {EXTRA}") from None
    return BinaryWriter


def _shuffled(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.random.default_rng(_SEED).permutation(rows)


def _read(table: MergedTable, max_pixels: int, row: int) -> bytes | UserError:
    """Return the bytes of an image that can be decoded, or why it cannot."""
    try:
        content = table.content(row)
        decode(table.name(row), max_pixels, content)
    except UserError as error:
        said = fault(error)
        where = f"{table.where(row)}: "
        return UserError(said if said.startswith(where) else where + said)
    return content


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """Give an empty neighbour of a folder, which becomes the folder once it is complete.

    Raises:
        UserError: If the folder is there already.
    """
    check_free(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = part_of(output)
    folder.mkdir()
    try:
        yield folder
        for path in folder.iterdir():  # a power cut must not leave a pack of empty files
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        check_free(output)
        folder.rename(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_free(output: Path) -> None:
    """Raise a `UserError` if there is anything of that name, even nothing but an empty folder."""
    if os.path.lexists(output):
        raise UserError(
            f"--output {output}: is there already, and is never overwritten; give another name"
        )


def _write_labels(
    path: Path,
    table: MergedTable,
    fields: list[str],
    rows: npt.NDArray[np.int64],
    checksums: list[int],
) -> None:
    columns: dict[str, Any] = {
        "image": pa.array(table.keys[rows], pa.string()),
        "split": pa.array([SPLITS[split] for split in table.splits[rows]], pa.string()),
        "crc32": pa.array(checksums, pa.uint32()),
    }
    for field in fields:
        cells = table.cells[field][rows]
        columns[f"label:{field}"] = pa.array(cells, pa.string())
        columns[f"mask:{field}"] = pa.array(pd.notna(cells))
    pa.parquet.write_table(pa.table(columns), path)


def _write_manifest(folder: Path, said: dict[str, Any]) -> None:
    """Write the manifest, after all else: without it there is no pack."""
    manifest = {
        "format": FORMAT,
        "written_by": f"mtl-lightning {__version__}",
        **said,
        "checksums": {name: checksum((folder / name).read_bytes()) for name in (INDEX, LABELS)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
