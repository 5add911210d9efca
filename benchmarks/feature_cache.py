"""Training heads on a frozen VGG16 with `data.cache_features` and without it.

    python benchmarks/feature_cache.py [--epochs 10] [--images 1024] [--size 64] [--batch 32]

Both are complete trainings on the same data, one after the other in one process: loading, the
network, AdamW, a validation after each epoch. The weights are random, which does not affect the
time. The output is the seconds, their ratio, and the largest difference between the trained head
weights, relative to the largest of each tensor.
"""

import argparse
import tempfile
import time

import numpy as np
import torch
from pytorch_lightning import Trainer, seed_everything

from mtl_lightning.commands import quiet
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import Source, SourceTable
from mtl_lightning.models import VGG16
from mtl_lightning.tasks import Classification
from mtl_lightning.training.module import MultiTask


class Noise(Source):
    """Noise images in a colour that depends on the class, each labelled for one of two tasks."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def read(self, tasks: object) -> SourceTable:
        """Return the table."""
        keys = np.array([f"noise:{i}" for i in range(self.count)], dtype=object)
        labels = {
            task: np.array(
                [str(i // 2 % 3) if i % 2 == own else None for i in range(self.count)], dtype=object
            )
            for own, task in enumerate(("one", "other"))
        }
        splits = np.array(["val" if i % 8 > 5 else "train" for i in range(self.count)])
        return SourceTable("noise", keys, keys, labels, splits.astype(object))

    def load(self, image: str) -> np.ndarray:
        """Return an image."""
        number = int(image.split(":")[1])
        shape = (self.size, self.size, 3)
        pixels = np.random.default_rng(number).integers(0, 128, shape, dtype=np.uint8)
        pixels[..., number // 2 % 3] += 100
        return pixels


def train(options: argparse.Namespace, views: int | None) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the seconds of a training and the heads' weights after it."""
    seed_everything(0, verbose=False)
    tasks = {name: Classification(["0", "1", "2"]) for name in ("one", "other")}
    data = PartialLabels(
        tasks,
        {"noise": Noise(options.images, options.size)},
        image_size=options.size,
        batch_size=options.batch,
        num_workers=1,
        augmentation="none",
        cache_features=views,
    )
    module = MultiTask(
        tasks, VGG16(weights=None, trainable_from="heads"), image_size=options.size, dropout=0.5
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=options.epochs,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        begun = time.perf_counter()
        trainer.fit(module, data)
        return time.perf_counter() - begun, dict(module.network.heads.state_dict())


def main() -> None:
    """Print seconds and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    quiet.quieten()
    cached, heads = train(options, 1)
    plain, plain_heads = train(options, None)
    apart = max(
        float((heads[name] - own).abs().max() / own.abs().max())
        for name, own in plain_heads.items()
    )
    print(f"VGG16, {options.size} px, {options.images} images, {options.epochs} epochs")
    print(f"without {plain:.1f} s, with {cached:.1f} s: {plain / cached:.1f} x")
    print(f"largest difference of a head's weight: {apart:.1e}")


if __name__ == "__main__":
    main()
