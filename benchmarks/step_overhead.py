"""Overhead of a training step of `fit` over a bare PyTorch loop with the same network.

    python benchmarks/step_overhead.py [--precision bf16-mixed] [--accelerator gpu] [--profile 10]

One process holds both: `fit` (MultiTask, PartialLabels and Trainer, with the loggers of the
command line) and a plain loop (same network, AdamW, a masked cross-entropy per task; no metrics,
no logs). They take turns of ten steps on the same prebuilt batches, so no data loading is measured
on either side. Everything that `fit` does between the start of one step and the start of the next
is counted. After the first turn, the weights of both must agree to rounding, so that both do the
same work. The output is medians over turns; the median, minimum and maximum of the ratios of
neighbouring turns; and the ratio of the two fastest turns.

If other programs run on the machine: `--threads 1 --clock cpu` counts CPU time of one thread, which
they disturb least. (Two threads that wait for each other and for a third program measure that.)
Exits with 1 if a median ratio is above 1.03.
"""

import argparse
import cProfile
import math
import pstats
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import nn

from mtl_lightning import (
    VGG16,
    Classification,
    MultiTask,
    PartialLabels,
    Source,
)
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.sources.base import SourceTable
from mtl_lightning.models import Hard, HeadOptions, Network
from mtl_lightning.models.inputs import image_input
from mtl_lightning.runs.loggers import EventsLogger, ResumableCSVLogger

TARGET = 1.03
CLASSES = 10
ROUNDING = 0.1
"""Allowed difference of the weights after the first turn, relative to their change in it."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SETTINGS = ((32, 64, 2), (32, 64, 8), (64, 32, 2), (64, 32, 8))
"""Image size, batch size, tasks."""


class Noise(Source):
    """Random images, each with a label for about half of the tasks.

    Args:
        rows: Number of images.
        size: Height and width in pixels.
    """

    def __init__(self, rows: int, size: int) -> None:
        self.rows, self.size = rows, size

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Draw the labels."""
        rng = np.random.default_rng(0)
        # One more row, for val: otherwise it would be taken from train.
        keys = np.array([f"noise:{row}" for row in range(self.rows + 1)], dtype=object)
        labels = {}
        for task in tasks:
            cells = rng.integers(CLASSES, size=len(keys)).astype(str).astype(object)
            cells[rng.random(len(keys)) < 0.5] = None
            labels[task] = cells
        splits = np.array(["train"] * self.rows + ["val"], dtype=object)
        return SourceTable("noise", images=keys, keys=keys, labels=labels, splits=splits)

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Draw an image, always the same for a name."""
        rng = np.random.default_rng(int(image.removeprefix("noise:")))
        return rng.integers(256, size=(self.size, self.size, 3), dtype=np.uint8)


class Built:
    """A loader of prebuilt batches: Lightning would take a list for a list of loaders."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class BuiltBefore(PartialLabels):
    """The real data module with batches built once, before anything is measured."""

    device = torch.device("cpu")

    def train_dataloader(self) -> Built:  # type: ignore[override]
        """Return all batches of the epoch."""
        self.batches = [batch.to(self.device) for batch in super().train_dataloader()]
        return Built(self.batches)


@dataclass
class Bare:
    """The loop that one would write by hand for exactly this task."""

    network: Network
    dtype: torch.dtype | None
    device: torch.device
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.network.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)

    def steps(self, batches: Sequence[Batch]) -> None:
        """Train."""
        for batch in batches:
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                outputs = self.network(batch.inputs)
                total = torch.zeros((), device=self.device)
                for task, logits in outputs.items():
                    losses = F.cross_entropy(logits, batch.targets[task], reduction="none")
                    mask = batch.labelled[task]
                    total = total + (losses * mask).sum() / mask.sum().clamp(min=1)
            total.backward()
            self.optimizer.step()


class TakeTurns(Callback):
    """Runs the bare loop after each block of `fit`'s steps, and times both.

    Args:
        bare: The bare loop.
        batches: Data module whose batches both train on.
        block: Number of steps per turn.
        clock: Returns seconds.
        profile: A profile of `fit`'s steps, or None.
    """

    def __init__(
        self,
        bare: Bare,
        data: BuiltBefore,
        block: int,
        clock: Callable[[], float],
        profile: cProfile.Profile | None,
    ) -> None:
        self.bare, self.data, self.block, self.profile = bare, data, block, profile
        self.clock = clock
        self.before = [p.detach().cpu().clone() for p in bare.network.parameters()]
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.start = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note the time after a block, and let the other one run."""
        done, block = batch_idx + 1, self.block
        if done % block:
            return
        if self.profile is not None:
            self.profile.disable()
        middle = self._now()
        self.bare.steps(self.data.batches[done - block : done])
        end = self._now()
        if done == block:
            apart = _apart(self.before, pl_module.network, self.bare.network)
            if apart > ROUNDING:
                sys.exit(f"`fit` and the bare loop train differently: apart by {apart:.2g}")
        else:  # the first block warms up
            self.ours.append((middle - self.start) / block)
            self.theirs.append((end - middle) / block)
        if self.profile is not None:
            self.profile.enable()
        self.start = self._now()

    def _now(self) -> float:
        if self.bare.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()


def measure(
    setting: tuple[int, int, int], given: argparse.Namespace
) -> tuple[list[float], list[float], cProfile.Profile | None]:
    """Return seconds per step of each block: `fit`, bare loop; and the profile of `fit`."""
    size, batch_size, num_tasks = setting
    device = torch.device("cuda" if given.accelerator == "gpu" else "cpu")
    names = [str(number) for number in range(CLASSES)]
    tasks = {f"task{number}": Classification(names) for number in range(num_tasks)}
    data = BuiltBefore(
        dict(tasks),
        {"noise": Noise(batch_size * given.block * (given.blocks + 1), size)},
        image_size=size,
        batch_size=batch_size,
        num_workers=0,
        augmentation="none",
    )
    data.device = device
    # Without dropout both train alike; they would draw its random numbers alternately.
    torch.manual_seed(0)
    module = MultiTask(dict(tasks), VGG16(weights=None), dropout=0.0, image_size=size)
    network = Network(
        Hard(),
        VGG16(weights=None),
        {name: partial(task.head, defaults=HeadOptions()) for name, task in tasks.items()},
        image_input((size, size)),
    )
    network.load_state_dict(module.network.state_dict())
    dtype = torch.bfloat16 if given.precision == "bf16-mixed" else None
    profile = cProfile.Profile() if given.profile else None
    turns = TakeTurns(Bare(network, dtype, device), data, given.block, CLOCKS[given.clock], profile)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_epochs=1,
            accelerator=given.accelerator,
            devices=1,
            precision=given.precision,
            # As set by the command line.
            logger=[
                ResumableCSVLogger(folder, "csv", "0"),
                EventsLogger(folder, "events", "0", default_hp_metric=False),
            ],
            callbacks=[turns],
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            log_every_n_steps=10,
        ).fit(module, data)
    if profile is not None:
        profile.disable()
    return turns.ours, turns.theirs, profile


def _apart(start: Sequence[torch.Tensor], ours: nn.Module, theirs: nn.Module) -> float:
    """Return the difference of the two, relative to their change since the start."""
    ends = zip(start, ours.parameters(), theirs.parameters(), strict=True)
    apart = went = 0.0
    for before, a, b in ends:
        one, other = a.detach().cpu(), b.detach().cpu()
        apart += (one - other).square().sum().item()
        went += (one - before).square().sum().item()
    return math.sqrt(apart / went)


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=6, help="number of measured turns")
    parser.add_argument("--block", type=int, default=10, help="steps per turn")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--only", type=int, help="the number of one setting, from 0")
    parser.add_argument(
        "--profile", type=int, default=0, help="print the N most expensive functions"
    )
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    quieten()
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    table = Table("image", "batch", "tasks", "fit ms", "bare ms", "ratio", "of the fastest", "all")
    worst = 0.0
    for setting in SETTINGS if given.only is None else [SETTINGS[given.only]]:
        ours, theirs, profile = measure(setting, given)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        worst = max(worst, median(ratios))
        size, batch_size, tasks = setting
        table.add_row(
            f"{size} px",
            str(batch_size),
            str(tasks),
            f"{1e3 * median(ours):.1f}",
            f"{1e3 * median(theirs):.1f}",
            f"{median(ratios):.3f}",
            f"{min(ours) / min(theirs):.3f}",
            f"{min(ratios):.2f} .. {max(ratios):.2f}",
        )
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(given.profile)
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{given.accelerator}, {given.precision}, {torch.get_num_threads()} threads, "
        f"{given.clock} clock; worst ratio {worst:.3f} (target: at most {TARGET})"
    )
    return int(worst > TARGET)


if __name__ == "__main__":
    sys.exit(main())
