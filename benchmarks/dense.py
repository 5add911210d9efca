"""Cost of a run with segmentation and depth over a plain PyTorch loop.

    python benchmarks/dense.py [--size 128] [--batch 8] [--backbone resnet18] [--profile 30]

Rendered scenes are written as files (JPEG, masks and 16-bit depth as PNG); each second label of a
task is missing. `fit` and a plain loop (a torch Dataset and DataLoader, the same network, losses
and transforms of torchvision's v2, AdamW; no metrics, no logs) take turns of a few steps in one
process; reading, decoding and transforming are part of both. Times are CPU time of one thread,
which other programs disturb least; ratios are of neighbouring turns. Peak memory is that of two
more processes, each with one side alone. Exits with 1 if the median ratio of times is above 1.05.
"""

import argparse
import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import runs
import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from mtl_lightning import (
    DenseRegression,
    MultiTask,
    PartialLabels,
    Segmentation,
    ShapesSource,
    StemsSource,
    Task,
    Torchvision,
)
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.data.transforms import default_train
from mtl_lightning.models import Hard, HeadOptions, Network
from mtl_lightning.models.inputs import IMAGE, image_input

TARGET = 1.05
CLASSES = ["background", "circle", "square", "triangle"]
PATTERNS = {name: f"{name}/{{stem}}.png" for name in ("segmentation", "depth")}
LEARNING_RATE = 1e-3


def tasks() -> dict[str, Task]:
    """Return both tasks."""
    return {
        "segmentation": Segmentation(CLASSES, loss="both"),
        "depth": DenseRegression("m", scale=0.001, loss="log"),
    }


def write(folder: Path, scenes: int, size: int) -> None:
    """Write scenes; every second mask and half of the depth maps are missing."""
    source = ShapesSource(scenes=scenes, size=size)
    table = source.read(list(PATTERNS))
    for name in ("image", *PATTERNS):
        (folder / name).mkdir()
    for row, key in enumerate(table.images):
        Image.fromarray(source.load(key)).save(folder / f"image/{row:04}.jpg", quality=90)
        for number, name in enumerate(PATTERNS):
            if row >> number & 1:
                content = source.target_content(table.labels[name][row])
                (folder / name / f"{row:04}.png").write_bytes(content)


class Files(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images and their labels, as one would read them by hand."""

    def __init__(self, folder: Path, own: dict[str, Task], size: int) -> None:
        self.folder, self.tasks, self.size = folder, own, size
        self.images = sorted((folder / "image").iterdir())
        self.transform = default_train((size, size))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Read and transform an image with its labels."""
        with Image.open(self.images[row]) as file:
            pixels = np.asarray(file.convert("RGB"))
        image = tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        labels: dict[str, Tensor] = {}
        for name in PATTERNS:
            path = self.folder / name / f"{self.images[row].stem}.png"
            if path.exists():
                values = torch.from_numpy(np.array(Image.open(path)).astype(np.float32))
                values = values + 1 if name == "segmentation" else values * 0.001
                dtype = torch.uint8 if name == "segmentation" else torch.float32
                labels[name] = tv_tensors.Mask(values.to(dtype))
        image, labels = self.transform(image, labels)
        return image, labels

    def collate(
        self, rows: list[tuple[Tensor, dict[str, Tensor]]]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return a batch: images, labels (0 where there is none), and which rows have one."""
        empty = {
            name: task.empty_target((self.size, self.size)) for name, task in self.tasks.items()
        }
        targets = {
            name: torch.stack([own.get(name, blank) for _, own in rows])
            for name, blank in empty.items()
        }
        labelled = {name: torch.tensor([name in own for _, own in rows]) for name in empty}
        return torch.stack([image for image, _ in rows]), targets, labelled


class Plain:
    """The loop that one would write by hand for these tasks.

    Args:
        folder: The files.
        given: The arguments of the command line.
    """

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.tasks = tasks()
        files = Files(folder, self.tasks, given.size)
        self.loader = DataLoader(
            files, given.batch, shuffle=True, drop_last=True, collate_fn=files.collate
        )
        depth = [
            item[1]["depth"]
            for item in map(files.__getitem__, range(min(64, len(files))))
            if "depth" in item[1]
        ]
        self.tasks["depth"].fit_targets(depth)
        heads = {n: partial(task.head, defaults=HeadOptions()) for n, task in self.tasks.items()}
        backbone = Torchvision(given.backbone, weights=None)
        self.network = Network(Hard(), backbone, heads, image_input((given.size, given.size)))
        self.network.train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE)
        self.batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]:
        while True:
            yield from self.loader

    def steps(self, number: int) -> None:
        """Train."""
        for _ in range(number):
            images, targets, labelled = next(self.batches)
            self.optimizer.zero_grad()
            outputs = self.network({IMAGE: images})
            total = torch.zeros(())
            for name, task in self.tasks.items():
                losses = task.loss(outputs[name], targets[name])
                mask = labelled[name]
                total = total + (losses * mask).sum() / mask.sum().clamp(min=1)
            total.backward()
            self.optimizer.step()


class TakeTurns(Callback):
    """Runs the plain loop after each block of `fit`'s steps, and times both."""

    def __init__(self, plain: Plain, block: int, profile: cProfile.Profile | None) -> None:
        self.plain, self.block, self.profile = plain, block, profile
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.start = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: object, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note the time after a block, and let the other one run."""
        if (batch_idx + 1) % self.block:
            return
        if self.profile is not None:
            self.profile.disable()
        middle = time.process_time()
        self.plain.steps(self.block)
        end = time.process_time()
        if batch_idx >= self.block:  # the first block warms up
            self.ours.append((middle - self.start) / self.block)
            self.theirs.append((end - middle) / self.block)
        if self.profile is not None:
            self.profile.enable()
        self.start = time.process_time()


def fit(folder: Path, given: argparse.Namespace, *callbacks: Callback) -> None:
    """Train with the package, by a step for each batch of the files."""
    own = tasks()
    source = StemsSource(str(folder), "image/{stem}.jpg", PATTERNS)
    size, batch = given.size, given.batch
    data = PartialLabels(
        own,
        {"scenes": source},
        splits={},
        image_size=size,
        batch_size=batch,
        num_workers=0,
        augmentation="default",
    )
    module = MultiTask(
        own,
        Torchvision(given.backbone, weights=None),
        image_size=size,
        optimizer=partial(torch.optim.AdamW, lr=LEARNING_RATE),
    )
    Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        default_root_dir=folder,
    ).fit(module, data)


def alone(side: str, folder: Path, given: argparse.Namespace) -> float:
    """Return the peak memory of a process that runs one side, in MiB."""
    arguments = [f"--{name}={getattr(given, name)}" for name in ("size", "batch", "backbone")]
    arguments += [f"--block={given.block}", f"--blocks={given.blocks}"]
    command = [sys.executable, __file__, f"--side={side}", f"--folder={folder}", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--block", type=int, default=5, help="steps of a turn")
    parser.add_argument("--blocks", type=int, default=6, help="measured turns")
    parser.add_argument("--profile", type=int, default=0, help="print so many functions of `fit`")
    parser.add_argument("--side", choices=["fit", "plain"], help="run it alone; for peak memory")
    parser.add_argument("--folder", type=Path, help="the files, for --side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    quieten()
    if given.side == "fit":
        fit(given.folder, given)
    elif given.side == "plain":
        Plain(given.folder, given).steps(given.block * (given.blocks + 1))
    if given.side:
        print(runs.peak_mib())
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, given.batch * (given.block * (given.blocks + 1) + 1), given.size)
        profile = cProfile.Profile() if given.profile else None
        turns = TakeTurns(Plain(folder, given), given.block, profile)
        fit(folder, given, turns)
        if profile is not None:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(given.profile)
        memory = [alone(side, folder, given) for side in ("fit", "plain")]
    ratios = [a / b for a, b in zip(turns.ours, turns.theirs, strict=True)]
    times = f"{1e3 * median(turns.ours):.0f} ms, plain {1e3 * median(turns.theirs):.0f} ms"
    print(f"{given.backbone}, {given.size} px, batch {given.batch}, one thread, CPU time")
    print(f"a step: fit {times}; ratio {median(ratios):.3f} ({min(ratios):.2f}..{max(ratios):.2f})")
    print(
        f"peak memory: fit {memory[0]:.0f} MiB, plain {memory[1]:.0f}: {memory[0] / memory[1]:.3f}"
    )
    print(runs.load())
    return int(median(ratios) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
