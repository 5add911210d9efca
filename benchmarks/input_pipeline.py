"""Images per second of our loader against torchvision's ImageFolder with PIL and v2 transforms.

    python benchmarks/input_pipeline.py [--workers 0] [--augmented] [--rounds 3]
        [--kinds "3 megapixels" "400 x 533" "200 px"] [--qualities 75 88 95]

Both load the same JPEG files at the same size (128 px) in batches of 32, with the same number of
workers, alternating, so that a busy machine slows both down. The baseline is that of tutorials:
``Resize``, ``CenterCrop`` (``--augmented``: ``RandomResizedCrop`` and ``RandomHorizontalFlip``),
``PILToTensor``. Ours is the whole path from the step plan to a `Batch`, including labels, masks and
counts. It measures decoding and resizing alone, without a loader and never augmented; the first
epoch, which decodes; a cache in memory; and a cache on disk that is already filled.

The files are random crops of scikit-learn's two photographs, enlarged twofold (a camera's pixels
are smoother than those of a picture scaled down for the web) and extended by their mirror images.
They are written in JPEG quality 75 (Pillow's default), 88 and 95: when a large file is decoded at
an eighth of its size, mostly its Huffman decoding remains, which takes longer the higher the
quality. A row starts with the quality and the size of the files.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Trainer
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from mtl_lightning.commands import quiet
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.images import decode
from mtl_lightning.data.resizing import resize
from mtl_lightning.data.sources import FolderSource
from mtl_lightning.tasks import Classification

SIZE, BATCH = 128, 32
KINDS = {"3 megapixels": (1536, 2048, 24), "400 x 533": (533, 400, 192), "200 px": (200, 267, 384)}
"""Height, width and number of files."""
QUALITIES = [75, 88, 95]
COLUMNS = ("alone", "first epoch", "memory", "disk")
"""Decoding and resizing alone, then our loader without a cache and with either."""


def photographs(folder: Path, height: int, width: int, count: int, quality: int) -> int:
    """Write JPEG files into two classes; return their total size in bytes."""
    draw = np.random.default_rng(0)
    motifs, size = [], 0
    for picture in load_sample_images().images:
        large = Image.fromarray(picture).resize((1280, 854), Image.Resampling.BICUBIC)
        motifs.append(np.pad(np.asarray(large), [(0, 853), (0, 1279), (0, 0)], mode="reflect"))
    for number in range(count):
        motif = motifs[number % 2]
        top, left = (
            draw.integers(0, m - n) for m, n in zip(motif.shape, (height, width), strict=False)
        )
        path = folder / "train" / ("a", "b")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = motif[top : top + height, left : left + width]
        Image.fromarray(pixels).save(path, quality=quality)
        size += path.stat().st_size
    return size


def peer(folder: Path, workers: int, augmented: bool) -> DataLoader[torch.Tensor]:
    """Return torchvision's loader."""
    crop = (
        [v2.RandomResizedCrop(SIZE, scale=(0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()]
        if augmented
        else [v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)]
    )
    dataset = ImageFolder(str(folder / "train"), v2.Compose([*crop, v2.PILToTensor()]))
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def ours(folder: Path, workers: int, augmented: bool, cache: str) -> Iterable[object]:
    """Return our loader of training images."""
    crop = [v2.RandomResizedCrop(SIZE, scale=(0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    data = PartialLabels(
        {"kind": Classification(["a", "b"])},
        {"photos": FolderSource(str(folder), "kind")},
        splits={"val": 0.0, "test": 0.0},
        image_size=SIZE,
        batch_size=BATCH,
        num_workers=workers,
        augmentation=crop if augmented else "none",
        cache=cache,
        cache_dir=str(folder / "cache"),
    )
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("fit")
    return data.train_dataloader()


def peer_alone(folder: Path) -> Iterator[object]:
    """Decode and resize as torchvision does."""
    resize = v2.Resize(SIZE, antialias=True)
    for path in folder.glob("train/*/*.jpg"):
        yield resize(default_loader(str(path)))


def ours_alone(folder: Path) -> Iterator[object]:
    """Decode and resize as our sources do."""
    for path in folder.glob("train/*/*.jpg"):
        yield resize(decode(path, cover=(SIZE, SIZE)), (SIZE, SIZE))


def seconds(loader: Iterable[object]) -> float:
    """Return the duration of an epoch."""
    begun = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - begun


def measured(folder: Path, options: argparse.Namespace) -> tuple[float, list[float]]:
    """Return the seconds of the baseline's epoch, and our speed-ups; see `COLUMNS`."""
    given = (options.workers, options.augmented)
    loaders = {cache: ours(folder, *given, cache) for cache in ("none", "memory", "disk")}
    theirs = peer(folder, *given)
    taken: list[list[float]] = []
    for _ in range(options.rounds + 1):
        alone = seconds(peer_alone(folder)) / seconds(ours_alone(folder))
        base = seconds(theirs)
        taken.append([base, alone, *(base / seconds(loader) for loader in loaders.values())])
    first, *rest = (statistics.median(each) for each in zip(*taken[1:], strict=True))
    return first, rest  # without the first round, which starts workers


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--augmented", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--qualities", nargs="+", type=int, default=QUALITIES)
    options = parser.parse_args()
    quiet.quieten()
    torch.set_num_threads(1)
    print(f"{SIZE} px, {options.workers} workers, augmented: {options.augmented}")
    print(f"{'files':<27}{'ImageFolder':>14}" + "".join(f"{name:>13}" for name in COLUMNS))
    for name, quality in itertools.product(options.kinds, options.qualities):
        height, width, count = KINDS[name]
        with tempfile.TemporaryDirectory() as where:
            size = photographs(Path(where), height, width, count, quality) / count / 1e3
            base, ratios = measured(Path(where), options)
        row = f"{name:<13}{quality:>3}{size:>8,.0f} kB{count / base:>10,.0f} /s"
        print(row + "".join(f"{ratio:>11.1f} x" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
