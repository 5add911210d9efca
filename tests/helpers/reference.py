"""What a step and a split should come to: plain loops over rows and labels, in float64.

Slow, and obviously right. Of the package it reads the settings a task was made with; nothing of its
masks, counts, reductions, losses and metrics. A row is the outputs of the network for one image, by
task, and the image's labels, as a person would write them down: votes by class (``{"ant": 3, "bee":
1}``), a number, yes and no by label (``{"hat": True}``), or classes by pixel (``{(3, 5): "sky"}``).
What nobody looked at is not there.

`Simulation` is a training on several ranks without processes. Each rank gets the batches that a
process of its number would get, and the work of Lightning and DDP is done here: divide the losses
by the micro-batches of a step, add up their gradients, take the mean over ranks. Weights stay.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import NormalDist, fmean, pstdev
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Soft
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
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory
from tests.helpers.models import Small
from tests.helpers.segmentation import png
from tests.helpers.tables import TableRows, make_inputs, small_mlp
from tests.helpers.training import make_trainer

Label = Any
Row = tuple[Mapping[str, Tensor], Mapping[str, Label]]
Metrics = dict[str, float]


class ClassLoop:
    """A classification, label by label, with what follows from its training labels."""

    primary = "balanced_accuracy"
    width = 1

    def __init__(self, task: Classification, training: Sequence[Label]) -> None:
        self.task = task
        self.weights = dict.fromkeys(task.classes, 1.0)
        shares = {c: sum(_share(votes, c) for votes in training) for c in task.classes}
        if task.class_weights == "balanced":
            self.weights = {c: 1 / n if n else 0.0 for c, n in shares.items()}
        elif task.class_weights is not None:
            self.weights = dict(zip(task.classes, task.class_weights, strict=True))
        mean = sum(self.weights[c] * shares[c] for c in task.classes) / len(training)
        self.weights = {c: w / mean for c, w in self.weights.items()}
        if task.class_weights == "balanced":
            self.weights |= {c: 1.0 for c, n in shares.items() if not n}

    def losses(self, logits: Tensor, votes: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        log_p = logits - logits.exp().sum().log()
        smoothing = self.task.label_smoothing
        loss = -log_p[0] * 0
        for c, log in zip(self.task.classes, log_p, strict=True):
            target = (1 - smoothing) * _share(votes, c) + smoothing / len(self.task.classes)
            loss = loss - self.weights[c] * target * log
        return [loss]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        classes, pairs, gaps, near = self.task.classes, [], [0.0] * 15, []
        for logits, votes in rows:
            chances = [math.exp(z) / sum(map(math.exp, logits)) for z in logits]
            answer, truth = classes[chances.index(max(chances))], max(votes, key=votes.__getitem__)
            pairs.append((truth, answer))
            near.append(sum(c > chances[classes.index(truth)] for c in chances))
            gaps[math.ceil(max(chances) * 15) - 1] += (answer == truth) - max(chances)
        recalls, f1 = [], []
        for c in classes:
            hits = pairs.count((c, c))
            occurs = sum(truth == c for truth, _ in pairs)
            answered = sum(answer == c for _, answer in pairs)
            recalls += [hits / occurs] if occurs else []
            f1 += [2 * hits / (occurs + answered)] if occurs + answered else []
        top = self.task.top_k
        return {
            **({f"top{top}_accuracy": fmean(more < top for more in near)} if top else {}),
            "accuracy": fmean(truth == answer for truth, answer in pairs),
            "macro_f1": fmean(f1),
            "balanced_accuracy": fmean(recalls),
            "calibration_error": sum(map(abs, gaps)) / len(rows),
        }


class TreeLoop:
    """A hierarchical classification, label by label."""

    primary = "balanced_accuracy"
    width = 1

    def __init__(self, task: HierarchicalClassification, training: Sequence[Label]) -> None:
        self.task = task

    def losses(self, logits: Tensor, label: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        chances = logits.exp() / logits.exp().sum()
        left = self._left(label)
        return [-sum(chances[self.task.classes.index(name)] for name in left).log()]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        fine, coarse = [], {level: [] for level in self.task.levels}
        for logits, label in rows:
            chances = dict(zip(self.task.classes, map(math.exp, logits), strict=True))
            left = self._left(label)
            if len(left) == 1:
                fine.append((left[0], max(chances, key=chances.__getitem__)))
            for level, groups in self.task.levels.items():
                known = {c for c, names in groups.items() if set(names) & set(left)}
                sums = {c: sum(chances[name] for name in names) for c, names in groups.items()}
                if len(known) == 1:
                    coarse[level].append((known.pop(), max(sums, key=sums.__getitem__)))
        recalls = [
            fmean(answer == c for truth, answer in fine if truth == c)
            for c in {truth for truth, _ in fine}
        ]
        values = {"balanced_accuracy": _mean_of_known(recalls)}
        for level, pairs in {"fine": fine, **coarse}.items():
            values[f"n_labelled/{level}"] = len(pairs)
            values[f"accuracy/{level}"] = _mean_of_known([float(a == b) for a, b in pairs])
        return values | {"accuracy": values["accuracy/fine"]}

    def _left(self, label: Label) -> list[str]:
        left = list(self.task.classes)
        for field, name in label.items():
            named = self.task.levels[field][name] if field else [name]
            left = [each for each in left if each in named]
        return left


class RankLoop:
    """An ordinal classification, label by label."""

    primary = "quadratic_kappa"
    width = 1

    def __init__(self, task: Ordinal, training: Sequence[Label]) -> None:
        self.task = task
        self.ranks = range(len(task.classes))

    def losses(self, logits: Tensor, votes: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        shares = [_share(votes, c) for c in self.task.classes]
        yes, no = logits.sigmoid().log(), (-logits).sigmoid().log()
        loss = logits[0] * 0
        if self.task.method == "coral":
            for j in self.ranks[:-1]:
                loss = loss - sum(shares[j + 1 :]) * yes[j] - sum(shares[: j + 1]) * no[j]
        for rank, share in enumerate(shares):
            if self.task.method == "corn":
                loss = loss - share * sum([*yes[:rank], *no[rank : rank + 1]])
            elif self.task.method == "squared":
                near = [math.exp(-((rank - r) ** 2)) for r in self.ranks]
                log_p = logits - logits.exp().sum().log()
                for weight, log in zip(near, log_p, strict=True):
                    loss = loss - share * weight / sum(near) * log
        return [loss]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        pairs = []
        for logits, votes in rows:
            truth = self.task.classes.index(max(votes, key=votes.__getitem__))
            pairs.append((truth, self._median(logits)))
        gaps = [abs(truth - answer) for truth, answer in pairs]
        chance = fmean((truth - answer) ** 2 for truth, _ in pairs for _, answer in pairs)
        return {
            "accuracy": fmean(gap == 0 for gap in gaps),
            "within_one": fmean(gap <= 1 for gap in gaps),
            "rank_mae": fmean(gaps),
            "quadratic_kappa": 1 - fmean(g**2 for g in gaps) / chance if chance else math.nan,
        }

    def _median(self, logits: list[float]) -> int:
        """Count the ranks that the label is above with more than even odds."""
        yes = [1 / (1 + math.exp(-z)) for z in logits]
        if self.task.method == "corn":
            yes = [math.prod(yes[: j + 1]) for j in self.ranks[:-1]]
        elif self.task.method == "squared":
            chances = [math.exp(z) / sum(map(math.exp, logits)) for z in logits]
            yes = [sum(chances[j + 1 :]) for j in self.ranks[:-1]]
        return sum(chance > 0.5 for chance in yes)


class NumberLoop:
    """A regression, label by label, with what follows from its training labels."""

    primary = "r2"
    width = 1

    def __init__(self, task: Regression, training: Sequence[Label]) -> None:
        self.task = task
        self.log = math.log if task.scale.scale == "log" else float
        numbers = [self.log(number) for number in training]
        self.mean, self.std = fmean(numbers), pstdev(numbers)

    def losses(self, outputs: Tensor, number: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        error = (self._standard(outputs[0]) - (self.log(number) - self.mean) / self.std).abs()
        delta = self.task.huber_delta
        if self.task.loss_name == "beta_nll":
            variance = _variance(outputs[1])
            weight = variance.item() ** self.task.beta
            return [weight * (variance.log() / 2 + error * error / (2 * variance))]
        if self.task.loss_name == "l1":
            return [error]
        if self.task.loss_name == "mse":
            return [error * error]
        return [error * error / 2 if error <= delta else delta * error - delta * delta / 2]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        numbers = [number for _, number in rows]
        standard = [
            float(self._standard(torch.tensor(out[0], dtype=torch.float64))) for out, _ in rows
        ]
        errors = [self._number(z) - number for z, number in zip(standard, numbers, strict=True)]
        squares = sum(error * error for error in errors)
        total = sum((number - fmean(numbers)) ** 2 for number in numbers)
        values = {
            "mae": fmean(map(abs, errors)),
            "rmse": math.sqrt(squares / len(rows)),
            "r2": 1 - squares / total if total else math.nan,
        }
        if self.task.loss_name == "beta_nll":
            reach = NormalDist().inv_cdf(0.5 + self.task.interval / 2)
            ends = []
            for z, (out, _) in zip(standard, rows, strict=True):
                deviation = math.sqrt(_variance(torch.tensor(out[1], dtype=torch.float64)))
                ends.append([self._number(z + side * reach * deviation) for side in (-1, 1)])
            values["coverage"] = fmean(a <= n <= b for (a, b), n in zip(ends, numbers, strict=True))
            values["interval_width"] = fmean(b - a for a, b in ends)
        return values

    def _standard(self, output: Tensor) -> Tensor:
        """Return an output between the bounds, with the value 0 and the slope 1 at 0."""
        if self.task.scale.bounds is None:
            return output
        low, high = ((self.log(b) - self.mean) / self.std for b in self.task.scale.bounds)
        at_0 = math.log(-low / high)
        slope_at_0 = (high - low) * math.exp(-at_0) / (1 + math.exp(-at_0)) ** 2
        return low + (high - low) / (1 + (-at_0 - output / slope_at_0).exp())

    def _number(self, standard: float) -> float:
        number = standard * self.std + self.mean
        number = math.exp(min(number, 88.7)) if self.log is math.log else number
        low, high = self.task.scale.bounds or (-math.inf, math.inf)
        return min(max(number, low), high)


def _variance(raw: Tensor) -> Tensor:
    return (1 + raw.exp()).log() + 1e-6


class NumbersLoop:
    """Several numbers, each of which is a regression of its own."""

    primary = "r2"

    def __init__(self, task: MultiRegression, training: Sequence[Label]) -> None:
        self.task = task
        self.width = len(task.numbers)
        self.each = {
            name: NumberLoop(task, [label[name] for label in training if name in label])
            for name in task.numbers
        }

    def losses(self, outputs: Tensor, numbers: Label) -> list[Tensor]:
        """Return the loss of each number that is there."""
        return [
            loss
            for i, (name, own) in enumerate(self.each.items())
            if name in numbers
            for loss in own.losses(outputs[i :: self.width], numbers[name])
        ]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        found, values = {}, {}
        for i, (name, own) in enumerate(self.each.items()):
            labelled = [(out[i :: self.width], a[name]) for out, a in rows if name in a]
            found[name] = own.metrics(labelled) if labelled else {}
            values[f"n_labelled/{name}"] = len(labelled)
        for measure in {measure for each in found.values() for measure in each}:
            each = [found[name].get(measure, math.nan) for name in self.each]
            values[measure] = _mean_of_known(each)
            values |= {f"{measure}/{name}": v for name, v in zip(self.each, each, strict=True)}
        return values


class YesNoLoop:
    """A multi-label task, label by label, with what follows from its training labels."""

    primary = "mean_ap"

    def __init__(self, task: MultiLabel, training: Sequence[Label]) -> None:
        self.task = task
        self.width = len(task.labels)
        self.weights = {}
        for i, name in enumerate(task.labels):
            answers = [label[name] for label in training if name in label]
            yes, no = answers.count(True), answers.count(False)
            ratio = 1.0
            if task.pos_weights == "balanced":
                ratio = no / yes
            elif task.pos_weights is not None:
                ratio = task.pos_weights[i]
            mean = (ratio * yes + no) / (yes + no)
            self.weights[name] = {True: ratio / mean, False: 1 / mean}

    def losses(self, logits: Tensor, answers: Label) -> list[Tensor]:
        """Return the loss of each label that is there."""
        found = []
        for name, logit in zip(self.task.labels, logits, strict=True):
            if name in answers:
                chance = 1 / (1 + (-logit if answers[name] else logit).exp())
                found.append(-self.weights[name][answers[name]] * chance.log())
        return found

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        each: dict[str, list[float]] = {"ap": [], "f1": [], "accuracy": [], "ma": []}
        values: Metrics = {}
        for i, name in enumerate(self.task.labels):
            pairs = [(1 / (1 + math.exp(-o[i])), a[name]) for o, a in rows if name in a]
            yes, no = ([chance for chance, a in pairs if a is answer] for answer in (True, False))
            hits, alarms = sum(c >= 0.5 for c in yes), sum(c >= 0.5 for c in no)
            each["ap"].append(_average_precision(pairs))
            each["f1"].append(_ratio(2 * hits, hits + len(yes) + alarms))
            each["accuracy"].append(_ratio(hits + len(no) - alarms, len(pairs)))
            each["ma"].append((_ratio(hits, len(yes)) + _ratio(len(no) - alarms, len(no))) / 2)
            values |= {f"{metric}/{name}": found[-1] for metric, found in each.items()}
            values[f"n_labelled/{name}"] = len(pairs)
        means = {metric: _mean_of_known(found) for metric, found in each.items()}
        return values | {"mean_ap": means.pop("ap")} | means


class PixelLoop:
    """A segmentation, pixel by pixel."""

    primary = "miou"
    width = 1

    def __init__(self, task: Segmentation, training: Sequence[Label]) -> None:
        self.task = task

    def losses(self, logits: Tensor, pixels: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        classes = self.task.classes
        chances = {
            p: logits[:, p[0], p[1]].exp() / logits[:, p[0], p[1]].exp().sum() for p in pixels
        }
        loss = logits[0, 0, 0] * 0
        if self.task.loss_name != "dice":
            each = [-chances[p][classes.index(name)].log() for p, name in pixels.items()]
            loss = loss + sum(each) / len(each)
        if self.task.loss_name != "cross_entropy":
            apart = []
            for name in set(pixels.values()):
                own = classes.index(name)
                shared = sum(chances[p][own] for p, truth in pixels.items() if truth == name)
                whole = sum(chances[p][own] for p in pixels) + list(pixels.values()).count(name)
                apart.append(1 - 2 * shared / whole)
            loss = loss + sum(apart) / len(apart)
        return [loss]

    def metrics(self, rows: Sequence[tuple[list[Any], Label]]) -> Metrics:
        """Measure outputs and labels."""
        pairs = []
        for logits, pixels in rows:
            for (y, x), truth in pixels.items():
                own = [channel[y][x] for channel in logits]
                pairs.append((truth, self.task.classes[own.index(max(own))]))
        iou = {}
        for name in self.task.classes:
            union = sum(name in pair for pair in pairs)
            occurs = any(truth == name for truth, _ in pairs)
            iou[f"iou/{name}"] = pairs.count((name, name)) / union if occurs else math.nan
        return {
            "miou": _mean_of_known(list(iou.values())),
            "pixel_accuracy": fmean(truth == answer for truth, answer in pairs),
            **iou,
        }


class DepthLoop:
    """A dense regression, pixel by pixel, with what follows from its training labels."""

    primary = "delta1"
    width = 1

    def __init__(self, task: DenseRegression, training: Sequence[Label]) -> None:
        self.task = task
        self.log = math.log if task.loss_name == "log" else float
        numbers = [self.log(number) for pixels in training for number in pixels.values()]
        self.mean, self.std = fmean(numbers), pstdev(numbers)

    def losses(self, outputs: Tensor, pixels: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        each = [
            (outputs[0, y, x] - (self.log(number) - self.mean) / self.std).abs()
            for (y, x), number in pixels.items()
        ]
        return [sum(each) / len(each)]

    def metrics(self, rows: Sequence[tuple[list[Any], Label]]) -> Metrics:
        """Measure outputs and labels."""
        pairs = []
        for (channel,), pixels in rows:
            for (y, x), number in pixels.items():
                answer = channel[y][x] * self.std + self.mean
                pairs.append((math.exp(answer) if self.task.loss_name == "log" else answer, number))
        ratios = [max(a / n, n / a) if a > 0 else math.inf for a, n in pairs]
        return {
            "mae": fmean(abs(a - n) for a, n in pairs),
            "rmse": math.sqrt(fmean((a - n) ** 2 for a, n in pairs)),
            "rel": fmean(abs(a - n) / n for a, n in pairs),
            **{f"delta{k}": fmean(r < 1.25**k for r in ratios) for k in (1, 2, 3)},
        }


Loop = (
    ClassLoop | TreeLoop | RankLoop | NumberLoop | NumbersLoop | YesNoLoop | PixelLoop | DepthLoop
)


def loop(task: Task, training: Sequence[Label]) -> Loop:
    """Return the loop for a task, given its labels in the training split."""
    kinds = {
        Classification: ClassLoop,
        HierarchicalClassification: TreeLoop,
        Ordinal: RankLoop,
        Regression: NumberLoop,
        MultiRegression: NumbersLoop,
        MultiLabel: YesNoLoop,
        Segmentation: PixelLoop,
        DenseRegression: DepthLoop,
    }
    made: Loop = kinds[type(task)](task, training)
    return made


def step_loss(loops: Mapping[str, Loop], rows: Sequence[Row], reduction: str) -> Tensor:
    """Return the loss of one optimizer step over all its rows, whoever they were dealt to."""
    total = next(iter(rows[0][0].values())).new_zeros(())
    for name, each in loops.items():
        losses = _losses(each, _labelled(rows, name))
        if losses:
            divisor = len(losses) if reduction == "labelled" else len(rows) * each.width
            total = total + each.task.weight * sum(losses) / divisor
    return total


def penalty(copies: Sequence[Sequence[Tensor]], strength: float, distance: str) -> Tensor:
    """Return what soft sharing adds to a step: the parameters of each backbone are given."""
    total = 0
    for tied in zip(*copies, strict=True):
        if distance == "pairwise":
            total = total + sum(((a - b) ** 2).sum() for a, b in combinations(tied, 2))
        else:
            mean = sum(tied) / len(tied)
            total = total + sum(((weight - mean) ** 2).sum() for weight in tied)
    return strength / sum(weight.numel() for weight in copies[0]) * total


def split_metrics(loops: Mapping[str, Loop], rows: Sequence[Row]) -> dict[str, Metrics]:
    """Return what each task comes to over the rows of a split."""
    found = {}
    for name, each in loops.items():
        labelled = _labelled(rows, name)
        losses = [loss.item() for loss in _losses(each, labelled)]
        found[name] = {"n_labelled": len(losses)}
        if losses:
            found[name]["loss"] = fmean(losses)
            found[name] |= each.metrics([(out.tolist(), label) for out, label in labelled])
    return found


def loss_and_score(loops: Mapping[str, Loop], found: Mapping[str, Metrics]) -> tuple[Any, Any]:
    """Return the loss and the score of a split, each None where no task has any."""
    losses = [
        each.task.weight * found[n]["loss"] for n, each in loops.items() if "loss" in found[n]
    ]
    primary = [found[n].get(each.primary, math.nan) for n, each in loops.items()]
    scores = [min(max(value, 0), 1) for value in primary if not math.isnan(value)]
    return sum(losses) if losses else None, fmean(scores) if scores else None


def _labelled(rows: Sequence[Row], task: str) -> list[tuple[Tensor, Label]]:
    # A mask whose pixels are all ignored holds no label.
    return [(outputs[task], labels[task]) for outputs, labels in rows if labels.get(task, {}) != {}]


def _losses(each: Loop, labelled: Sequence[tuple[Tensor, Label]]) -> list[Tensor]:
    return [loss for outputs, label in labelled for loss in each.losses(outputs, label)]


def _share(votes: Label, name: str) -> float:
    return votes.get(name, 0) / sum(votes.values())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _average_precision(pairs: Sequence[tuple[float, bool]]) -> float:
    """Precision times gain in recall, from the highest of 1000 equal bins of the chance down."""
    positives = sum(answer for _, answer in pairs)
    if not positives:
        return math.nan
    binned = [(int(chance * 1000), answer) for chance, answer in pairs]
    area = 0.0
    for bin_ in {bin_ for bin_, _ in binned}:
        shown = [answer for other, answer in binned if other >= bin_]
        gained = sum(answer for other, answer in binned if other == bin_)
        area += sum(shown) / len(shown) * gained / positives
    return area


@dataclass(frozen=True)
class Case:
    """What is trained, and how; labels are written as above.

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
        table: Whether the network reads columns instead of images.
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
    table: bool = False


class Hostile(PartialLabels):
    """The labels of a case; garbage lies wherever there is none."""

    def __init__(self, case: Case, tasks: dict[str, Task]) -> None:
        cells: dict[str, list[Any]] = {}
        targets: dict[str, bytes] = {}
        for name, task in tasks.items():
            labels = [row.get(name) for row in case.train + case.val]
            if isinstance(task, Classification) and task.annotators:
                voted = [list(Counter(row or {}).elements()) for row in labels]
                cells |= {
                    f"{name}/{n}": [own[i] if i < len(own) else None for own in voted]
                    for i, n in enumerate(task.annotators)
                }
            elif task.fields != ("",):
                cells |= {
                    f"{name}/{n}" if n else name: [(row or {}).get(n) for row in labels]
                    for n in task.fields
                }
            elif task.loads_targets:
                files = {str(label): _mask(task, label) for label in labels if label is not None}
                targets |= files
                cells[name] = [None if label is None else str(label) for label in labels]
            else:
                votes = isinstance(task, Classification)
                cells[name] = [_ballot(label) if votes and label else label for label in labels]
        splits = ["train"] * len(case.train) + ["val"] * len(case.val)
        kind = TableRows if case.table else Memory
        source = kind(cells, splits, targets=targets)
        options = {
            "inputs": make_inputs() if case.table else None,
            "image_size": 16,
            "num_workers": 0,
            "augmentation": "none",
            "splits": {},
        }
        super().__init__(tasks, {"m": source}, batch_size=case.batch_size, **options)
        self.case = case

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for encoded in self.labels.encoded.values():
            floating = encoded.targets.dtype != np.int64
            garbage = np.array(self.case.garbage if floating else self.case.stray)
            holes = ~encoded.labelled
            encoded.targets[holes] = np.resize(garbage, encoded.targets[holes].shape)


def _mask(task: Task, pixels: Mapping[tuple[int, int], Any]) -> bytes:
    """Return the file of an image of 16 x 16 pixels, of which the others have no label."""
    values = np.full((16, 16), 255, dtype=np.uint16)
    for pixel, label in pixels.items():
        depth = isinstance(task, DenseRegression)
        values[pixel] = round(label / task.scale) if depth else task.classes.index(label)
    return png(values)


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
        self.data.labels.learn_inputs()
        self.module = Unlogged(
            self.tasks,
            small_mlp() if case.table else Small(),
            dropout=0.0,
            image_size=16,
            sharing=case.soft and Soft(*case.soft),
            loss_reduction=case.reduction,
            inputs=self.data.inputs,
        ).double()
        generator = torch.Generator().manual_seed(case.seed)
        for weight in self.module.parameters():
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
        self.module.measured.include(self.tasks, ("train", "val"))
        self.data.setup("fit")
        self.data.provide_inputs(self.module.network.input_specs)
        for name, task in self.tasks.items():
            task.fit_statistics(*self.data.labels.training_labels(name))
            if task.loads_targets:
                self.data.trainer = trainer(0, case.ranks, case.accumulate)
                task.fit_targets(self.data.sample_targets(name))

    def inputs(self, row: int) -> dict[str, Tensor]:
        """Return the inputs of one row, as a batch of it."""
        if self.case.table:
            columns = self.data.labels.input_columns
            return columns.only(self.module.network.input_specs).of(np.array([row]))
        image = torch.from_numpy(self.data.labels.table.load(row)).permute(2, 0, 1)
        return {"image": image[None]}

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
        trainers = [
            trainer(rank, self.case.ranks, self.case.accumulate) for rank in range(self.case.ranks)
        ]
        batches, results, states = [], [], []
        for this in trainers:
            self.data.trainer = this
            batches.append(self._batches(split))
        self._exchange_counts(batches)
        for this, own in zip(trainers, batches, strict=True):
            self.module.trainer = self.data.trainer = this
            begin()
            results.append(run(own))
            states.append([metric.metric_state for metric in metrics])
        for metric, *parts in zip(metrics, *states, strict=True):
            for name in metric.metric_state:
                setattr(metric, name, sum(part[name] for part in parts))
        end()
        return results

    def _batches(self, split: str) -> list[Batch]:
        """Return the batches of a split; garbage lies where a target of files is missing."""
        with patch("mtl_lightning.data.bad_images.dist.all_reduce"):  # see `_exchange_counts`
            batches = list(getattr(self.data, f"{split}_dataloader")())
        for batch in batches:
            for name, task in self.tasks.items():
                if task.loads_targets:
                    values = batch.targets[name]
                    floating = values.is_floating_point()
                    garbage = np.array(self.case.garbage if floating else self.case.stray)
                    holes = ~batch.labelled[name].numpy()
                    values.numpy()[holes] = np.resize(
                        garbage.astype(values.numpy().dtype), values[holes].shape
                    )
        return batches

    def _exchange_counts(self, batches: Sequence[Sequence[Batch]]) -> None:
        """Take the masks without any label of other ranks out of the counts of each step."""
        for first in range(0, len(batches[0]), self.case.accumulate):
            steps = [own[first : first + self.case.accumulate] for own in batches]
            for rank, step in enumerate(steps):
                others = [b for other, own in enumerate(steps) if other != rank for b in own]
                for batch in step:
                    for other in others:
                        for task, rows in other.void_targets.items():
                            batch.counts[task] -= len(rows)

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
