"""An ordered label as `Ordinal`, `Classification` and `Regression`: skin tones of emoji.

    python benchmarks/ordinal.py [--seeds 1 2 3] [--test]

Emoji of ../shared (64 px) in five skin tones from light to dark. A sixth answer of the table,
`default`, is yellow: no step of that order, so its pictures are left out, as unlabelled ones are.
A frozen SqueezeNet (ImageNet weights) gives the features (the mean of its last map), and
each kind of task trains the same head on them: dropout, 128 hidden units, AdamW, OneCycle, batches
of 64, 20 epochs. The learning rate is chosen for each on val, by its mean absolute error in ranks
over the seeds; with --test, the chosen ones are then measured on test, once. `Regression`
learns the ranks 0 to 4 as numbers, and answers with the nearest one.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import runs
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from mtl_lightning.data.images import decode
from mtl_lightning.models import HeadOptions, Torchvision
from mtl_lightning.models.features import POOLED, FeatureSpec
from mtl_lightning.models.inputs import IMAGE, image_input
from mtl_lightning.tasks import Classification, Ordinal, Regression, Task

TONES = ["light", "medium-light", "medium", "medium-dark", "dark"]
FILE = runs.SHARED / "weights/squeezenet1_1-imagenet-features.safetensors"
EMOJI = runs.SHARED / "data/emoji"
RATES = (1e-3, 3e-3, 1e-2)
EPOCHS = 20
BATCH, SIZE = 64, 64
KINDS: dict[str, Callable[[], Task]] = {
    "Ordinal, corn": lambda: Ordinal(TONES),
    "Ordinal, coral": lambda: Ordinal(TONES, method="coral"),
    "Ordinal, squared": lambda: Ordinal(TONES, method="squared"),
    "Classification": lambda: Classification(TONES),
    "Regression, mse": lambda: Regression(loss="mse"),
    "Regression, l1": lambda: Regression(loss="l1"),
}


@dataclass
class Split:
    """Features (N, C), and ranks (N,)."""

    features: Tensor
    ranks: NDArray[np.int64]


def load(table: pd.DataFrame, network: Torchvision, split: str) -> Split:
    """Compute the features of the images of a split."""
    rows = table[table["split"] == split]
    images = np.stack([decode(str(EMOJI / name)) for name in rows["image"]])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = [network({IMAGE: some})[POOLED] for some in pixels.split(BATCH)]
    return Split(torch.cat(found), np.array([TONES.index(tone) for tone in rows["skin"]]))


class Model:
    """A task and its head, trained on features.

    Args:
        kind: One of `KINDS`.
        features: The features that the head reads.
        train: The training split.
        rate: The highest learning rate.
        seed: The seed of the weights and of the order.
    """

    def __init__(
        self, kind: str, features: FeatureSpec, train: Split, rate: float, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.task = KINDS[kind]()
        numbers = isinstance(self.task, Regression)
        names = [str(rank) if numbers else TONES[rank] for rank in train.ranks]
        encoded = self.task.encode(np.array(names, dtype=object))
        targets = torch.from_numpy(encoded.targets)
        self.task.fit_statistics(targets, torch.from_numpy(encoded.labelled))
        options = HeadOptions(dropout=0.3, hidden=128)
        self.head = self.task.head(features, options)
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=rate)
        steps = EPOCHS * -(-len(targets) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(targets)).split(BATCH):
                loss = self.task.loss(self.head(train.features[rows]), targets[rows]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.head.eval()

    def answers(self, split: Split) -> NDArray[np.int64]:
        """Return the rank of each image of a split."""
        with torch.no_grad():
            found = self.task.predict(self.head(split.features))
        if "value" in found:
            return found["value"].round().clamp(0, len(TONES) - 1).long().numpy()
        chosen = found["rank"] if "rank" in found else found["probabilities"].argmax(1)
        return chosen.numpy()


def measured(split: Split, answers: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return the mean absolute error in ranks, quadratic-weighted kappa, and accuracy."""
    return (
        float(np.abs(answers - split.ranks).mean()),
        float(cohen_kappa_score(split.ranks, answers, weights="quadratic")),
        float((answers == split.ranks).mean()),
    )


def main() -> None:
    """Choose on val, and print; measure on test if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--test", action="store_true", help="measure the chosen ones on test")
    given = parser.parse_args()
    runs.skip_without([FILE, EMOJI])
    torch.set_num_threads(1)  # the heads are small
    table = pd.read_csv(EMOJI / "all.csv", keep_default_na=False)
    table = table[table["skin"].isin(TONES)]
    network = Torchvision("squeezenet1_1", str(FILE), preprocessing="caffe", pooling="avg")
    network.load_pretrained()
    network.eval()
    features = network.describe(image_input((SIZE, SIZE)))
    network.provide([POOLED])
    splits = {split: load(table, network, split) for split in ("train", "val", "test")}
    print({split: len(own.ranks) for split, own in splits.items()}, "pictures")
    print(f"{'':<18}{'rate':>8}   split      MAE (sd)     kappa (sd)  accuracy (sd)")
    for kind in KINDS:
        grid = {}
        for rate in RATES:
            models = [Model(kind, features, splits["train"], rate, seed) for seed in given.seeds]
            val = [measured(splits["val"], model.answers(splits["val"])) for model in models]
            grid[rate] = np.array(val), models
        rate = min(grid, key=lambda chosen: grid[chosen][0][:, 0].mean())
        val, models = grid[rate]
        found = {"val": val}
        if given.test:
            test = splits["test"]
            found["test"] = np.array([measured(test, model.answers(test)) for model in models])
        for split, values in found.items():
            pairs = zip(values.mean(0), values.std(0), strict=True)
            cells = "".join(f"{mean:>8.4f} ({sd:.4f})" for mean, sd in pairs)
            print(f"{kind:<18}{rate:>8g}   {split:<5}{cells}", flush=True)


if __name__ == "__main__":
    main()
