"""Packs"""

import json
import os
import pickle
import zlib
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pandas as pd
from PIL import Image
from rich.console import Console

from mtl_lightning import PartialLabels, StreamSource, TableSource
from mtl_lightning.data.packing import pack
from mtl_lightning.system.progress import ProgressBar
from tests.bad_inputs import Case
from tests.bad_inputs._shop import TASKS, Make, first_image, nothing
from tests.helpers.files.packs import flip, sign

PACK, SHARD, MANIFEST = Path("p"), Path("p/shard-00000.bin"), Path("p/pack.json")


def written() -> None:
    """Pack two images; of a format without compression, so that their sizes stay what they are."""
    Path("shop").mkdir()
    for name in "ab":
        Image.new("L", (8, 8), 128).convert("RGB").save(f"shop/{name}.bmp")
    Path("shop/t.csv").write_text("image,type\na.bmp,Dress\nb.bmp,Shirt\n")
    tasks = {"type": TASKS["type"]()}
    data = PartialLabels(tasks, {"shop": TableSource("shop/t.csv")}, splits={})
    data.setup("fit")
    pack(data, PACK, 1_000_000, ProgressBar(Console(file=StringIO())))


def loaded(path: str = "p", task: str = "type") -> str:
    """Read a pack, and the first of its images as a training does."""
    data = PartialLabels({task: TASKS[task]()}, {"pack": StreamSource(path)}, splits={})
    data.setup("fit")
    return f"{len(data.labels.table)} images, the first of {first_image(data)}"


def broken(name: str, make: Make, expected: str, path: str = "p", task: str = "type") -> Case:
    """Return the case of a pack that ``make`` changes."""

    def both() -> None:
        written()
        make()

    return Case(name, both, lambda: loaded(path, task), expected)


def other_format() -> None:
    """Have the manifest name a later format."""
    manifest = json.loads(MANIFEST.read_text())
    MANIFEST.write_text(json.dumps(manifest | {"format": 99}))


def other_table(**columns: object) -> Make:
    """Change columns of the table, and its checksum, as somebody would who means it."""

    def make() -> None:
        table = pd.read_parquet(PACK / "labels.parquet")
        table.assign(**columns).to_parquet(PACK / "labels.parquet")
        sign(PACK)

    return make


def pickled() -> None:
    """Put a pickle in the place of an image, which would make a folder if anybody loaded it."""
    table = pd.read_parquet(PACK / "labels.parquet")
    program = pickle.dumps(_Run()).ljust(table["size"][0], b".")
    shard = program + SHARD.read_bytes()[len(program) :]
    SHARD.write_bytes(shard)
    other_table(crc32=[zlib.crc32(program), table["crc32"][1]])()


class _Run:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("ran",)


AT = r"error: data\.sources\.pack: /here/p"
CASES = [
    broken("a pack that is whole", nothing, r"handled: 2 images, the first of .* mean 128"),
    broken("no such folder", nothing, r"error: data\.sources\.pack: /here/q: pack\.json .*", "q"),
    broken("the folder of the photos", nothing, r"error: .*/shop: pack\.json cannot .*", "shop"),
    Case(
        "an address of no storage",
        nothing,
        lambda: loaded("gopher://example.org/p"),
        r"error: `path` should be a folder or a URL that fsspec knows, .* Found gopher://.*",
    ),
    broken(
        "a manifest cut short", lambda: os.truncate(MANIFEST, 40), AT + r": pack\.json is dam.*"
    ),
    broken(
        "a pack of a later version",
        other_format,
        AT + r": pack\.json: `format` should be .*\. Found 99; pack the data .*",
    ),
    broken(
        "a bit of its labels",
        lambda: flip(PACK / "labels.parquet", 99),
        AT + r": labels\.parquet .*",
    ),
    broken(
        "an image that is a pickle",
        pickled,
        r"error: /here/p [ab]\.bmp: image .* cannot be read \(not an image.*",
    ),
    broken(
        "sizes that lead out of the shard",
        other_table(size=2**32 - 1),
        r"error: /here/p: shard-00000\.bin should have 8,589,934,590 bytes\. Found .*",
    ),
    broken(
        "images in no order of the shards",
        other_table(shard=[1, 0]),
        AT + r": labels\.parquet is not the table of a pack: the images are .*",
    ),
    broken("a task that was not packed", nothing, AT + " has no packed task .*pri.*", task="price"),
    broken("a shard that is gone", SHARD.unlink, r"error: /here/p: there is no shard-0.*"),
    broken(
        "a shard cut short",
        lambda: os.truncate(SHARD, 300),
        r"error: /here/p: shard-00000\.bin should have .* bytes\. Found 300: it .*",
    ),
    broken(
        "a bit of an image",
        lambda: flip(SHARD, 100),
        r"error: /here/p [ab]\.bmp: image 0 of the pack, .* is damaged .*; data\.on_bad_image: .*",
    ),
]
