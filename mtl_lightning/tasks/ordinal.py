"""One class out of several that have an order, such as age bands, sizes or grades."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa

from mtl_lightning.models.features import FeatureSpec
from mtl_lightning.models.heads import HeadOptions, build_head
from mtl_lightning.models.members import Average, log_mean_sigmoid, log_mean_softmax
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.cells import canonical
from mtl_lightning.tasks.classification import PLOTTED_UP_TO, Classification, most_probable
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from mtl_lightning.tasks.ranks import by_rank


class Ordinal(Classification):
    """Ordered classes, for which K - 1 thresholds are learned: is the label above class k?

    With K classes of ranks 0..K-1, the network learns K - 1 yes/no questions "is the rank above
    k?" (or, with ``squared``, a softmax). Its answer is the median of the probabilities of the
    classes: the lowest rank that the label is above with a probability of at most 0.5.

    Args:
        classes: The class names, lowest first; compared with the labels as text. By default, the
            training labels in order if they are numbers, bands of numbers (``0-9``, ``10-19``,
            ``70+``) or sizes (``S``, ``M``, ``L``).
        method: ``corn``: each question is asked only of rows above the previous class, so that
            probabilities are products (Shi, Cao and Raschka 2021, "Deep Neural Networks for
            Rank-Consistent Ordinal Regression Based On Conditional Probabilities"). ``coral``: the
            questions share one weight vector and differ in their biases (Cao, Mirjalili and
            Raschka 2020, "Rank consistent ordinal regression for neural networks with application
            to age estimation"). ``squared``: a softmax, whose target falls off with the squared
            distance of the ranks (Díaz and Marathe 2019, "Soft Labels for Ordinal Regression").
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "quadratic_kappa"

    def __init__(
        self,
        classes: list[str] | None = None,
        method: Literal["corn", "coral", "squared"] = "corn",
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(classes, weight=weight, head=head)
        self.method = method

    def _ordered(self, classes: Sequence[str]) -> list[str]:
        ordered = by_rank(classes)
        if ordered is None:
            raise UserError(
                f"classes should be listed, lowest first, as the labels are neither numbers, bands "
                f"of numbers (0-9, 10-19) nor sizes (S, M, L). Found {listed(sorted(classes))}"
            )
        return ordered

    def hint(self) -> tuple[str, str] | None:
        """Return nothing: the order of the classes is known."""
        return None

    def identity(self) -> dict[str, object]:
        """Return the method, which decides what outputs mean, and the classes, if known."""
        return {"method": self.method, **super().identity()}

    @property
    def average(self) -> Average:
        """The mean of probabilities, for ``corn`` of conditional ones; see `Task.average`."""
        return log_mean_softmax if self.method == "squared" else log_mean_sigmoid

    @property
    def num_outputs(self) -> int:
        """One logit per threshold between two classes, or per class with ``squared``."""
        return max(len(self.classes) - (self.method != "squared"), 0)

    @property
    def output_names(self) -> Sequence[str]:
        """The two classes on either side of each threshold, or the classes with ``squared``."""
        if self.method == "squared":
            return self.classes
        return [f"{low} | {high}" for low, high in pairwise(self.classes)]

    def lost(self, key: str, trained: Any) -> str | None:
        """See `Growable.lost`; the classes there should keep their order, too."""
        found = super().lost(key, trained)
        if found is None and key == "classes":
            known = [canonical(name) for name in trained]
            if [c for c in map(canonical, self.classes) if c in known] != known:
                return f"another order of the classes: {listed(trained)}"
        return found

    def grown_rows(self, fresh: Tensor, saved: Tensor, were: Sequence[int | None]) -> Tensor:
        """See `Growable.grown_rows`; new biases of ``coral`` are between or beyond the others.

        They are sorted in use, so a bias that is not in its place would move all others.
        """
        if self.method != "coral":
            return super().grown_rows(fresh, saved, were)
        known = saved.sort(descending=True).values
        kept = {
            place: known[before].item() for place, before in enumerate(were) if before is not None
        }
        if not kept:
            return fresh - fresh.mean() + known.mean()
        first, last = min(kept), max(kept)
        places = np.arange(len(fresh))
        rows = np.interp(places, list(kept), list(kept.values()))
        rows += np.maximum(first - places, 0) - np.maximum(places - last, 0)  # a step of 1 beyond
        return torch.from_numpy(rows).to(fresh)

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        """Make the usual head, for ``coral`` with one output and a bias for each threshold."""
        if self.method != "coral":
            return super().head(features, defaults)
        head = build_head(features, 1, self.head_options.over(defaults), self.average)
        return head.append(Thresholds(self.num_outputs))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row: ``(B, num_outputs)`` logits -> ``(B,)``.

        Targets are ``(B,)`` int64 classes or ``(B, K)`` floating distributions. ``corn``: the
        negative log-likelihood of the label, which is the sum over the questions asked about
        it (eq. 6 of the paper; there divided by the questions of the batch, here by the labelled
        rows of the step). ``coral``: the sum of the cross-entropies of all questions (eq. 4).
        """
        k = len(self.classes)
        shares = targets if targets.is_floating_point() else F.one_hot(targets, k)
        shares = shares.to(outputs.dtype)
        if self.method == "corn":
            return -(shares * _log_probabilities(outputs)).sum(1)
        if self.method == "coral":
            above = 1 - shares.cumsum(1)[:, :-1]
            return F.binary_cross_entropy_with_logits(outputs, above, reduction="none").sum(1)
        rank = torch.arange(k, device=outputs.device)
        distances = (rank[:, None] - rank).square().to(outputs.dtype)
        return F.cross_entropy(outputs, shares @ (-distances).softmax(1), reduction="none")

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, ``(B, K)``, and ``rank``, ``(B,)`` int64: their median.

        With a calibration, the rank stays that of the probabilities without it.
        """
        answers = super().predict(outputs)
        raw = answers["probabilities"] if self.calibration is None else self.raw(outputs)
        return {**answers, "rank": (raw.cumsum(1)[:, :-1] < 0.5).sum(1)}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the products of conditional probabilities, differences, or the softmax."""
        if self.method == "corn":
            return _log_probabilities(logits).exp()
        if self.method == "coral":
            above = F.pad(F.pad(logits.sigmoid(), (1, 0), value=1.0), (0, 1))
            return above[:, :-1] - above[:, 1:]
        return logits.softmax(1)

    def negative_log_likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the negative logarithm of the probability of the label."""
        shares = targets if targets.is_floating_point() else F.one_hot(targets, len(self.classes))
        logarithms = self.probabilities(logits).clamp(min=torch.finfo(logits.dtype).tiny).log()
        return -(shares * logarithms).sum(1)

    def chosen(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the ranks."""
        return answers["rank"]

    def metrics(self) -> MetricCollection:
        """Accuracy, accuracy within one rank, mean error in ranks, quadratic-weighted kappa."""
        k = len(self.classes)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(k, average="micro", validate_args=False),
                "within_one": WithinOne(),
                "rank_mae": MeanAbsoluteError().set_dtype(torch.float64),
                "quadratic_kappa": QuadraticKappa(k, weights="quadratic", validate_args=False),
                **self.calibration_metrics(),
            },
            compute_groups=False,
        )

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with ranks; a distribution counts as its most probable class."""
        judged = self.judge(answers, targets, labelled)
        metrics.update(answers["rank"], most_probable(targets), judged=judged)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the class of the answer's rank and the probability of each class."""
        chosen = np.asarray(self.classes, dtype=object)[answers["rank"]]
        return {**super().columns(answers), "": chosen}

    def plot_data(self) -> ConfusionPlotData | None:
        """Collect a confusion matrix in the order of the ranks."""
        return _RankPlotData(self.classes) if len(self.classes) <= PLOTTED_UP_TO else None


class Thresholds(nn.Module):
    """Adds a bias for each threshold to one score, so that the logits fall from class to class.

    By theorem 1 of CORAL, the biases of a minimum are in this order; until it is reached they are
    sorted, so that no probability is negative.

    Args:
        thresholds: Number of thresholds.
    """

    def __init__(self, thresholds: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.linspace(1, -1, thresholds))

    def forward(self, scores: Tensor) -> Tensor:
        """Return ``(B, thresholds)`` logits of ``(B, 1)`` scores."""
        return scores + self.bias.sort(descending=True).values


class WithinOne(Metric):
    """Share of rows whose answer is the label's rank or an adjacent one."""

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("hits", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B,)`` int64 ranks."""
        self.hits += ((preds - target).abs() <= 1).sum()
        self.rows += target.numel()

    def compute(self) -> Tensor:
        """Return the share, a scalar."""
        return self.hits / self.rows


class QuadraticKappa(MulticlassCohenKappa):
    """Cohen's kappa in double precision: in single, chance agreement is up to 1e-7 away from 0."""

    def compute(self) -> Tensor:
        """Return the kappa, a scalar float32."""
        counts = self.confmat
        self.confmat = counts.cpu().double()
        kappa = super().compute().to(counts.device, torch.float32)
        self.confmat = counts
        return kappa


class _RankPlotData(ConfusionPlotData):
    """Collects a confusion matrix of ranks."""

    def chosen(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the ranks."""
        return answers["rank"]


def _log_probabilities(logits: Tensor) -> Tensor:
    """Return the log-probabilities of K classes from ``(B, K - 1)`` conditional logits (CORN)."""
    above = F.pad(F.logsigmoid(logits).cumsum(1), (1, 0))
    return above + F.pad(F.logsigmoid(-logits), (0, 1))
