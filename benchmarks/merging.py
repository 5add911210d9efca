"""Merging two tables to a million images: start-up, memory, and the cost of a sampling's step.

    python benchmarks/merging.py [--rows 1000000] [--folder FOLDER]

Two CSV tables with 60 % of the images each: a fifth is in both. In a new process it measures the
work of `fit` on data before training: reading, merging, splitting, encoding, and the first batch's
request; and its memory above that of the imports. Then it measures the time of the step plan for
the request of a batch of 64, with every sampling, relative to a plain step of VGG16 at 64 px and
batch 64 on this machine, alternating. The files are empty, since none is opened. Linux only. Exits
with 1 if a target is missed: 15 s, 1 GiB, 1 % of a step.
"""

import argparse
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import runs
import torch
from pytorch_lightning import Trainer

from mtl_lightning import (
    VGG16,
    Classification,
    PartialLabels,
    TableSource,
)
from mtl_lightning.commands import quiet
from mtl_lightning.data.sampling import (
    AtLeast,
    LabelBalanced,
    Mixed,
    Sampling,
)
from mtl_lightning.models import Hard, HeadOptions, Network, build_head
from mtl_lightning.models.inputs import image_input

MOST_SECONDS, MOST_MIB, MOST_SHARE = 15, 1024, 0.01
FOLDERS = 1000
BATCH = 64
SAMPLINGS: dict[str, Sampling | None] = {
    "each once": None,
    "Mixed": Mixed(temperature=2.0),
    "LabelBalanced": LabelBalanced(strength=1.0),
    "AtLeast": AtLeast(number=8),
}


def write(folder: Path, rows: int) -> None:
    """Write the files and both tables."""
    names = [f"{i % FOLDERS:03}/{i}.jpg" for i in range(rows)]
    for number in range(FOLDERS):
        (folder / f"{number:03}").mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    kinds = ("Dress", "Shirt", "Shoes")
    first, second = names[: rows * 6 // 10], names[rows * 4 // 10 :]
    types = (f"{name},{kinds[i % 3]}\n" for i, name in enumerate(first))
    audiences = (f"{name},{('kids', 'adults')[i % 7 > 0]}\n" for i, name in enumerate(second))
    (folder / "type.csv").write_text("image,type\n" + "".join(types))
    (folder / "audience.csv").write_text("image,audience\n" + "".join(audiences))


def data_of(folder: Path, sampling: Sampling | None = None) -> PartialLabels:
    """Return the data module, set up as by `fit`."""
    data = PartialLabels(
        {"type": Classification(), "audience": Classification()},
        {name: TableSource(str(folder / f"{name}.csv")) for name in ("type", "audience")},
        image_size=64,
        batch_size=BATCH,
        num_workers=0,
        sampling=sampling,
    )
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("fit")
    return data


def start(folder: Path, answer: Connection) -> None:
    """Send the seconds to the first request, and the memory above that of the imports."""
    quiet.quieten()
    before, begun = runs.peak_mib(), time.perf_counter()
    data = data_of(folder)
    data.train_dataloader()
    assert data.train_plan is not None
    next(data.train_plan.requests(0, 0))
    answer.send((time.perf_counter() - begun, runs.peak_mib() - before))


def sampler_steps(folder: Path) -> dict[str, float]:
    """Return the seconds of a request by sampling, including its share of drawing the epoch."""
    found = {}
    for name, sampling in SAMPLINGS.items():
        data = data_of(folder, sampling)
        data.train_dataloader()
        plan = data.train_plan
        assert plan is not None
        each = []
        for epoch in range(3):
            begun = time.perf_counter()
            count = sum(1 for _ in itertools.islice(plan.requests(epoch, 0), len(plan)))
            each.append((time.perf_counter() - begun) / count)
        found[name] = statistics.median(each)
    return found


def step_seconds() -> float:
    """Return the seconds of a plain training step."""
    heads = {
        task: partial(build_head, num_outputs=outputs, options=HeadOptions())
        for task, outputs in (("type", 3), ("audience", 2))
    }
    network = Network(Hard(), VGG16(weights=None), heads, image_input((64, 64)))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    images = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8)
    each = []
    for _ in range(5):
        begun = time.perf_counter()
        optimizer.zero_grad()
        torch.stack(
            [output.square().mean() for output in network({"image": images}).values()]
        ).sum().backward()
        optimizer.step()
        each.append(time.perf_counter() - begun)
    return statistics.median(each[1:])


def main() -> int:
    """Print the figures; return 1 if a target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="kept for the next time")
    options = parser.parse_args()
    quiet.quieten()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "audience.csv").exists():
            write(folder, options.rows)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=start, args=(folder, there))
        process.start()
        seconds, mib = here.recv()
        process.join()
        print(f"{options.rows:,} images of two tables: {seconds:.1f} s, {mib:,.0f} MiB", flush=True)
        step = step_seconds()
        shares = {name: own / step for name, own in sampler_steps(folder).items()}
        print(f"a step of VGG16, 64 px, batch {BATCH}: {step:.2f} s; a request, in % of it:")
        for name, share in shares.items():
            print(f"  {name:<14}{100 * share:>8.3f} %")
    missed = seconds > MOST_SECONDS or mib > MOST_MIB or max(shares.values()) > MOST_SHARE
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
