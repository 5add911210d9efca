"""Runs cases on two processes (gloo, CPU), all in one pair of them; a test's other half.

Each case is a function of this module's callers: its dotted name, with keyword arguments, called
on both ranks; what it returns on rank 0 comes back. The pair is kept for the cases of later tests.
"""

import functools
import importlib
import os
import pickle
import socket
import sys
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import Callback

from mtl_lightning.commands.quiet import quieten
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import DecoderOptions, Soft
from mtl_lightning.tasks import (
    Classification,
    DenseRegression,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Regression,
    Segmentation,
    Task,
)
from mtl_lightning.tasks.results import Results
from mtl_lightning.tasks.unobserved import Unobserved
from tests.helpers import forks
from tests.helpers.data import KINDS, Memory, make_tasks, sparse_labels
from tests.helpers.segmentation import png
from tests.helpers.training import fit, make_module, make_trainer, weights

Case = tuple[str, dict[str, Any]]
PATIENCE = 400
"""Seconds that the cases of one call may take."""


class Pair:
    """Two processes that run cases until one of them fails."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.ranks: list[forks.Forked] = []
        self.connections: list[Connection] = []
        for rank in range(2):
            environment = {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
            environment |= {"MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
            with Listener(family="AF_UNIX") as listener:
                name = f"{__name__}._serve"
                self.ranks.append(forks.start(name, listener.address, environment=environment))
                self.connections.append(listener.accept())

    def run(self, cases: list[Case], folder: Path) -> list[Any]:
        """Run the cases in a folder; see `run`."""
        for connection in self.connections:
            connection.send_bytes(pickle.dumps((cases, folder)))
        results: dict[Connection, Any] = {}
        while waiting := [c for c in self.connections if c not in results]:
            ready = wait(waiting, PATIENCE)
            try:
                results |= {c: pickle.loads(c.recv_bytes()) for c in ready}
            except EOFError:  # a rank has ended
                ready = []
            if not ready:
                _pair.cache_clear()
                for rank in self.ranks:
                    rank.kill()
                raise AssertionError("\n".join(r.written()[-10_000:] for r in self.ranks))
        found: list[Any] = results[self.connections[0]]
        return found


@functools.cache
def _pair() -> Pair:
    return Pair()


def run(cases: list[Case], folder: Path) -> list[Any]:
    """Run the cases on two ranks, whose current folder is ``folder``; return those of rank 0."""
    return _pair().run(cases, folder)


def _serve(address: str) -> None:
    warnings.simplefilter("error", UserWarning)
    quieten()
    with Client(address) as connection:
        while True:
            cases, folder = pickle.loads(connection.recv_bytes())
            os.chdir(folder)
            results = []
            for name, arguments in cases:
                module, _, function = name.rpartition(".")
                try:
                    results.append(getattr(importlib.import_module(module), function)(**arguments))
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(1)  # without waiting for the other
            connection.send_bytes(
                pickle.dumps(results if os.environ["LOCAL_RANK"] == "0" else None)
            )


ABSENT = "a task absent in the whole step"
ONE_SIDED = "a rank without any label of a task"
UNEVEN = "an uneven last batch"
OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
}


def every_task(unobserved: Unobserved = "ignore") -> dict[str, Task]:
    """Return tasks of every kind, with every loss and both sorts of weights."""
    tags = MultiLabel(["hat", "bag"], unobserved, pos_weights="balanced")
    return make_tasks() | {
        "tags": tags,
        "votes": Classification(list(KINDS), class_weights=[1.0, 0.5, 3.0], label_smoothing=0.1),
        "opinion": Classification(list(KINDS), annotators=["one", "other"], top_k=2),
        "family": HierarchicalClassification({"pet": {"yes": ["cat", "dog"], "no": ["eel"]}}),
        "length": Regression(loss="l1"),
        "mass": Regression(loss="mse"),
        "price": Regression(loss="beta_nll", scale="log", bounds=[0.5, 1000]),
        "box": MultiRegression(["width", "height"], "huber"),
        "grade": Ordinal(list(KINDS)),
        "step": Ordinal(list(KINDS), "coral"),
        "parts": Segmentation(list(KINDS), decoder=DecoderOptions(width=4)),
        "depth": DenseRegression(decoder=DecoderOptions(width=4)),
    }


def every_label(rows: int) -> dict[str, list[Any]]:
    """Return sparse labels of `every_task`; every other vote is divided."""
    labels, others = sparse_labels(rows), sparse_labels(rows, seed=1)
    votes = [
        kind and (f"{kind}:3|{KINDS[(KINDS.index(kind) + 1) % 3]}:1" if i % 2 else kind)
        for i, kind in enumerate(others["kind"])
    ]
    return labels | {
        "votes": votes,
        "opinion/one": labels["kind"][::-1],
        "opinion/other": others["kind"],
        "family": [kind if i % 3 else None for i, kind in enumerate(others["kind"])],
        "family/pet": [kind and ("no" if kind == "eel" else "yes") for kind in others["kind"]],
        "length": others["size"],
        "mass": others["size"][::-1],
        "price": labels["size"][::-1],
        "box/width": others["size"],
        "box/height": labels["size"][::-1],
        "grade": others["kind"][::-1],
        "step": votes[::-1],
        "parts": [mask if i % 3 else None for i, mask in enumerate(every_target(rows))],
        "depth": [None if i % 2 else mask for i, mask in enumerate(every_target(rows))],
    }


VOID = {f"mask {row}" for row in range(0, 100, 7)}
"""The labels whose pixels have no class."""


def every_target(rows: int) -> dict[str, bytes]:
    """Return a mask for each row by its label; the pixels of every seventh have no class."""
    masks = {}
    for row in range(rows):
        values = np.random.default_rng(row).choice([0, 1, 2, 255], (16, 16))
        name = f"mask {row}"
        masks[name] = png(np.full_like(values, 255) if name in VOID else values)
    return masks


def every_data(
    splits: list[str], batch_size: int, tasks: dict[str, Task] | None = None
) -> PartialLabels:
    return PartialLabels(
        tasks or every_task(),
        {"memory": Memory(every_label(len(splits)), splits, targets=every_target(len(splits)))},
        image_size=16,
        batch_size=batch_size,
        num_workers=0,
        augmentation="none",
    )


class Situations(Callback):
    """Notes what one rank goes through."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.seen: set[str] = set()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.own: Counter[str] = Counter()
        self.own.update({task: int(mask.sum()) for task, mask in batch.labelled.items()})
        self.counts = batch.counts
        if (batch.rows >= 0).sum() < self.batch_size:
            self.seen.add(UNEVEN)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for task, count in self.counts.items():
            if not self.own[task]:
                self.seen.add(ONE_SIDED if count else ABSENT)


def trained(
    folder: Path,
    devices: int = 1,
    accumulate: int = 1,
    reduction: str = "labelled",
    precision: str = "64-true",
    steps: int = 5,
    rows: int = 45,
    batch: int = 8,
    optimizer: str = "AdamW",
    strength: float | None = None,
    unobserved: Unobserved = "ignore",
) -> tuple[dict[str, torch.Tensor], Results, set[str]]:
    """Train with ``batch`` rows a micro-batch of all ranks.

    Returns:
        The weights, what was validated, and what the first rank went through.
    """
    situations = Situations(batch // devices)
    tasks = every_task(unobserved)
    module = make_module(
        tasks=tasks,
        loss_reduction=reduction,
        optimizer=OPTIMIZERS[optimizer],
        sharing=None if strength is None else Soft(strength),
    )
    data = every_data(["train"] * rows + ["val"] * 7, batch // devices, tasks)
    fit(
        folder,
        data,
        module,
        devices=devices,
        accumulate_grad_batches=accumulate,
        precision=precision,
        max_steps=steps,
        max_epochs=-1,
        check_val_every_n_epoch=1000,
        callbacks=[situations],
    )
    module.trainer.validate(module, datamodule=data, verbose=False)
    return weights(module), module.results["val"], situations.seen


def evaluated(folder: Path, devices: int, split: str, rows: int, batch_size: int) -> list[Results]:
    """Measure ``rows`` images, of which ``rare`` has no label; return what each rank found."""
    data = every_data(["train"] * 20 + [split] * rows, batch_size)
    module = make_module(tasks=every_task())
    trainer = make_trainer(folder, devices=devices)
    run = {"val": trainer.validate, "test": trainer.test}[split]
    run(module, datamodule=data, verbose=False)
    found: list[Any] = [module.results[split]] * devices
    if devices > 1:
        dist.all_gather_object(found, module.results[split])
    return found
