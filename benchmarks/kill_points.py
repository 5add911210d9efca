"""Kill a training with `kill -9` at random moments, resume it, and compare every bit.

    python benchmarks/kill_points.py [--points 50] [--seed 0]

Each point is a training by the real command line in its own process, killed after a random share of
the uninterrupted time (repeated and killed earlier if it had ended by then; every third one is
killed a second time while it is resumed), and started again with the same command plus `--ckpt_path
last` until it ends. Its weights, optimizer, schedule, averaged weights, best checkpoint and
metrics.csv are then compared with those of an uninterrupted training. It has OneCycleLR,
accumulation, dropout, augmentation, EMA, two loader processes, validations within the epoch and a
checkpoint every second step. Exits with 1 if anything differs.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import runs
import torch
from rich.console import Console
from rich.progress import track

import mtl_lightning.commands.trainer  # imported once, before processes are forked
from mtl_lightning.__main__ import main as command

CONFIG = """
seed_everything: 3
tasks:
  digit: {class_path: Classification, init_args: {class_weights: balanced}}
  parity: {class_path: Classification}
  ink: {class_path: Regression}
model:
  backbone: {class_path: Torchvision, init_args: {name: squeezenet1_1, weights: null}}
  dropout: 0.3
  lr_scheduler: {class_path: torch.optim.lr_scheduler.OneCycleLR, init_args: {max_lr: 1.0e-3}}
data:
  sources:
    digits: {class_path: DigitsSource, init_args: {missing: {digit: 0.5, parity: 0.5, ink: 0.5}}}
  image_size: 32
  batch_size: 8
  num_workers: 2
checkpoint: {every_n_train_steps: 2}
trainer:
  max_epochs: 3
  accelerator: cpu
  accumulate_grad_batches: 2
  limit_train_batches: 12
  limit_val_batches: 2
  val_check_interval: 6
  log_every_n_steps: 1
  enable_progress_bar: false
  callbacks: [{class_path: EMA, init_args: {decay: 0.9}}]
"""
RUN = Path("runs/run/version_0")


def started(folder: Path, *flags: str) -> int:
    """Fork a process that trains in ``folder``; return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ.pop("MTL_LIGHTNING_RUN", None)
        status = command(["fit", "--config", "run.yaml", *flags])
    finally:
        os._exit(status)


def ended(child: int, after: float | None = None) -> bool:
    """Wait for a process, or kill it after some seconds; return whether it ended by itself."""
    until = None if after is None else time.monotonic() + after
    while until is None or time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def killed(folder: Path, seconds: float, again: float | None) -> str:
    """Kill a training once or twice and let it finish; return where it was killed."""
    folder.mkdir()
    (folder / "run.yaml").write_text(CONFIG)
    if ended(started(folder), seconds):  # the machine is faster now
        shutil.rmtree(folder)
        return killed(folder, 0.8 * seconds, again)
    last = folder / RUN / "checkpoints" / "last.ckpt"
    where = "before training"
    if last.exists():
        content = torch.load(last, weights_only=True)
        part = list(last.parent.glob(".*.part"))
        where = f"epoch {content['resume']['position']['epoch']}" + (", writing" if part else "")
    if again is not None and last.exists():
        ended(started(folder, "--ckpt_path", "last"), again)
    flags = ("--ckpt_path", "last") if last.exists() else ()
    if not ended(started(folder, *flags)):
        sys.exit(f"a resumed training failed: {(folder / 'log.txt').read_text()[-2000:]}")
    return where


def differences(one: Any, other: Any, where: str) -> Iterator[str]:
    """Yield the places at which two checkpoints differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for number, pair in enumerate(zip_longest(one, other)):
            yield from differences(*pair, f"{where}/{number}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif one != other:
        yield where


def compared(one: Path, other: Path) -> list[str]:
    """Return the differences between two runs."""
    found = []
    newest = sorted((other / "runs" / "run").glob("version_*"))[-1]
    for name in ("last.ckpt", "best.ckpt"):
        pair = [
            torch.load(run / "checkpoints" / name, weights_only=True) for run in (one / RUN, newest)
        ]
        found += list(differences(*pair, name))
    texts = [(run / "metrics.csv").read_text() for run in (one / RUN, newest)]
    return found + (["metrics.csv"] if texts[0] != texts[1] else [])


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    assert mtl_lightning.commands.trainer
    torch.set_num_threads(1)
    draw, console = random.Random(given.seed), Console()
    places: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        (whole / "run.yaml").write_text(CONFIG)
        begun = time.monotonic()
        if not ended(started(whole)):
            sys.exit((whole / "log.txt").read_text()[-2000:])
        takes = time.monotonic() - begun
        for point in track(range(given.points), console=console):
            folder = Path(name) / str(point)
            again = draw.uniform(0.1, 0.7) * takes if point % 3 == 0 else None
            places[killed(folder, draw.uniform(0.15, 1.0) * takes, again)] += 1
            found = compared(whole, folder)
            if found:
                wrong += 1
                console.print(f"point {point} differs: {found[:5]}", highlight=False)
    for place, number in sorted(places.items()):
        console.print(f"killed {place}: {number}", highlight=False)
    console.print(
        f"{given.points - wrong} of {given.points} are bit-identical to the training of "
        f"{takes:.1f} s that was not killed ({runs.load()})",
        highlight=False,
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
