"""Digits with most labels missing: labels alone, self-training, and all labels.

    python benchmarks/self_training.py [--seeds 1 2 3] [--missing 0.9] [--steps 240]

The scans of scikit-learn (quickstart), three tasks, and a ResNet-18 from random weights at 32 px.
Each task's labels are hidden at random with the share ``missing``; images keep what is left, and
many carry no label at all. All three train for the same number of steps, and average their weights
(EMA), so that the difference is neither that of longer training nor of averaging. The output is the
primary metric of each task on val after the last step, the mean over seeds with the smallest and
largest, and the time of a step relative to labels alone.
"""

import argparse
import tempfile
import time

import numpy as np
from pytorch_lightning import Trainer, seed_everything
from torch.optim import AdamW

from mtl_lightning.callbacks import EMA
from mtl_lightning.commands import quiet
from mtl_lightning.data import DigitsSource
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Torchvision
from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.training.module import MultiTask
from mtl_lightning.unlabelled import SelfTraining

NAMES = ("digit", "parity", "ink")


def train(seed: int, missing: float, steps: int, guesses: bool) -> tuple[list[float], float]:
    """Return each task's primary metric on val, and the seconds of the training."""
    seed_everything(seed, verbose=False)
    tasks = {"digit": Classification(), "parity": Classification(), "ink": Regression()}
    source = DigitsSource(missing=dict.fromkeys(NAMES, missing), seed=seed)
    data = PartialLabels(
        tasks,
        {"digits": source},
        image_size=32,
        batch_size=64,
        num_workers=0,
        augmentation="none",
        cache="memory",
    )
    data.labels.infer_classes()
    module = MultiTask(
        tasks,
        Torchvision("resnet18", weights=None),
        dropout=0.0,
        image_size=32,
        optimizer=lambda parameters: AdamW(parameters, lr=1e-3),
        unlabelled=SelfTraining() if guesses else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            max_steps=steps,
            limit_val_batches=0,
            callbacks=[EMA(decay=0.99)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        start = time.perf_counter()
        trainer.fit(module, datamodule=data)
        seconds = time.perf_counter() - start
        trainer.limit_val_batches = 1.0
        trainer.validate(module, datamodule=data, verbose=False)
    values = trainer.callback_metrics
    return [float(values[f"val/{name}/{tasks[name].primary}"]) for name in NAMES], seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--missing", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=240)
    options = parser.parse_args()
    quiet.quieten()
    arms = {
        "labels alone": (options.missing, False),
        "self-training": (options.missing, True),
        "all labels": (0.0, False),
    }
    base = 0.0
    print(f"{'':<14}" + "".join(f"{name:>24}" for name in NAMES) + f"{'mean':>8}{'time':>7}")
    for arm, (missing, guesses) in arms.items():
        runs = [train(seed, missing, options.steps, guesses) for seed in options.seeds]
        found = np.array([values for values, _ in runs])
        seconds = sum(own for _, own in runs)
        base = base or seconds
        cells = [f"{c.mean():.3f} ({c.min():.3f}..{c.max():.3f})" for c in found.T]
        print(
            f"{arm:<14}" + "".join(f"{cell:>24}" for cell in cells),
            f"{found.mean():>7.3f}{seconds / base:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
