"""Packs"""

import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from mtl_lightning import PartialLabels, StreamSource, TableSource
from mtl_lightning.data.packs.writing import pack
from mtl_lightning.system.progress import ProgressBar
from tests.bad_inputs import Case
from tests.bad_inputs._shop import TASKS, Make, first_image, nothing
from tests.helpers.packs import flip, sign

PACK, SHARD, MANIFEST = Path("p"), Path("p/chunk-0-0.bin"), Path("p/pack.json")


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
    return f"{len(data.merged())} images, the first of {first_image(data)}"


def broken(name: str, make: Make, expected: str, path: str = "p", **options: Any) -> Case:
    """Return the case of a pack that ``make`` changes."""

    def both() -> None:
        written()
        make()

    return Case(name, both, lambda: loaded(path, **options), expected)


def changed(file: str, change: Callable[[dict[str, Any]], object]) -> Make:
    """Change one of its JSON files."""

    def make() -> None:
        path = PACK / file
        said = json.loads(path.read_text())
        change(said)
        path.write_text(json.dumps(said))
        if path != MANIFEST:
            sign(PACK, file)

    return make


AT = r"error: data\.sources\.pack: /here/p"
CASES = [
    broken("a pack that is whole", nothing, r"handled: 2 images, the first of .* mean 128"),
    broken("no such folder", nothing, r"error: data\.sources\.pack: there is no folder .*", "q"),
    broken("the folder of the photos", nothing, r"error: .*/shop is no whole pack: .*", "shop"),
    Case(
        "an address of the web",
        nothing,
        lambda: loaded("https://example.org/p"),
        r"error: https://example\.org/p: cannot be fetched from there; expected a folder, .*",
    ),
    broken("a manifest cut short", lambda: os.truncate(MANIFEST, 40), AT + ": pack.json is dam.*"),
    broken(
        "a pack of a later version",
        changed("pack.json", lambda said: said.update(format=99)),
        AT + r": pack\.json: the pack has format 99, .*; upgrade it, or .*",
    ),
    broken(
        "a bit of its labels",
        lambda: flip(PACK / "labels.parquet", 99),
        AT + r": labels\.parquet .*",
    ),
    broken(
        "items that are pickles",
        changed("index.json", lambda said: said["config"].update(data_format=["pickle"])),
        AT + r": index\.json: the items are .*pickle.*, so it is refused",
    ),
    broken(
        "a shard that leads out of the folder",
        changed("index.json", lambda said: said["chunks"][0].update(filename="../x.bin")),
        AT + r': index\.json: "\.\./x\.bin" is no name of a shard; .*',
    ),
    broken("a task that was not packed", nothing, AT + " has no packed task .*pri.*", task="price"),
    broken("a shard that is gone", SHARD.unlink, r"error: /here/p: there is no shard chunk-0.*"),
    broken(
        "a shard cut short",
        lambda: os.truncate(SHARD, 300),
        r"error: /here/p: shard chunk-0-0\.bin has 300 bytes; expected .*",
    ),
    broken(
        "a bit of an image",
        lambda: flip(SHARD, 100),
        r"error: /here/p [ab]\.bmp: image 0 of shard .* is damaged .*; data\.on_bad_image: .*",
    ),
]
