"""What balancing costs: seconds and memory of a training step over those of a plain step.

    python benchmarks/balancing_cost.py [--tasks 2 8 40] [--labels one all] [--size 64]
        [--batch 64] [--repeat 3] [--device cpu] [--bf16]

VGG16 with a head of 10 classes for each task, SGD. These are compared in one process, in turn, so
that a busy machine slows all of them down:

- plain: the sum of the losses, one backward pass;
- ours with ``gradients: parameters`` and ``features``, and MGDA;
- TorchJD's own ``mtl_backward`` and ``jac_to_grad`` with MGDA, as in its documentation;
- one backward pass per task (``autograd.grad``), with the same weights.

Memory is the peak of a process of its own, torch included, and then, as a multiple of a plain
step, the peak without the K gradients of the shared weights that exact methods hold at the end. (If
the peak comes earlier, this is too small.)
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import runs
import torch
from torch import Tensor
from torchjd.aggregation import MGDA
from torchjd.autojac import jac_to_grad, mtl_backward

from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import VGG16, Hard, HeadOptions, Network
from mtl_lightning.models.inputs import image_input
from mtl_lightning.tasks import Classification, Task

Step = Callable[[], None]
VARIANTS = ("plain", "parameters", "features", "TorchJD", "one by one")


class Bench:
    """One network, one batch, and a step with each of the variants.

    Args:
        tasks: The number of tasks.
        labels: ``one`` label per image, or ``all``.
        size: Height and width of the images.
        batch: The number of images in a step.
        device: The device to compute on.
        bf16: Whether the forward pass is under autocast to bfloat16.
    """

    def __init__(
        self, tasks: int, labels: str, size: int, batch: int, device: str, bf16: bool
    ) -> None:
        torch.manual_seed(0)
        self.names = [f"t{number}" for number in range(tasks)]
        self.device, self.bf16 = device, bf16
        self.tasks: dict[str, Task] = {
            n: Classification([str(i) for i in range(10)]) for n in self.names
        }
        self.network = Network(
            Hard(),
            VGG16(weights=None),
            {n: partial(task.head, defaults=HeadOptions()) for n, task in self.tasks.items()},
            image_input((size, size)),
        ).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-4)
        rows = torch.arange(batch)
        labelled = {
            name: rows % tasks == number if labels == "one" else torch.ones(batch, dtype=torch.bool)
            for number, name in enumerate(self.names)
        }
        self.batch = Batch(
            inputs={"image": torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)},
            targets={n: torch.randint(0, 10, (batch,)) for n in self.names},
            labelled=labelled,
            rows=rows,
            counts={n: int(mask.sum()) for n, mask in labelled.items()},
            step_rows=batch,
            parts=1,
        ).to(device)
        self.balancers = {
            wrt: make_balancer(MGDA(), self.names, wrt) for wrt in ("parameters", "features")
        }
        for balancer in self.balancers.values():
            balancer.begin(torch.device(device), torch.float32)

    def losses(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each task's loss."""
        batch = self.batch
        return {
            name: task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
            / max(batch.counts[name], 1)
            for name, task in self.tasks.items()
        }

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Autocast to bfloat16 if the user wants it."""
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
            yield

    def step(self, variant: str) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        {
            "plain": self._plain,
            "TorchJD": self._torchjd,
            "one by one": self._one_by_one,
        }.get(variant, lambda: self._ours(variant))()
        self.optimizer.step()
        if self.device != "cpu":
            torch.get_device_module(self.device).synchronize()

    def _plain(self) -> None:
        with self.precision():
            losses = self.losses(self.network(self.batch.inputs))
        torch.stack(list(losses.values())).sum().backward()

    def _ours(self, variant: str) -> None:
        balancer = self.balancers[variant]
        with self.precision():
            losses = self.losses(balancer.forward(self.network, self.batch, 0))
        balancer.backward(balancer.loss(losses, self.batch.counts, 0), 1.0)

    def _torchjd(self) -> None:
        with self.precision():
            features = self.network.sharing(self.batch.inputs)[self.names[0]]["pooled"]
            outputs = {n: head(features) for n, head in self.network.heads.items()}
            losses = self.losses(outputs)
        mtl_backward(list(losses.values()), features=features)
        jac_to_grad(self.network.sharing.parameters(), MGDA(), optimize_gramian_computation=True)

    def _one_by_one(self) -> None:
        with self.precision():
            losses = self.losses(self.network(self.batch.inputs))
        own = list(self.network.parameters())
        shared = list(self.network.sharing.parameters())
        rows = [
            torch.autograd.grad(
                loss, own, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            for loss in losses.values()
        ]
        gramian = sum(
            (matrix := torch.stack([row[i].flatten() for row in rows])) @ matrix.T
            for i in range(len(shared))
        )
        weights = MGDA().gramian_weighting(gramian)
        for i, parameter in enumerate(own):
            scale = weights if i < len(shared) else torch.ones_like(weights)
            parameter.grad = sum(w * row[i] for w, row in zip(scale, rows, strict=True))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 8, 40])
    parser.add_argument("--labels", nargs="+", choices=("one", "all"), default=["one", "all"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        bench = Bench(
            options.tasks[0], options.labels[0], options.size, options.batch, "cpu", False
        )
        for _ in range(2):
            bench.step(options.memory_of)
        print(runs.peak_mib())
        return
    print(
        f"VGG16, {options.size} px, batch {options.batch}, {options.device}, MGDA; x a plain step"
    )
    for tasks in options.tasks:
        for labels in options.labels:
            compare(tasks, labels, options)


def compare(tasks: int, labels: str, options: argparse.Namespace) -> None:
    """Time the variants in turn, and print the cost of each."""
    bench = Bench(tasks, labels, options.size, options.batch, options.device, options.bf16)
    seconds: dict[str, list[float]] = {variant: [] for variant in options.variants}
    for number in range(options.repeat + 1):
        for variant in options.variants:
            begun = time.perf_counter()
            bench.step(variant)
            if number:  # the first also allocates memory and probes the backbone
                seconds[variant].append(time.perf_counter() - begun)
    gradient = sum(p.nbytes for p in bench.network.sharing.parameters()) / 2**20
    del bench
    plain = seconds.get("plain") or [float("nan")]
    print(f"K = {tasks}, {labels} label(s) per image: plain {statistics.median(plain):.2f} s")
    base = _memory("plain", tasks, labels, options) if options.device == "cpu" else 0.0
    for variant, each in seconds.items():
        ratios = [one / its for one, its in zip(each, plain, strict=True)]
        row = f"  {variant:<12}{statistics.median(ratios):>6.2f} x"
        if options.device == "cpu":
            peak = base if variant == "plain" else _memory(variant, tasks, labels, options)
            more = 0.0 if variant in ("plain", "features") else tasks * gradient
            row += f"{peak:>9,.0f} MiB{(peak - more) / base:>7.2f} x without K gradients"
        print(row, flush=True)


def _memory(variant: str, tasks: int, labels: str, options: argparse.Namespace) -> float:
    sizes = ["--size", str(options.size), "--batch", str(options.batch)]
    which = ["--tasks", str(tasks), "--labels", labels, "--memory-of", variant]
    command = [sys.executable, __file__, *sizes, *which]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


if __name__ == "__main__":
    main()
