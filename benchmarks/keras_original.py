"""Images per second of the original recipe in Keras 3 (torch backend) and of ours, on a CPU.

    pip install keras
    python benchmarks/keras_original.py [--threads 1 --clock cpu] [--blocks 5] [--block 2]

The original: VGG16 without its top, max pooling, dropout, eight softmax heads, Adam, zero-filled
one-hot labels, one label per image. 64 px, batches of 32. Ours: the same network, MultiTask and
Trainer, with the loggers of the command line, in float32 and with ``precision: bf16-mixed``.

For each of our precisions, `fit` and the original alternate on the same batches, all in one
process. Batches are built before anything is measured; the original also gets its images already
preprocessed and its labels already one-hot, while ours preprocesses in the network and measures its
metrics, which the original does not have. Before they start, both get the same weights, and their
losses (without dropout) must agree to 1e-5.

The original is timed in three ways: with the defaults of Keras (``channels_last``, float32), with
its ``channels_first``, and with its policy ``mixed_bfloat16``, which a user could set. The target
is twice the first one's images/s, for ours in bf16: exits with 1 if it is missed. "ratio" is the
median of the ratios of neighbouring turns.

If other programs run on the machine: ``--threads 1 --clock cpu`` counts CPU time of one thread,
which they disturb least.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import runs
import torch
from noise import built_before, tasks_of
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from step_overhead import CLOCKS, BuiltBefore
from torch import nn

from mtl_lightning import VGG16, MultiTask
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Network
from mtl_lightning.runs.loggers import EventsLogger, ResumableCSVLogger

TARGET = 2.0
SIZE, BATCH_SIZE = 64, 32
CLASSES = {f"task{i}": n for i, n in enumerate((5, 5, 5, 10, 9, 6, 6, 8))}
ADAM = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-7}
"""Learning rate of both; betas and eps are those of Keras."""

DEFAULT = "channels_last"
ORIGINALS = {
    DEFAULT: ("channels_last", "float32"),
    "channels_first": ("channels_first", "float32"),
    "mixed_bfloat16": ("channels_last", "mixed_bfloat16"),
}
"""Title to Keras' image data format and dtype policy."""


def import_keras() -> Any:
    """Import Keras on torch and the CPU, whatever the user's settings are.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    os.environ |= {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu"}
    import keras

    return keras


def original(
    classes: Mapping[str, int],
    size: int,
    dropout: float,
    data_format: str = "channels_last",
    policy: str = "float32",
) -> Any:
    """Build the original as a Keras model, not compiled.

    Args:
        classes: Task to the number of its classes.
        size: Height and width of the preprocessed images in pixels.
        dropout: Share of the features that is dropped while training.
        data_format: ``channels_last``, the default of Keras, or ``channels_first``.
        policy: ``float32``, the default of Keras, or ``mixed_bfloat16``.
    """
    keras = import_keras()
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
    shape = (size, size, 3) if data_format == "channels_last" else (3, size, size)
    trunk = keras.applications.VGG16(
        include_top=False, weights=None, pooling="max", input_shape=shape
    )
    features = keras.layers.Dropout(dropout)(trunk.output)
    # In float32 under every policy, as Keras' guide to mixed precision recommends for a softmax.
    heads = [
        keras.layers.Dense(n, activation="softmax", dtype="float32", name=name)(features)
        for name, n in classes.items()
    ]
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    return keras.Model(trunk.input, heads)


def copy_weights(model: Any, network: Network) -> None:
    """Give our network the weights of the original."""
    layers = [layer for layer in model.layers if layer.weights]
    ours = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, module in zip(layers, ours, strict=True):
        kernel, bias = (weights.value for weights in layer.weights)  # torch tensors
        # From (height, width, in, out), or (in, out).
        order = (3, 2, 0, 1) if isinstance(module, nn.Conv2d) else (1, 0)
        with torch.no_grad():
            module.weight.copy_(kernel.permute(order))
            module.bias.copy_(bias)


def inputs_of(batch: Batch, data_format: str = "channels_last") -> np.ndarray:
    """Return the images for the original, preprocessed by Keras."""
    images = batch.inputs["image"].permute(0, 2, 3, 1).numpy().astype("float32")
    images = import_keras().applications.vgg16.preprocess_input(images, data_format="channels_last")
    order = (0, 1, 2, 3) if data_format == "channels_last" else (0, 3, 1, 2)
    return np.ascontiguousarray(images.transpose(order))


def zero_filled(batch: Batch, classes: Mapping[str, int]) -> list[np.ndarray]:
    """Return one-hot labels (B, classes) of each task, all 0 in rows without a label."""
    return [
        (np.eye(n)[batch.targets[task]] * batch.labelled[task].numpy()[:, None]).astype("float32")
        for task, n in classes.items()
    ]


class Originals:
    """The Keras models, and the batches in the format of each.

    Args:
        names: Keys of `ORIGINALS`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        keras = import_keras()
        optimizer = {"learning_rate": ADAM["lr"], "epsilon": ADAM["eps"]}
        self.models = {name: original(CLASSES, SIZE, 0.5, *ORIGINALS[name]) for name in names}
        for model in self.models.values():
            model.compile(
                optimizer=keras.optimizers.Adam(**optimizer),
                loss=["categorical_crossentropy"] * len(CLASSES),
            )

    def start(self, batches: Sequence[Batch]) -> None:
        """Prepare the data."""
        labels = [zero_filled(batch, CLASSES) for batch in batches]
        self.data = {
            name: [
                (inputs_of(batch, ORIGINALS[name][0]), label)
                for batch, label in zip(batches, labels, strict=True)
            ]
            for name in self.models
        }

    def steps(self, name: str, numbers: range) -> None:
        """Train one model on these batches."""
        for number in numbers:
            self.models[name].train_on_batch(*self.data[name][number])


class TakeTurns(Callback):
    """Trains the originals after each block of `fit`'s steps, and times all.

    Args:
        originals: The Keras models.
        data: Data module whose batches all train on.
        block: Number of steps per turn.
        clock: Returns seconds.
    """

    def __init__(
        self, originals: Originals, data: BuiltBefore, block: int, clock: Callable[[], float]
    ) -> None:
        self.originals, self.data, self.block, self.clock = originals, data, block, clock
        self.ours: list[float] = []
        self.theirs: dict[str, list[float]] = {name: [] for name in originals.models}
        self.start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the data of the originals, and check that the losses agree."""
        self.originals.start(self.data.batches)
        model = next(iter(self.originals.models.values()))
        copy_weights(model, pl_module.network)
        apart = difference(model, pl_module, self.data.batches[0])
        if apart > 1e-5:
            sys.exit(f"the losses differ by {apart:.1e} of the original's with equal weights")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note the time after a block, and let the others run."""
        done, block = batch_idx + 1, self.block
        if done % block:
            return
        times = [self.start, self.clock()]
        for name in self.theirs:
            self.originals.steps(name, range(done - block, done))
            times.append(self.clock())
        if done > block:  # the first block warms up
            taken = (end - start for start, end in itertools.pairwise(times))
            for seconds, each in zip(taken, (self.ours, *self.theirs.values()), strict=True):
                each.append(block * BATCH_SIZE / seconds)
        self.start = self.clock()


def difference(model: Any, module: MultiTask, batch: Batch) -> float:
    """Return the relative difference of the losses with equal weights and without dropout."""
    theirs = model.test_on_batch(inputs_of(batch), zero_filled(batch, CLASSES))[0]
    training = module.training
    module.eval()
    with torch.no_grad():
        outputs = module.network(batch.inputs)
        ours = sum(
            task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
            for name, task in module.tasks.items()
        )
    module.train(training)
    return abs(float(ours) / len(batch) / theirs - 1)


def measure(precision: str, given: argparse.Namespace) -> TakeTurns:
    """Train alternately, with one of our precisions."""
    data = built_before(CLASSES, given.block * (given.blocks + 1), BATCH_SIZE, SIZE, every=False)
    turns = TakeTurns(Originals(given.originals), data, given.block, CLOCKS[given.clock])
    torch.manual_seed(0)
    module = MultiTask(
        dict(tasks_of(CLASSES)),
        VGG16(weights=None, preprocessing="caffe"),
        loss_reduction="batch",
        optimizer=lambda parameters: torch.optim.Adam(parameters, **ADAM),
        image_size=SIZE,
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_epochs=1,
            accelerator="cpu",
            precision=precision,
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
    return turns


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=5, help="number of measured turns")
    parser.add_argument("--block", type=int, default=2, help="steps per turn")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    parser.add_argument("--originals", nargs="+", choices=[*ORIGINALS], default=[*ORIGINALS])
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    quieten()
    try:
        keras = import_keras()
    except ModuleNotFoundError:
        print("skipped: Keras is not installed (pip install keras)")
        return 0
    start, ratio = time.perf_counter(), 0.0
    table = Table("ours", "images/s", "original", "images/s", "ratio", "all")
    for precision in ("32-true", "bf16-mixed"):
        turns = measure(precision, given)
        for name, theirs in turns.theirs.items():
            ratios = [a / b for a, b in zip(turns.ours, theirs, strict=True)]
            if name == DEFAULT:
                ratio = median(ratios)
            table.add_row(
                precision,
                f"{median(turns.ours):.1f}",
                name,
                f"{median(theirs):.1f}",
                f"{median(ratios):.2f}",
                f"{min(ratios):.2f} .. {max(ratios):.2f}",
            )
    console = Console(width=100)
    console.print(table)
    console.print(
        f"Keras {keras.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{given.clock} clock, {time.perf_counter() - start:.0f} s; {runs.load()}"
    )
    console.print(
        f"bf16-mixed against the original with defaults: {ratio:.2f} (target: at least {TARGET})"
    )
    return int(ratio < TARGET)


if __name__ == "__main__":
    sys.exit(main())
