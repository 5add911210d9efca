"""MultiMNIST of the MGDA paper: two overlaid digits, left and right, and a LeNet.

    python benchmarks/multimnist.py --mnist FOLDER [--epochs 20] [--seeds 0 1 2] [--one-label]
        [--methods single Sum UW MGDA IMTLG CAGrad NashMTL FAMO]

The images are those of `MultiMNISTSource`, 60,000 and 10,000, others for each seed. The network is
the paper's LeNet, with a head for each task. ``--one-label`` keeps one label of each training
image, at random. The output is the accuracy after the last epoch, left and right, and the mean
change against the two single-task networks (`single`) of the same seeds, in percent. NashMTL, which
takes 0.1 s to solve its problem, computes weights every tenth step.

Paper (Sener and Koltun, NeurIPS 2018, table 3): single 97.23 / 95.90, sum 96.46 / 94.99,
MGDA 97.26 / 95.90.
"""

import argparse
import functools
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchjd import aggregation, scalarization

from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.sources import MultiMNISTSource
from mtl_lightning.models import FeatureSpec, Hard, Network
from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.inputs import image_input
from mtl_lightning.models.preprocessing import Normalize
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError

SIDES = ("left", "right")
METHODS: dict[str, Callable[[], Any]] = {
    "Sum": scalarization.Sum,
    "UW": lambda: scalarization.UW(2),
    "MGDA": aggregation.MGDA,
    "IMTLG": aggregation.IMTLG,
    "CAGrad": lambda: aggregation.CAGrad(0.4),
    "NashMTL": lambda: aggregation.NashMTL(2),
    "FAMO": lambda: scalarization.FAMO(2),
}
EVERY = {"NashMTL": 10}
"""Methods that compute weights once in this many steps."""


class LeNet(Backbone):
    """The paper's trunk, to 50 features; it reads one channel of three equal ones."""

    def __init__(self) -> None:
        trunk = nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.Dropout2d(),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(320, 50),
            nn.ReLU(),
        )
        normal = Normalize(mean=[0.1307] * 3, std=[0.3081] * 3)
        super().__init__(trunk, {"all": list(trunk)}, None, normal, "flatten", None)

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk on one channel: (B, 3, 28, 28) to (B, 50, 1, 1)."""
        maps: Tensor = self.trunk(images[:, :1])
        return maps[:, :, None, None]

    def named_weights(self, name: str) -> NamedWeights:
        """Raise an error: there are none."""
        raise UserError(f"the LeNet has no weights called {name}")


def network(tasks: tuple[str, ...]) -> Network:
    """Return the LeNet with the paper's head for each task: 50, 50, 10."""

    def head(features: FeatureSpec) -> nn.Module:
        layers = nn.Linear(features.pooled, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10)
        return nn.Sequential(*layers)

    return Network(Hard(), LeNet(), dict.fromkeys(tasks, head), image_input((28, 28)))


def train(
    method: Any,
    tasks: tuple[str, ...],
    data: dict[str, Any],
    seed: int,
    options: Any,
    every: int = 1,
) -> dict[str, float]:
    """Train on some sides and return their accuracies on the test images, in percent."""
    torch.manual_seed(seed)
    net = network(tasks)
    balancer = None if method is None else make_balancer(method, tasks, every_n_steps=every)
    learned: list[nn.Parameter] = []
    if balancer is not None:
        balancer.begin(torch.device("cpu"), torch.float32)
        learned = [p for own in balancer.method.parameters().values() for p in own]
    optimizer = torch.optim.Adam([*net.parameters(), *learned], lr=1e-3)
    images, labels, known = data["images"], data["labels"], data["known"]
    number = 0
    for epoch in range(options.epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 + epoch))
        net.train()
        for rows in order.split(options.batch):
            labelled = {task: known[task][rows] for task in tasks}
            batch = Batch(
                inputs={"image": images[rows]},
                targets={task: labels[task][rows] for task in tasks},
                labelled=labelled,
                rows=rows,
                counts={task: int(mask.sum()) for task, mask in labelled.items()},
                step_rows=len(rows),
                parts=1,
            )
            optimizer.zero_grad()
            step(net, balancer, batch, number)
            for task in tasks:
                if not batch.counts[task]:
                    for parameter in net.own_parameters(task):
                        parameter.grad = None
            optimizer.step()
            if balancer is not None:
                with torch.no_grad():
                    evaluate = functools.partial(reevaluate, net, batch)
                    balancer.after_update(evaluate, batch.counts)
            number += 1
        if balancer is not None:
            balancer.method.epoch_end({})
    return accuracies(net, tasks, data)


def losses_of(outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the mean loss of each task over its labelled rows."""
    found = {}
    for task, output in outputs.items():
        losses = F.cross_entropy(output, batch.targets[task], reduction="none")
        kept = torch.where(batch.labelled[task], losses, 0.0).sum()
        found[task] = kept / max(batch.counts[task], 1)
    return found


def reevaluate(net: Network, batch: Batch) -> dict[str, Tensor]:
    """Return the current losses of a batch."""
    return losses_of(net(batch.inputs), batch)


def step(net: Network, balancer: Any, batch: Batch, number: int) -> None:
    """Fill the gradients."""
    if balancer is None:
        torch.stack(list(losses_of(net(batch.inputs), batch).values())).sum().backward()
        return
    losses = losses_of(balancer.forward(net, batch, number), batch)
    balancer.backward(balancer.loss(losses, batch.counts, number), 1.0)


@torch.no_grad()
def accuracies(net: Network, tasks: tuple[str, ...], data: dict[str, Any]) -> dict[str, float]:
    """Return the accuracy of each task on the test images, in percent."""
    net.eval()
    right = dict.fromkeys(tasks, 0)
    for rows in torch.arange(len(data["test_images"])).split(1000):
        for task, output in net(data["test_images"][rows]).items():
            right[task] += int((output.argmax(1) == data["test_labels"][task][rows]).sum())
    return {task: 100 * count / len(data["test_images"]) for task, count in right.items()}


def dataset(options: Any, seed: int) -> dict[str, Any]:
    """Return the images of a seed, (n, 3, 28, 28) uint8, and their labels."""
    count = options.limit or 60_000
    source = MultiMNISTSource(
        str(options.mnist), train=count, val=0, test=10_000, seed=seed, one_label=options.one_label
    )
    table = source.read(SIDES)
    found: dict[str, Any] = {}
    for split, prefix in (("train", ""), ("test", "test_")):
        own = table.splits == split
        images = np.stack([source.load(name) for name in table.images[own]])
        found[f"{prefix}images"] = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        cells = {side: table.labels[side][own] for side in SIDES}
        known = {side: np.not_equal(own_cells, None) for side, own_cells in cells.items()}
        found[f"{prefix}labels"] = {
            side: torch.from_numpy(np.where(known[side], own_cells, 0).astype(np.int64))
            for side, own_cells in cells.items()
        }
        found[f"{prefix}known"] = {side: torch.from_numpy(k) for side, k in known.items()}
    return found


def main() -> None:
    """Train everything and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mnist", type=Path, required=True, help="folder of MNIST's four files")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--one-label", action="store_true")
    parser.add_argument("--limit", type=int, help="the number of training images")
    parser.add_argument("--methods", nargs="+", default=["single", *METHODS])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # from solvers
    sets = {seed: dataset(options, seed) for seed in options.seeds}
    print(f"{options.epochs} epochs, seeds {options.seeds}, one label: {options.one_label}")
    base: dict[int, dict[str, float]] = {}
    for name in options.methods:
        begun, rows = time.perf_counter(), []
        for seed in options.seeds:
            if name == "single":
                found = {s: train(None, (s,), sets[seed], seed, options)[s] for s in SIDES}
                base[seed] = found
            else:
                found = train(METHODS[name](), SIDES, sets[seed], seed, options, EVERY.get(name, 1))
            rows.append([*found.values(), change(found, base.get(seed))])
        means, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        print(
            f"{name:<10} left {means[0]:6.2f} ± {spread[0]:.2f}  right {means[1]:6.2f} ± "
            f"{spread[1]:.2f}  change {means[2]:+6.2f} %  {time.perf_counter() - begun:5.0f} s",
            flush=True,
        )


def change(found: dict[str, float], base: dict[str, float] | None) -> float:
    """Return the mean relative change of the accuracies, in percent."""
    if base is None:
        return float("nan")
    return float(np.mean([100 * (found[s] - base[s]) / base[s] for s in SIDES]))


if __name__ == "__main__":
    main()
