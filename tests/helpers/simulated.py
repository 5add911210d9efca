"""A training on several ranks, without processes; the contract's property tests drive it.

Each rank is given the batches that a process of its number would be given, and what Lightning and
DDP do with its losses is done here: divide each by the micro-batches of a step, add up their
gradients, take the mean over ranks. Weights stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Soft
from mtl_lightning.tasks import Classification, MultiLabel, Task
from mtl_lightning.training.module import MultiTask
from tests.helpers.support import Memory, Small, make_trainer


@dataclass(frozen=True)
class Case:
    """What is trained, and how; labels are written as in `tests.helpers.reference`.

    Attributes:
        tasks: Name to class and arguments.
        train: Each training image's labels.
        val: Each validation image's labels.
        batch_size: Images of one rank in one micro-batch.
        ranks: Number of ranks.
        accumulate: Micro-batches of one step.
        reduction: ``loss_reduction``.
        soft: Strength and distance of soft sharing; None: hard.
        garbage: What lies where a label is missing, in turn; of classes: ``stray``.
        stray: Numbers of no class.
        seed: Of the weights.
    """

    tasks: Mapping[str, tuple[type[Task], dict[str, Any]]]
    train: list[dict[str, Any]]
    val: list[dict[str, Any]]
    batch_size: int
    ranks: int
    accumulate: int
    reduction: str
    soft: tuple[float, str] | None
    garbage: list[float]
    stray: list[int]
    seed: int


class Hostile(PartialLabels):
    """The labels of a case; garbage lies wherever there is none."""

    def __init__(self, case: Case, tasks: dict[str, Task]) -> None:
        cells: dict[str, list[Any]] = {}
        for name, task in tasks.items():
            labels = [row.get(name) for row in case.train + case.val]
            if isinstance(task, MultiLabel):
                cells |= {
                    f"{name}/{n}": [(row or {}).get(n) for row in labels] for n in task.labels
                }
            else:
                votes = isinstance(task, Classification)
                cells[name] = [_ballot(label) if votes and label else label for label in labels]
        source = Memory(cells, ["train"] * len(case.train) + ["val"] * len(case.val))
        options = {"image_size": 16, "num_workers": 0, "augmentation": "none", "splits": {}}
        super().__init__(tasks, {"m": source}, batch_size=case.batch_size, **options)
        self.case = case

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for encoded in self.labels.encoded.values():
            floating = encoded.targets.dtype != np.int64
            garbage = np.array(self.case.garbage if floating else self.case.stray)
            holes = ~encoded.labelled
            encoded.targets[holes] = np.resize(garbage, encoded.targets[holes].shape)


def _ballot(votes: Mapping[str, int]) -> str:
    return "|".join(f"{c}:{n}" for c, n in votes.items()) if len(votes) > 1 else next(iter(votes))


class Unlogged(MultiTask):
    """Logs nowhere, as no loop is running."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        pass


@cache
def trainer(rank: int, ranks: int, accumulate: int) -> Trainer:
    """Return a trainer that takes itself for one of several."""
    strategy = SingleDeviceStrategy("cpu")
    strategy.global_rank, strategy.world_size = rank, ranks
    return make_trainer(Path(), strategy=strategy, accumulate_grad_batches=accumulate)


@dataclass
class Step:
    """An optimizer step, of one rank or of all: the rows, their loss, and its gradients."""

    rows: list[int]
    loss: Tensor
    gradients: dict[str, Tensor | None]


class Simulation:
    """The module and the data of a case, shared by all ranks."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.tasks = {name: kind(**arguments) for name, (kind, arguments) in case.tasks.items()}
        self.data = Hostile(case, self.tasks)
        self.module = Unlogged(
            self.tasks,
            Small(),
            dropout=0.0,
            image_size=16,
            sharing=case.soft and Soft(*case.soft),
            loss_reduction=case.reduction,
        ).double()
        generator = torch.Generator().manual_seed(case.seed)
        for weight in self.module.parameters():
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
        self.data.setup("fit")
        for name, task in self.tasks.items():
            task.fit_statistics(*self.data.labels.training_labels(name))

    def train(self) -> list[Step]:
        """Do an epoch's steps."""
        ranks = self._on_each_rank("train", lambda batches: list(self._steps(batches)))
        return [_together(shares) for shares in zip(*ranks, strict=True)]

    def validate(self) -> list[int]:
        """Measure; return the rows that were given to any rank."""

        def measured(batches: Sequence[Batch]) -> list[int]:
            for number, batch in enumerate(batches):
                self.module.validation_step(batch, number)
            return [row for batch in batches for row in _real(batch)]

        return [row for rows in self._on_each_rank("val", measured) for row in rows]

    def _on_each_rank(self, split: str, run: Callable[[list[Batch]], Any]) -> list[Any]:
        """Run something on each rank's batches, add up what the ranks measured, and report."""
        begin, end = {
            "train": (self.module.on_fit_start, self.module.on_train_epoch_end),
            "val": (self.module.on_validation_epoch_start, self.module.on_validation_epoch_end),
        }[split]
        metrics = [m for m in self.module.measured[split].modules() if isinstance(m, Metric)]
        results, states = [], []
        for rank in range(self.case.ranks):
            this = trainer(rank, self.case.ranks, self.case.accumulate)
            self.module.trainer = self.data.trainer = this
            begin()
            results.append(run(list(getattr(self.data, f"{split}_dataloader")())))
            states.append([metric.metric_state for metric in metrics])
        for metric, *parts in zip(metrics, *states, strict=True):
            for name in metric.metric_state:
                setattr(metric, name, sum(part[name] for part in parts))
        end()
        return results

    def _steps(self, batches: Sequence[Batch]) -> Iterator[Step]:
        """Do one rank's share of an epoch."""
        parameters = dict(self.module.network.named_parameters())
        accumulate = self.case.accumulate
        optimizer = torch.optim.SGD(parameters.values(), lr=0.0)
        for first in range(0, len(batches), accumulate):
            self.module.zero_grad()
            step = Step([], torch.zeros((), dtype=torch.float64), {})
            for number, batch in enumerate(batches[first : first + accumulate], first):
                loss = self.module.training_step(batch, number) / accumulate
                loss.backward()
                idle = [name for name, p in parameters.items() if p.grad is None]
                assert not idle, "DDP would wait for the gradient of these"
                step.rows += _real(batch)
                step.loss += loss.detach()
            self.module.on_before_optimizer_step(optimizer)
            step.gradients = {name: p.grad for name, p in parameters.items()}
            yield step


def _real(batch: Batch) -> list[int]:
    return [row for row in batch.rows.tolist() if row >= 0]


def _together(shares: Sequence[Step]) -> Step:
    """Make one step of what the ranks have of it."""
    gradients = {}
    for name, gradient in shares[0].gradients.items():
        each = [share.gradients[name] for share in shares]
        absent = [other is None for other in each]
        assert all(absent) or not any(absent), f"{name}: ranks disagree on what is absent"
        gradients[name] = None if gradient is None else sum(each) / len(shares)
    rows = [row for share in shares for row in share.rows]
    return Step(rows, sum(share.loss for share in shares) / len(shares), gradients)
