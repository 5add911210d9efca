"""A small shop whose tables can be broken."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_lightning import (
    Classification,
    FolderSource,
    HierarchicalClassification,
    MultiLabel,
    PartialLabels,
    Regression,
    Source,
    TableSource,
)
from mtl_lightning.data.bad_images import raise_on_bad_image
from mtl_lightning.data.dataset import ImageDataset
from mtl_lightning.data.images import MAX_PIXELS
from mtl_lightning.data.loading import whole
from mtl_lightning.data.plan import Request
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.tasks import Task
from tests.bad_inputs import Case

Make = Callable[[], object]

MILLION = "x" * 1_000_000
IMAGES = ("shop/a.jpg", "shop/b.jpg", "shop/sub/c.jpg", "private/d.jpg")
TASKS: dict[str, Callable[[], Task]] = {
    "type": lambda: Classification(["Dress", "Shirt"]),
    "kind": Classification,
    "price": Regression,
    "share": lambda: Regression(bounds=[0, 100]),
    "cost": lambda: Regression(scale="log"),
    "tags": lambda: MultiLabel(["hat", "bag"]),
    "tree": lambda: HierarchicalClassification({"size": {"big": ["cat"], "small": ["ant"]}}),
}
GOOD = {
    "type": ("Dress", "Shirt"),
    "price": ("9.5", "12"),
    "share": ("9.5", "12"),
    "cost": ("9.5", "12"),
    "tags": ("hat", "bag"),
}


def nothing() -> None:
    """Make nothing."""


def shop(files: Mapping[str, str | bytes]) -> None:
    """Write empty images in shop/ and one next to it, and files in shop/."""
    for name in IMAGES:
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        Path("shop", name).write_bytes(data)


def links(**targets: str) -> Make:
    """Make links in shop/: ``Dress__x_jpg`` is shop/Dress/x.jpg."""

    def make() -> None:
        for name, target in targets.items():
            Path("shop", name.replace("__", "/").replace("_", ".")).symlink_to(target)

    return make


def labelled(task: str, sources: Mapping[str, Source], **options: Any) -> str:
    """Read sources as `fit` does before it trains; name the images with their labels."""
    data = PartialLabels({task: TASKS[task]()}, dict(sources), splits={}, **options)
    data.setup("fit")
    table = data.labels.table
    cells = [table.cells[field] for field in data.labels.fields(task)]
    labels = [" ".join(filter(None, row)) or "not labelled" for row in zip(*cells, strict=True)]
    images = map(os.path.basename, table.images)
    return "; ".join(f"{image}: {label}" for image, label in zip(images, labels, strict=True))


def first_image(data: PartialLabels) -> str:
    """Load the first image as a training does; say what came."""
    images = ImageDataset(data.labels.table, {}, (8, 8), None, 0, MAX_PIXELS)
    batch = images.__getitems__(Request(np.array([0]), {}, 1, 1, 0))
    (passed,) = raise_on_bad_image(whole(iter([batch])))
    image = passed.inputs["image"]
    return f"{tuple(image.shape[1:])} pixels, mean {image.float().mean():.0f}"


def table(
    name: str,
    content: str | bytes,
    expected: str,
    file: str = "t.csv",
    task: str = "type",
    make: Make = nothing,
    path: str | None = None,
    merged: Mapping[str, Any] | None = None,
    **options: object,
) -> Case:
    """Return the case of a table in shop/; ``make`` changes what is there."""

    def both() -> None:
        shop({file: content})
        make()

    def read() -> str:
        source = TableSource(path or f"shop/{file}", **options)
        return labelled(task, {"shop": source}, **(merged or {}))

    return Case(name, both, read, expected)


def cell(name: str, text: str, expected: str, task: str = "type") -> Case:
    """Return the case of a table whose third row is labelled ``text``."""
    content = f"image,{task}\na.jpg,{GOOD[task][0]}\nb.jpg,{text}\nsub/c.jpg,{GOOD[task][1]}\n"
    return table(name, content, expected, task=task)


def image(name: str, written: str, expected: str, make: Make = nothing, **options: object) -> Case:
    """Return the case of a table whose third row is about the image ``written``."""
    content = f"image,type\na.jpg,Dress\n{written},Shirt\n"
    return table(name, content, expected, make=make, **options)


def json_lines(name: str, line: str | bytes, expected: str, task: str = "type") -> Case:
    """Return the case of a JSON Lines file whose second line is ``line``."""
    first = GOOD[task][0] if task == "price" else f'"{GOOD[task][0]}"'
    data = f'{{"image": "a.jpg", "{task}": {first}}}\n'.encode()
    data += (line.encode() if isinstance(line, str) else line) + b"\n"
    return table(name, data, expected, file="t.jsonl", task=task)


def two_tables(name: str, one: str, other: str, expected: str) -> Case:
    """Return the case of two sources; ``one`` and ``other`` are rows of a.csv and b.csv."""
    header = "image,type,split,group\n"

    def read() -> str:
        sources = {name: TableSource(f"shop/{name}.csv") for name in ("a", "b")}
        return labelled("type", sources)

    return Case(
        name, lambda: shop({"a.csv": header + one, "b.csv": header + other}), read, expected
    )


def folder(name: str, expected: str, make: Make, **options: object) -> Case:
    """Return the case of a folder per class in shop/: Dress and Shirt with an image each."""

    def both() -> None:
        shop({})
        for path in ("Dress/e.jpg", "Shirt/f.jpg"):
            Path("shop", path).parent.mkdir()
            Path("shop", path).touch()
        Path("shop/sub/c.jpg").unlink()
        Path("shop/sub").rmdir()
        make()

    def read() -> str:
        return labelled("type", {"folders": FolderSource("shop", "type", **options)})

    return Case(name, both, read, expected)


def predicted(
    name: str,
    spec: str,
    expected: str,
    content: str = "image\na.jpg\n",
    make: Make = nothing,
    allow_outside_root: bool = False,
) -> Case:
    """Return the case of ``predict --images``, where shop/t.csv is a table."""

    def both() -> None:
        shop({"t.csv": content})
        make()

    def read() -> str:
        images = UnlabelledImages.find(spec, allow_outside_root)
        return f"images {', '.join(images.names)}"

    return Case(name, both, read, expected)
