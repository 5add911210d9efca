"""Metrics over labelled rows only, whose states are sums.

Sums can be added up over ranks in any order, also by ranks that saw nothing, which lists of
predictions cannot; and they give the metric of the whole split, never a mean of batch means.
Where torchmetrics has a metric with such states, it is used; the others are here.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.float64 import has_float64
from mtl_lightning.tasks.label_metrics import BINS

CONFIDENCE_BINS = 15
"""Bins of equal width of the probability of an answer."""


class BalancedAccuracy(Metric):
    """Mean recall over the classes that occur, as scikit-learn's ``balanced_accuracy_score``.

    (torchmetrics' macro accuracy counts a class that does not occur but is predicted as 0.)

    Args:
        num_classes: Number of classes.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    support: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        zeros = torch.zeros(num_classes, dtype=torch.long)
        self.add_state("hits", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("support", zeros.clone(), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, K)`` probabilities and ``(B,)`` int64 classes."""
        k = len(self.support)
        self.support += torch.bincount(target, minlength=k)
        self.hits += torch.bincount(target[preds.argmax(1) == target], minlength=k)

    def compute(self) -> Tensor:
        """Return the mean recall, a scalar."""
        occurs = self.support > 0
        return (self.hits[occurs] / self.support[occurs]).mean()


class TopAccuracy(Metric):
    """Share of rows whose label is among the k most probable classes.

    Args:
        k: Number of classes; of equally probable ones, the label is the first.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    rows: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        for name in ("hits", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, K)`` probabilities and ``(B,)`` int64 classes."""
        more = (preds > preds.gather(1, target[:, None])).sum(1)
        self.hits += (more < self.k).sum()
        self.rows += target.numel()

    def compute(self) -> Tensor:
        """Return the share, a scalar."""
        return self.hits / self.rows


def confidence_bins(
    confidence: Tensor, right: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of each bin of the confidence, those that are right, and their confidence.

    Args:
        confidence: ``(n,)``, in 0..1.
        right: ``(n,)`` bool.
        dtype: That of the sums of the confidence.

    Returns:
        Three tensors ``(CONFIDENCE_BINS,)``; the first two are int64.
    """
    # Bins are (a, b], as in the paper, so that a confidence of exactly 1 is in the last.
    bins = ((confidence * CONFIDENCE_BINS).ceil().long() - 1).clamp(0, CONFIDENCE_BINS - 1)
    return (
        torch.bincount(bins, minlength=CONFIDENCE_BINS),
        torch.bincount(bins[right], minlength=CONFIDENCE_BINS),
        torch.bincount(bins, weights=confidence.to(dtype), minlength=CONFIDENCE_BINS),
    )


class CalibrationError(Metric):
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017, eq. 5).

    (torchmetrics' keeps every prediction in a list.)
    """

    full_state_update = False
    higher_is_better = False
    rows: Tensor
    confidence: Tensor
    hits: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "hits"):
            zeros = torch.zeros(CONFIDENCE_BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        # float64, so that the result does not depend on the order in which ranks are added
        confidence = torch.zeros(CONFIDENCE_BINS, dtype=torch.float64)
        self.add_state("confidence", confidence, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, K)`` probabilities and ``(B,)`` int64 classes."""
        confidence, answer = preds.max(1)
        self.add(confidence, answer == target)

    def add(self, confidence: Tensor, right: Tensor) -> None:
        """Add ``(n,)`` probabilities of answers, and whether they were right."""
        rows, hits, sums = confidence_bins(confidence, right, self.confidence.dtype)
        self.rows += rows
        self.hits += hits
        self.confidence += sums

    def compute(self) -> Tensor:
        """Return the mean over rows of ``|accuracy - confidence|`` of their bin, a scalar."""
        return (self.hits - self.confidence).abs().sum() / self.rows.sum()


class SharedAnswers(Metric):
    """Accuracy where a label may be shared by classes, and its mean over the surest answers.

    ``shared_ap`` is the score of FashionAI's "Attributes Recognition of Apparel" (Tianchi, 2018),
    there averaged over tasks. Its labels list further classes that may apply. For each answer,
    take the accuracy of all answers that are at least as confident; the score is the mean of these
    accuracies over all answers. By its rules an answer that may apply is neither right nor wrong.

    Args:
        skip: Whether an answer that has a share in the label, but not the largest, is neither
            right nor wrong; otherwise it is right.
    """

    full_state_update = False
    higher_is_better = True
    names = ("shared_accuracy", "shared_ap")
    rows: Tensor
    hits: Tensor
    skipped: Tensor

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        for name in ("rows", "hits", "skipped"):
            self.add_state(name, torch.zeros(BINS, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, shares: Tensor | None = None) -> None:
        """Add ``(B, K)`` probabilities, ``(B,)`` classes, and their ``(B, K)`` shares.

        Without shares, the class has all of the label.
        """
        confidence, answer = preds.max(1)
        hit = answer == target
        skipped = torch.zeros_like(hit)
        if shares is not None:
            own = shares.gather(1, answer[:, None]).squeeze(1)
            hit = own > 0
            skipped = hit & (own < shares.amax(1)) & self.skip
        bins = (confidence * BINS).long().clamp(0, BINS - 1)
        for state, these in (
            (self.rows, ~skipped),
            (self.hits, hit & ~skipped),
            (self.skipped, skipped),
        ):
            state += torch.bincount(bins[these], minlength=BINS)

    def compute(self) -> dict[str, Tensor]:
        """Return ``shared_accuracy`` and ``shared_ap``; NaN if every row was skipped."""
        # From the most confident down; on the CPU, since not every device has float64.
        rows, hits, skipped = (
            state.flip(0).cpu().double() for state in (self.rows, self.hits, self.skipped)
        )
        after = rows.cumsum(0)
        before = after - rows
        # The rows within one of the 1000 bins of confidence have no order: each of them is right
        # with their mean accuracy. So the k-th row overall adds mean + rest / k to the sum.
        mean = hits / rows.clamp(min=1)
        rest = hits.cumsum(0) - hits - mean * before
        sums = mean * rows + rest * (torch.digamma(after + 1) - torch.digamma(before + 1))
        # A skipped row adds nothing, but is a threshold too once there is an answer above it.
        at_skipped = torch.where(rows > 0, sums / rows, hits.cumsum(0) / before)
        counted = skipped * (after > 0)
        total = sums.sum() + (at_skipped.nan_to_num() * counted).sum()
        return {
            "shared_accuracy": hits.sum() / rows.sum(),
            "shared_ap": total / (rows + counted).sum(),
        }


class R2(Metric):
    """Coefficient of determination, 1 - residual / total sum of squares.

    (torchmetrics' version adds squares of raw values in float32, which cancels for labels far from
    0, and raises an error for a single row.) NaN if the labels do not vary.
    """

    full_state_update = False
    higher_is_better = True
    rows: Tensor
    value: Tensor
    square: Tensor
    residual: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "value", "square", "residual"):
            zero = torch.zeros((), dtype=torch.float64)
            self.add_state(name, zero, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, origin: Tensor | None = None) -> None:
        """Add ``(B,)`` predictions and targets in the same unit.

        Args:
            preds: The predictions.
            target: The targets.
            origin: A number near the targets, the same in each call: their squares are sums of
                distances from it, and do not cancel.
        """
        preds, target = preds.to(self.value.dtype), target.to(self.value.dtype)
        if origin is not None:
            preds, target = preds - origin.to(preds), target - origin.to(target)
        self.rows += target.numel()
        self.value += target.sum()
        self.square += target.square().sum()
        self.residual += (preds - target).square().sum()

    def compute(self) -> Tensor:
        """Return R2, a scalar; NaN where it is undefined."""
        total = self.square - self.value.square() / self.rows
        undefined = (self.rows < 2) | (total <= 1e-12 * self.square)
        return torch.where(undefined, torch.nan, 1 - self.residual / total)


class TaskMetrics(nn.Module):
    """All measurements of one task over one split: its metrics, mean loss and number of rows.

    Args:
        task: The task; only its metrics are kept.
        primary_only: Compute only the primary metric, as in each training step: the others
            cost half a millisecond per task and step.
    """

    def __init__(self, task: Task, primary_only: bool = False) -> None:
        super().__init__()
        self.metrics = task.metrics()
        if primary_only and task.primary in self.metrics:
            primary = self.metrics[task.primary]
            self.metrics = MetricCollection({task.primary: primary}, compute_groups=False)
        self.totals = Totals()

    def update(
        self, task: Task, outputs: Tensor, targets: Tensor, labelled: Tensor, loss: Tensor
    ) -> None:
        """Add a batch; ``loss`` is `Task.step_loss`."""
        self.totals.update(loss, labelled, task.loss_terms(labelled))
        rows = labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled
        found = rows.nonzero()[:, 0]  # once: on a GPU each use of a mask would wait for it
        if len(found):
            answers = task.measured(outputs[found])
            task.update(self.metrics, answers, targets[found], labelled[found])

    def compute(self) -> dict[str, float]:
        """Return ``n_labelled`` and, unless it is 0 over all ranks, the loss and the metrics."""
        with warnings.catch_warnings():
            # A rank that saw no labelled row takes part in the sum over ranks like any other.
            warnings.filterwarnings("ignore", message=".*``compute`` method.*")
            loss, rows, terms = self.totals.compute().tolist()
            if not rows:
                return {"n_labelled": 0}
            values: dict[str, Any] = self.metrics.compute()
        return {
            "n_labelled": int(rows),
            "loss": loss / terms,
            **{name: float(value) for name, value in values.items()},
        }

    def reset(self) -> None:
        """Reset the metrics and the totals."""
        self.metrics.reset()
        self.totals.reset()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TaskMetrics":
        if not has_float64(fn):
            for metric in self.modules():
                if isinstance(metric, Metric):
                    metric.set_dtype(torch.float32)

        def moved(tensor: Tensor) -> Tensor:
            # `precision: bf16-true` casts the whole model; sums in bfloat16 stop growing at 256.
            return fn(tensor).to(tensor.dtype)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        return self


class Totals(Metric):
    """The sum of a loss, and the numbers of labelled rows (or cells) and of terms behind it."""

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, labelled: Tensor, terms: Tensor) -> None:
        """Add a batch: the summed loss, a scalar, its mask, and its number of terms."""
        added = (loss.detach(), labelled.sum(), terms)
        self.sums += torch.stack([value.to(self.sums) for value in added])

    def compute(self) -> Tensor:
        """Return ``(loss, rows, terms)``."""
        return self.sums
