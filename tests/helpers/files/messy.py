"""Two tables with everything wrong that an audit should find, and a config of them."""

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.report import Report, audit
from mtl_lightning.commands import common, prepare
from mtl_lightning.system.progress import ProgressBar

CONFIG = """
tasks:
  kind: Classification
  price: Regression
  audience: {class_path: Classification, init_args: {classes: [adults, kids, pets]}}
data:
  sources:
    types: {class_path: TableSource, init_args: {path: types.csv, group: sender}}
    "more <i>": {class_path: TableSource, init_args: {path: more.csv}}
    gone: {class_path: TableSource, init_args: {path: gone.csv}}
  image_size: 32
  batch_size: 8
trainer: {devices: 2, accelerator: cpu}
"""
HOSTILE = "<script>alert(1)</script>"


def photo(path: Path, number: int, height: int = 40, width: int = 48) -> None:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)


def make(folder: Path) -> Path:
    """Write it all into a folder; return the config's file."""
    names = [f"photos/{number:02}.jpg" for number in range(50)]
    for number, name in enumerate(names):
        photo(folder / name, number)
    photo(folder / names[6], 6, 24, 90)
    photo(folder / names[7], 7, 200, 100)
    whole = (folder / names[10]).read_bytes()
    (folder / names[10]).write_bytes(whole[:-60])
    (folder / names[11]).write_text("no image")
    for one, other in ((20, 45), (21, 46), (30, 31)):
        shutil.copy(folder / names[one], folder / names[other])
    kinds = ["T-shirt", "Dress", "Hat"] * 16 + ["T-shirt", "Dress"]
    kinds[9] = "tshirt"
    kinds[30], kinds[31] = "Dress", "Hat"
    splits = ["train"] * 40 + ["val"] * 5 + ["test"] * 5
    rows = [
        f"{name},{kind},{number}.5,{split},s{number // 5}"
        for number, (name, kind, split) in enumerate(zip(names, kinds, splits, strict=True))
    ]
    more = ["photos/98.jpg,Dress,1,train,s1", "photos/99.jpg,Dress,1,train,s1"]
    more += ["photos/00.jpg,Hat,,,", "photos/12.jpg,,,,s9"]
    (folder / "types.csv").write_text(
        "\n".join(["image,kind,price,split,sender", *rows, *more]) + "\n"
    )
    others = [
        f"{names[0]},Dress,adults,train",
        f"{names[3]},Dress,kids,val",
        f"{names[4]},Dress,kids,",
        f'{names[5]},,"{HOSTILE}",',
        f"{names[6]},,a\x1b[31mred,",
    ]
    (folder / "more.csv").write_text("\n".join(["image,kind,audience,split", *others]) + "\n")
    config = folder / "messy.yaml"
    config.write_text(CONFIG)
    return config


def audited(name: str) -> Report:
    """Audit a config in the current folder."""
    prepared = prepare.prepare("inspect", ["--config", name])
    data = common.build_data(prepared.config)
    quiet = ProgressBar(Console(file=io.StringIO()))
    return audit(prepared.name, data, StepSize(data.batch_size, 2), 0, True, quiet)
