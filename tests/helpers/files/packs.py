"""A small collection of photos and tables, and packs of it, for the tests of both."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.packing import Packed, pack
from mtl_lightning.data.packs.manifest import LABELS, MANIFEST, sha256
from mtl_lightning.data.packs.reading import Pack
from mtl_lightning.data.sources import DigitsSource, StreamSource, TableSource
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.tasks import (
    Classification,
    MultiLabel,
    Regression,
    Task,
)
from tests.helpers.data import labelled_photos, make_data, make_more_tasks

KINDS = ("cat", "dog", None)


def shop_tasks() -> dict[str, Task]:
    return {
        "kind": Classification(),
        "size": Regression(),
        "tags": MultiLabel(["hat", "bag"]),
        "ink": Regression(),
    }


def shop(folder: Path, bad: Sequence[int] = (), **options: Any) -> PartialLabels:
    """Write photos (PNG and JPEG), and two tables about them that overlap; return the data.

    Rows 0 to 29 are photos, of which 28 and 29 carry no label; then come scans that are no files.

    Args:
        folder: Where to.
        bad: Photos that are broken.
        options: Of `PartialLabels`.
    """
    (folder / "photos").mkdir(parents=True)
    names = [f"photos/{i:02}.{'jpg' if i % 2 else 'png'}" for i in range(30)]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        if i in bad:
            (folder / name).write_bytes(b"broken")
    splits = [("train", "train", "val", "train", "test")[i % 5] for i in range(30)]
    kinds = [KINDS[i % 3] if i < 20 else None for i in range(30)]
    pd.DataFrame({"image": names, "kind": kinds, "split": splits}).to_csv(
        folder / "kinds.csv", index=False
    )
    rows = range(10, 28)
    sizes = {"image": [names[i] for i in rows], "size": [i / 4 for i in rows]}
    sizes |= {"hat": [("yes", None)[i % 2] for i in rows], "bag": ["no"] * len(rows)}
    pd.DataFrame(sizes).to_csv(folder / "sizes.csv", index=False)
    sources = {
        "kinds": TableSource(folder / "kinds.csv"),
        "sizes": TableSource(folder / "sizes.csv"),
        "scans": DigitsSource(missing={"ink": 0.9}),
    }
    return PartialLabels(shop_tasks(), sources, **options)


def packed(data: PartialLabels, output: Path, shard_bytes: int = 60_000) -> Packed:
    """Set up the labels of the data and write them."""
    data.setup("fit")
    return pack(data, output, shard_bytes, ProgressBar(Console(file=StringIO())))


def streamed(folder: Path, tasks: dict[str, Task] | None = None, **options: Any) -> PartialLabels:
    """Return what `data.make_data` gives, of a pack of it in the folder, written if need be."""
    if not folder.exists():
        packed(make_data(tasks=make_more_tasks()), folder, shard_bytes=6_000)
    sources = {"pack": StreamSource(folder)}
    return make_data(tasks=tasks or make_more_tasks(), sources=sources, **options)


def photos_packed(output: str) -> dict[str, Any]:
    """Pack `data.labelled_photos`, a few images a shard; return a config that reads the pack."""
    changes = labelled_photos({})
    tasks = {"kind": Classification(), "size": Regression()}
    packed(PartialLabels(tasks, {"photos": TableSource("photos.csv")}), Path(output), 10_000)
    source = {"class_path": "StreamSource", "init_args": {"path": output}}
    return changes | {"data.sources": {"pack": source}}


def rows_of(pack: Pack, shard: int) -> list[int]:
    """Return the rows of the images in a shard."""
    return [int(row) for row in np.flatnonzero(pack.shards == shard)]


def sign(folder: Path) -> None:
    """Give the manifest of a pack the checksum of a changed table, as one would who means it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    labels = (folder / LABELS).read_bytes()
    manifest["labels"] = {"size": len(labels), "sha256": sha256(labels)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def flip(path: Path, place: int) -> None:
    """Change a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x80
    path.write_bytes(content)
