"""Writing packs, atomically."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning._version import __version__
from mtl_lightning.data.bad_images import BadImages
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.images import decode
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.packs.manifest import FORMAT, LABELS, MANIFEST, sha256
from mtl_lightning.data.records import RecordWriter
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError, image_error
from mtl_lightning.system.files import part_of
from mtl_lightning.system.progress import ProgressBar

_THREADS = 8
_SEED = 0
_RECORD = np.dtype(
    [("row", np.int64), ("shard", np.uint32), ("size", np.uint32), ("crc32", np.uint32)]
)
"""An image that was written: its row in the merged table, and its bytes in the pack."""


@dataclass(frozen=True)
class Packed:
    """The outcome of `pack`.

    Attributes:
        images: Split to the number of images.
        shards: The number of shards.
        size: The bytes of all shards.
        unlabelled: Images that were left out because no task has a label for them.
        unreadable: Images that were left out because they cannot be read
            (``data.on_bad_image: skip``).
    """

    images: dict[str, int]
    shards: int
    size: int
    unlabelled: int
    unreadable: BadImages


def pack(data: PartialLabels, output: Path, shard_bytes: int, progress: ProgressBar) -> Packed:
    """Write all labelled images of a data module, with labels and splits.

    The images are ordered by split, and within a split in a random order that depends only on
    their number. So each shard is a sample of its split, whatever the order of the tables, and a
    few shards make good steps.

    Args:
        data: Data whose labels have been set up for ``fit``.
        output: A folder that does not exist yet.
        shard_bytes: The largest size of a shard, unless a single image is larger.
        progress: Shows the progress.

    Raises:
        UserError: If an image cannot be read (and should not be skipped), or there is none;
            ``output`` does not exist then.
    """
    for name, task in data.tasks.items():
        if task.loads_targets:
            raise UserError(
                f"task {name} reads its targets from files, which a pack does not hold; leave it "
                f"out (--only), or train from the files"
            )
    table = data.labels.table
    rows = np.concatenate([_shuffled(data.labels.rows(split)) for split in SPLITS])
    fields = [field for task in data.tasks for field in data.labels.fields(task)]
    fields = [field for field in fields if pd.notna(table.cells[field]).any()]
    with _staged(output) as folder:
        with closing(RecordWriter(folder, shard_bytes)) as shards:
            records = np.fromiter(
                (
                    (row, shards.append(content)[0], len(content), zlib.crc32(content))
                    for row, content in _contents(data, rows, progress)
                ),
                _RECORD,
            )
        if not len(records):
            raise UserError("there is no image to pack: none carries a label and can be read")
        counts = np.bincount(table.splits[records["row"]], minlength=len(SPLITS)).tolist()
        packed = Packed(
            images=dict(zip(SPLITS, counts, strict=True)),
            shards=int(records["shard"][-1]) + 1,
            size=int(records["size"].sum()),
            unlabelled=len(table) - len(rows),
            unreadable=data.bad,
        )
        _write_labels(folder / LABELS, table, fields, records)
        _write_manifest(
            folder,
            {
                "images": len(records),
                "splits": packed.images,
                "tasks": fields,
                "left_out": {
                    "unlabelled": packed.unlabelled,
                    "unreadable": len(rows) - len(records),
                },
            },
        )
    return packed


def _contents(
    data: PartialLabels, rows: npt.NDArray[np.int64], progress: ProgressBar
) -> Iterator[tuple[int, bytes]]:
    """Yield rows with the bytes of their images, without those to be skipped."""
    table = data.labels.table
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
            data.bad.add(split, {row: str(content)}, table, len(data.labels.rows(split)))


def _shuffled(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.random.default_rng(_SEED).permutation(rows)


def _read(table: MergedTable, max_pixels: int, row: int) -> bytes | UserError:
    """Return the bytes of an image that can be decoded, or the reason why it cannot."""
    try:
        content = table.content(row)
        decode(table.name(row), max_pixels, content)
    except UserError as error:
        message = image_error(error)
        where = f"{table.location(row)}: "
        return UserError(message if message.startswith(where) else where + message)
    return content


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """Create an empty folder next to ``output``, and rename it to that once it is complete.

    Raises:
        UserError: If ``output`` exists.
    """
    check_free(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = part_of(output)
    folder.mkdir()
    try:
        yield folder
        for path in folder.iterdir():  # a power failure must not leave a pack of empty files
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        check_free(output)
        folder.rename(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_free(output: Path) -> None:
    """Raise a `UserError` if anything has that name, even an empty folder."""
    if os.path.lexists(output):
        raise UserError(
            f"--output should be a folder that does not exist yet. Found {output}, which is never "
            "overwritten; give another name"
        )


def _write_labels(
    path: Path, table: MergedTable, fields: list[str], records: npt.NDArray[np.void]
) -> None:
    rows = records["row"]
    columns: dict[str, Any] = {
        "image": pa.array(table.keys[rows], pa.string()),
        "split": pa.array([SPLITS[split] for split in table.splits[rows]], pa.string()),
        **{name: pa.array(records[name]) for name in ("shard", "size", "crc32")},
    }
    for field in fields:
        cells = table.cells[field][rows]
        columns[f"label:{field}"] = pa.array(cells, pa.string())
        columns[f"mask:{field}"] = pa.array(pd.notna(cells))
    pa.parquet.write_table(pa.table(columns), path)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write the manifest, after everything else: without it there is no pack."""
    labels = (folder / LABELS).read_bytes()
    manifest = {
        "format": FORMAT,
        "written_by": f"mtl-lightning {__version__}",
        **facts,
        "labels": {"size": len(labels), "sha256": sha256(labels)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
