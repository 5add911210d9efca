"""One class out of several, of which an image may be labelled with a coarser one only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.models.members import Average, log_mean_softmax
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks.base import Encoded, if_missing
from mtl_lightning.tasks.cells import canonical
from mtl_lightning.tasks.class_cells import class_positions
from mtl_lightning.tasks.classification import PLOTTED_UP_TO
from mtl_lightning.tasks.mirroring import swap_permutation
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from mtl_lightning.tasks.probability_task import ProbabilityTask

FINE = "fine"
"""The name of the finest level in metrics."""
RESERVED = (FINE, "probabilities", "raw", "set")
"""Names that no level can have."""


class HierarchicalClassification(ProbabilityTask):
    """A softmax over classes, of which coarser levels follow.

    A label is a class, from the task's column; or a coarse class, from the column of its level; or
    several of these, which should agree. A coarse label says that the image has one of its classes:
    the loss is the negative logarithm of the sum of their probabilities. So images that are only
    labelled coarsely teach the head too, and no head contradicts another.

    A row has the set of classes that its labels leave. Metrics of the classes are over rows of
    which a single one is left, those of a level over rows of which a single coarse class is.

    Args:
        levels: For each coarser level, its coarse classes with the classes in each:
            ``{category: {tops: [shirt, blouse], bottoms: [jeans, skirt]}}``. Each class belongs to
            one coarse class of each level.
        classes: The class names, in the order of the outputs; by default as in the first level.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "balanced_accuracy"
    growing: ClassVar[tuple[str, ...]] = ("classes", "levels")

    def __init__(
        self,
        levels: dict[str, dict[str, list[str]]],
        classes: list[str] | None = None,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(weight, head)
        self.levels = {
            normalize("NFC", str(level)): {
                normalize("NFC", str(coarse)): [normalize("NFC", str(name)) for name in names]
                for coarse, names in groups.items()
            }
            for level, groups in levels.items()
        }
        if not self.levels:
            raise UserError("levels should have at least one. Found none; or take Classification")
        first = next(iter(self.levels.values()))
        given = [name for names in first.values() for name in names]
        self.classes = given if classes is None else [normalize("NFC", str(c)) for c in classes]
        self._positions = {canonical(name): i for i, name in enumerate(self.classes)}
        repeated = [name for name, n in Counter(map(canonical, self.classes)).items() if n > 1]
        if len(self.classes) < 2 or repeated:
            raise UserError(
                f"there should be two or more classes, which differ. Found {listed(self.classes)}"
            )
        for level, groups in self.levels.items():
            self._check_level(level, groups)
            inside = torch.zeros(len(self.classes), len(groups))
            for place, names in enumerate(groups.values()):
                inside[[self._positions[canonical(name)] for name in names], place] = 1
            self.register_buffer(f"of_{len(self._memberships())}", inside, persistent=False)

    def _check_level(self, level: str, groups: Mapping[str, Sequence[str]]) -> None:
        if not level or "/" in level or level in (*RESERVED, *self.classes):
            raise UserError(
                f'a level should have a name without "/" that is no class. Found "{level}"'
            )
        if len(set(map(canonical, groups))) < max(len(groups), 2) or not all(groups.values()):
            raise UserError(
                f"level {level} should have two or more coarse classes, which differ, each with "
                f"classes. Found "
                f"{groups}"
            )
        found = Counter(canonical(name) for names in groups.values() for name in names)
        wrong = {
            "not among the classes": [name for name in found if name not in self._positions],
            "in several coarse classes": [name for name, count in found.items() if count > 1],
            "in none": [name for name in self.classes if canonical(name) not in found],
        }
        for what, names in wrong.items():
            if names:
                raise UserError(
                    f"level {level} should have each class in one coarse class. Found "
                    f"{listed(names)} {what}; classes: {listed(self.classes)}"
                )

    def _memberships(self) -> list[Tensor]:
        """Return, for each level, which class is in which coarse class: ``(K, C)``, 0 or 1."""
        return [buffer for name, buffer in self.named_buffers() if name.startswith("of_")]

    def lost(self, key: str, trained: Any) -> str | None:
        """See `Growable.lost`; of levels, also a class that is in another coarse class."""
        if key != "levels":
            return super().lost(key, trained)
        for level, groups in trained.items():
            for coarse, names in groups.items():
                own = set(map(canonical, self.levels.get(level, {}).get(coarse, ())))
                for name in names:
                    if canonical(name) not in own:
                        return f"{name} in {coarse} of level {level}, which is not in the levels"
        return None

    def identity(self) -> dict[str, object]:
        """Return the levels and the classes."""
        return {"levels": self.levels, "classes": self.classes}

    @property
    def fields(self) -> tuple[str, ...]:
        """The column of classes, and one for each level."""
        return ("", *self.levels)

    def named_classes(self, cells: Sequence[str], field: str) -> list[Sequence[str]]:
        """Return the class of each cell; a coarse class is none."""
        return [] if field else [[cell] for cell in cells]

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Read ``(N, 1 + levels)`` cells: which classes are left, float32 ``(N, K)``, 0 or 1."""
        left = np.ones((len(cells), len(self.classes)), dtype=bool)
        labelled = np.zeros(len(cells), dtype=bool)
        bad = np.zeros(cells.shape, dtype=bool)
        inside = [np.eye(len(self.classes)), *(m.numpy().T for m in self._memberships())]
        names = [self._positions, *(_numbered(groups) for groups in self.levels.values())]
        for column, (members, positions) in enumerate(zip(inside, names, strict=True)):
            codes = class_positions(cells[:, column], positions)
            known = codes >= 0
            bad[:, column] = ~known & pd.notna(cells[:, column])
            meant = left & (members.astype(bool)[codes] | ~known[:, None])
            contradicted = ~meant.any(1)
            bad[:, column] |= contradicted
            left[~contradicted] = meant[~contradicted]
            labelled |= known & ~contradicted
        return Encoded(left.astype(np.float32), labelled, bad)

    def expected(self, cell: str) -> str:
        """Name the classes of a coarse class that contradicts the others, or what there is."""
        for groups in self.levels.values():
            names = {canonical(coarse): own for coarse, own in groups.items()}
            if cell in names:
                return (
                    f"labels of the image that agree, each in the column of its level: {cell} has "
                    f"the classes {listed(names[cell])}"
                )
        known = [*self.classes, *(coarse for own in self.levels.values() for coarse in own)]
        levels = "; ".join(f"{level}: {listed(own)}" for level, own in self.levels.items())
        hint = did_you_mean(cell, known) or if_missing(cell)
        return f"one of the classes {listed(self.classes)}, or in its column {levels}{hint}"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Do nothing: the loss needs no statistics."""

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Say if no training label tells the classes of a coarse class apart."""
        if (targets[labelled].astype(np.float32).sum(1) == 1).any():
            return []
        what = "no training image is labelled with a class, all with coarse classes"
        return [(what, "classes of one coarse class cannot be told apart; label some")]

    def strata(self, encoded: Encoded) -> NDArray[np.int64]:
        """Return the class of each row; where several are left, K more than the first."""
        left = encoded.targets.astype(bool)
        first = left.argmax(1) + np.where(left.sum(1) > 1, len(self.classes), 0)
        return np.where(encoded.labelled, first, -1)

    @property
    def average(self) -> Average:
        """The mean of probabilities; see `Task.average`."""
        return log_mean_softmax

    @property
    def num_outputs(self) -> int:
        """One logit per class."""
        return len(self.classes)

    @property
    def output_names(self) -> Sequence[str]:
        """The classes."""
        return self.classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Negative logarithm of the probability of the classes left: ``(B, K)`` -> ``(B,)``."""
        left = targets > 0
        left = left | ~left.any(1, keepdim=True)  # a missing label leaves all, or none would be NaN
        return -outputs.log_softmax(1).masked_fill(~left, -torch.inf).logsumexp(1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, ``(B, K)``, and for each level those of its coarse classes."""
        probabilities = self.probabilities(self.tempered(outputs))
        levels = zip(self.levels, self._memberships(), strict=True)
        coarse = {level: probabilities @ inside.to(probabilities) for level, inside in levels}
        return {"probabilities": probabilities, **coarse, **self.sets(probabilities)}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax."""
        return logits.softmax(1)

    def negative_log_likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, which is unweighted."""
        return self.loss(logits, targets)

    def truth(self, targets: Tensor) -> Tensor:
        """Return the class of each label, -1 where several are left."""
        left = targets > 0
        return torch.where(left.sum(1) == 1, left.float().argmax(1), -1)

    def metrics(self) -> MetricCollection:
        """Accuracy and balanced accuracy of the classes, and the accuracy of each level."""
        metric = HierarchyMetrics(len(self.classes), list(self.levels))
        metrics = {"hierarchy": metric, **self.calibration_metrics()}
        return MetricCollection(metrics, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with the probabilities of each level and what is left of it."""
        left = [targets, *(targets @ inside.to(targets) for inside in self._memberships())]
        found = [answers[name] for name in ("probabilities", *self.levels)]
        metrics.update(found, left, judged=self.judge(answers, targets, labelled))

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the most probable class, that of each level, and each class's probability."""
        probabilities = answers["probabilities"]
        columns = {"": np.asarray(self.classes, dtype=object)[probabilities.argmax(1)]}
        for level, groups in self.levels.items():
            columns[level] = np.asarray(list(groups), dtype=object)[answers[level].argmax(1)]
        columns |= {name: probabilities[:, i] for i, name in enumerate(self.classes)}
        return {**columns, **self.set_column(answers, self.classes)}

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Swap classes, also those that a coarse label leaves; see `Task.mirrored`."""
        order = swap_permutation(self.classes, pairs, "class")
        return replace(encoded, targets=encoded.targets[:, order])

    def class_counts(
        self, encoded: Encoded, groups: NDArray[np.integer], number: int
    ) -> dict[str, NDArray[np.int64]]:
        """Count each class where it is the only one left; see `Task.class_counts`."""
        known = encoded.labelled & (encoded.targets.astype(np.float32).sum(1) == 1)
        single = known[:, None] & encoded.targets.astype(bool)
        return {
            name: np.bincount(groups[single[:, i]], minlength=number)
            for i, name in enumerate(self.classes)
        }

    def plot_data(self) -> ConfusionPlotData | None:
        """Collect a confusion matrix of the rows of which a single class is left."""
        return _FinePlotData(self.classes) if len(self.classes) <= PLOTTED_UP_TO else None


class HierarchyMetrics(Metric):
    """Accuracy of the classes and of each coarser level, over rows whose label is that precise.

    Args:
        classes: Number of classes.
        levels: The names of the coarser levels.
    """

    full_state_update = False
    higher_is_better = True
    rows: Tensor
    hits: Tensor
    class_rows: Tensor
    class_hits: Tensor

    def __init__(self, classes: int, levels: Sequence[str]) -> None:
        super().__init__()
        self.levels = [FINE, *levels]
        for name, size in (("rows", len(self.levels)), ("class_rows", classes)):
            for state in (name, name.replace("rows", "hits")):
                zeros = torch.zeros(size, dtype=torch.long)
                self.add_state(state, zeros, dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """The names of the values that `compute` returns."""
        each = [f"{name}/{level}" for name in ("accuracy", "n_labelled") for level in self.levels]
        return ["accuracy", "balanced_accuracy", *each]

    def update(self, preds: Sequence[Tensor], left: Sequence[Tensor]) -> None:
        """Add ``(B, C)`` probabilities and how many classes are left in each of the C, by level."""
        for level, (probabilities, classes) in enumerate(zip(preds, left, strict=True)):
            known = (classes > 0).sum(1) == 1
            truth = classes[known].argmax(1)
            hit = probabilities[known].argmax(1) == truth
            self.rows[level] += known.sum()
            self.hits[level] += hit.sum()
            if level == 0:
                size = len(self.class_rows)
                self.class_rows += torch.bincount(truth, minlength=size)
                self.class_hits += torch.bincount(truth[hit], minlength=size)

    def compute(self) -> dict[str, Tensor]:
        """Return the values; NaN where no label is that precise."""
        accuracy = self.hits / self.rows
        occurs = self.class_rows > 0
        recalls = self.class_hits[occurs] / self.class_rows[occurs]
        values = {"accuracy": accuracy[0], "balanced_accuracy": recalls.mean()}
        for name, numbers in (("accuracy", accuracy), ("n_labelled", self.rows)):
            values |= {f"{name}/{lev}": n for lev, n in zip(self.levels, numbers, strict=True)}
        return values


class _FinePlotData(ConfusionPlotData):
    """Collects a confusion matrix of the rows of which a single class is left."""

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        single = (targets > 0).sum(1) == 1
        super().update(answers, targets, labelled & single, rows)


def _numbered(names: Mapping[str, object]) -> dict[str, int]:
    return {canonical(name): place for place, name in enumerate(names)}
