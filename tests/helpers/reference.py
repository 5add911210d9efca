"""What a step and a split should come to: plain loops over rows and labels, in float64.

Slow, and obviously right. Of the package it reads the settings a task was made with; nothing of its
masks, counts, reductions, losses and metrics. A row is the outputs of the network for one image, by
task, and the image's labels, as a person would write them down: votes by class (``{"ant": 3, "bee":
1}``), a number, or yes and no by label (``{"hat": True}``). What nobody looked at is not there.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

from torch import Tensor

from mtl_lightning.tasks import (
    Classification,
    MultiLabel,
    Regression,
    Task,
)

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
        classes, pairs, gaps = self.task.classes, [], [0.0] * 15
        for logits, votes in rows:
            chances = [math.exp(z) / sum(map(math.exp, logits)) for z in logits]
            answer, truth = classes[chances.index(max(chances))], max(votes, key=votes.__getitem__)
            pairs.append((truth, answer))
            gaps[math.ceil(max(chances) * 15) - 1] += (answer == truth) - max(chances)
        recalls, f1 = [], []
        for c in classes:
            hits = pairs.count((c, c))
            occurs = sum(truth == c for truth, _ in pairs)
            answered = sum(answer == c for _, answer in pairs)
            recalls += [hits / occurs] if occurs else []
            f1 += [2 * hits / (occurs + answered)] if occurs + answered else []
        return {
            "accuracy": fmean(truth == answer for truth, answer in pairs),
            "macro_f1": fmean(f1),
            "balanced_accuracy": fmean(recalls),
            "calibration_error": sum(map(abs, gaps)) / len(rows),
        }


class NumberLoop:
    """A regression, label by label, with what follows from its training labels."""

    primary = "r2"
    width = 1

    def __init__(self, task: Regression, training: Sequence[Label]) -> None:
        self.task = task
        self.mean, self.std = fmean(training), pstdev(training)

    def losses(self, outputs: Tensor, number: Label) -> list[Tensor]:
        """Return the loss of the one label."""
        error, delta = (outputs[0] - (number - self.mean) / self.std).abs(), self.task.huber_delta
        if self.task.loss_name == "l1":
            return [error]
        if self.task.loss_name == "mse":
            return [error * error]
        return [error * error / 2 if error <= delta else delta * error - delta * delta / 2]

    def metrics(self, rows: Sequence[tuple[list[float], Label]]) -> Metrics:
        """Measure outputs and labels."""
        numbers = [number for _, number in rows]
        errors = [output * self.std + self.mean - number for (output,), number in rows]
        squares = sum(error * error for error in errors)
        total = sum((number - fmean(numbers)) ** 2 for number in numbers)
        return {
            "mae": fmean(map(abs, errors)),
            "rmse": math.sqrt(squares / len(rows)),
            "r2": 1 - squares / total if total else math.nan,
        }


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


Loop = ClassLoop | NumberLoop | YesNoLoop


def loop(task: Task, training: Sequence[Label]) -> Loop:
    """Return the loop for a task, given its labels in the training split."""
    kinds = {Classification: ClassLoop, Regression: NumberLoop, MultiLabel: YesNoLoop}
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
    return [(outputs[task], labels[task]) for outputs, labels in rows if task in labels]


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
