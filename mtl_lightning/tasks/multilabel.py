"""Many yes/no labels in one head, each of which may be missing on its own."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal
from unicodedata import normalize

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.models.members import Average, log_mean_sigmoid
from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted
from mtl_lightning.tasks.base import Encoded, if_missing
from mtl_lightning.tasks.calibratable import Judged
from mtl_lightning.tasks.calibration import Calibration, label_threshold
from mtl_lightning.tasks.cells import NONE, canonical, items
from mtl_lightning.tasks.frequency import (
    MOST_WEIGHT,
    ByFrequency,
    bounded,
    check_beta,
    positive_ratios,
)
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.tasks.label_metrics import LabelMetrics
from mtl_lightning.tasks.losses import asymmetric
from mtl_lightning.tasks.mirroring import swap_permutation
from mtl_lightning.tasks.plot_data import LabelPlotData
from mtl_lightning.tasks.probability_task import ProbabilityTask
from mtl_lightning.tasks.unobserved import Assumption, Unobserved

YES = frozenset({"1", "yes", "y", "true", "t", "positive", "+"})
NO = frozenset({"0", "-1", "no", "n", "false", "f", "negative"})
YES_OR_NO = YES | NO
MOST = 10.0  # larger exponents are mistakes: no cell would count
CERTAIN = 10  # yes, and not a single no: that is how labels were written down


class MultiLabel(ProbabilityTask):
    """A sigmoid for each label, trained with binary cross-entropy.

    Labels come from one column each (``yes``/``no``, ``true``/``false``, ``1``/``0`` or ``-1``; if
    a cell is empty, this label is missing and the others count), or from one column of separated
    names (``hat;bag``: these two yes, all others no; ``none``: all no; empty: all missing).

    Args:
        labels: Their names, in the order of the outputs.
        unobserved: The part that an empty cell has in the training loss, in a row with another
            label of the task: ``ignore``, ``negative`` or ``negative_smoothed``; see
            `unobserved.Unobserved`. An assumed cell weighs 1 and is no label: it is in no count,
            weight or metric.
        unobserved_smoothing: The smoothing of ``negative_smoothed`` (0..1).
        pos_weights: The weight of a positive relative to a negative, one number per label; or by
            frequency in the label's training labels, up to 100: ``balanced``, how many times more
            frequent negatives are; ``sqrt``, the square root of that; ``effective``, by the
            effective number of samples; see `frequency.ByFrequency`. The weights of each label
            are scaled so that their mean over its training labels is 1.
        beta: The parameter of ``effective``, between 0 (equal weights) and 1 (``balanced``).
        loss: ``bce``, binary cross-entropy; or ``asymmetric``, in which easy negatives count
            little and very easy ones nothing (Ridnik et al. 2021, "Asymmetric Loss For
            Multi-Label Classification").
        gamma_positive: The exponent of (1 - p) in the asymmetric loss of a positive, in 0..10.
        gamma_negative: The exponent of p - margin in that of a negative, in 0..10.
        margin: The probability up to which a negative has no asymmetric loss, in 0..1.
        separator: The separator of names in a column of names.
        precision: The precision that each label should have at its threshold, which is chosen on
            ``val`` for the highest recall; by default, for the best F1. See `calibration`.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "mean_ap"
    growing: ClassVar[tuple[str, ...]] = ("labels",)
    positive_weight: Tensor
    negative_weight: Tensor

    def __init__(
        self,
        labels: list[str],
        unobserved: Unobserved = "ignore",
        pos_weights: list[float] | ByFrequency | None = None,
        separator: str = ";",
        beta: float = 0.999,
        loss: Literal["bce", "asymmetric"] = "bce",
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        unobserved_smoothing: float = 0.1,
        precision: float | None = None,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(weight, head)
        self.labels = [normalize("NFC", str(label)) for label in labels]
        self._positions = {canonical(label): number for number, label in enumerate(self.labels)}
        wrong = [label for label in self.labels if not label or "/" in label or separator in label]
        if not self.labels or len(self._positions) < len(self.labels) or wrong:
            raise UserError(
                f'labels should be different names without "/" and "{separator}". '
                f"Found {listed(self.labels) or 'none'}"
            )
        if isinstance(pos_weights, list) and (
            len(pos_weights) != len(labels) or not min(pos_weights) > 0
        ):
            raise UserError(
                f"pos_weights should have a number above 0 for each of the {len(labels)} labels "
                f"({listed(self.labels)}). Found {pos_weights}"
            )
        check_beta(beta)
        for name, value in (("gamma_positive", gamma_positive), ("gamma_negative", gamma_negative)):
            if not 0 <= value <= MOST:
                raise UserError(f"{name} should be in 0..{MOST:g}. Found {value}")
        if not 0 <= margin < 1:
            raise UserError(f"margin should be in 0..1 (1 excluded). Found {margin}")
        if precision is not None and not 0 < precision <= 1:
            raise UserError(f"precision should be above 0, up to 1. Found {precision}")
        self.precision = precision
        self.loss_name = loss
        self.gammas = gamma_positive, gamma_negative
        self.margin = margin
        self.assumption = Assumption(unobserved, unobserved_smoothing)
        self.pos_weights = pos_weights
        self.beta = beta
        self.separator = separator
        self.register_buffer("positive_weight", torch.ones(len(labels)))
        self.register_buffer("negative_weight", torch.ones(len(labels)))

    def identity(self) -> dict[str, object]:
        """Return the labels."""
        return {"labels": self.labels}

    @property
    def assumes_labels(self) -> bool:
        """Whether cells without a label count as one, in rows with a label."""
        return not self.assumption.ignores

    @property
    def fields(self) -> tuple[str, ...]:
        """The column of separated names, and a column for each label."""
        return ("", *self.labels)

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Read ``(N, 1 + L)`` cells: float32 targets and masks, both ``(N, L)``."""
        codes, distinct = pd.factorize(cells[:, 0])  # few distinct texts, many rows
        positions = self._positions
        answers = np.zeros((len(distinct) + 1, len(self.labels)), dtype=np.float32)
        known = np.zeros(len(distinct) + 1, dtype=bool)  # the last is for empty cells
        for code, text in enumerate(distinct):
            names = self._names(text)
            known[code] = all(name in positions for name in names)
            answers[code, [positions[name] for name in names if name in positions]] = known[code]
        targets = answers[codes]
        labelled = np.repeat(known[codes][:, None], len(self.labels), axis=1)
        bad = np.zeros(cells.shape, dtype=bool)
        bad[:, 0] = (codes >= 0) & ~known[codes]
        for number in range(len(self.labels)):
            self._read_column(cells[:, number + 1], number, targets, labelled, bad)
        return Encoded(targets, labelled, bad, assumed=self.assumes_labels)

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return the names in a cell, or whether the label applies."""
        if not field:
            return frozenset(self._names(cell))
        word = cell.lower()
        return word in YES if word in YES_OR_NO else cell

    def named_classes(self, cells: Sequence[str], field: str) -> list[Sequence[str]]:
        """Return the labels that apply."""
        if not field:
            return [list(dict.fromkeys(self._names(cell))) for cell in cells]
        return [[field] if cell.lower() in YES else [] for cell in cells]

    def doubt(self, cells: Collection[str], field: str) -> tuple[str, str] | None:
        """Return -1 if another word means no, since -1 means "not known" in some tables."""
        words = {cell.lower() for cell in cells} if field else set()
        others = sorted(words & NO - {"-1"})
        if "-1" not in words or not others:
            return None
        return "-1", (
            f"next to {quoted(others[0])} may mean no, or not labelled; settle it in the "
            "source: `values: {-1: no}`, or `missing: [-1]`"
        )

    def _read_column(
        self,
        column: NDArray[np.object_],
        number: int,
        targets: NDArray[np.float32],
        labelled: NDArray[np.bool_],
        bad: NDArray[np.bool_],
    ) -> None:
        codes, distinct = pd.factorize(column)
        words = [canonical(text).lower() for text in distinct]
        known = np.array([word in YES_OR_NO for word in words] + [False])[codes]
        answers = np.array([word in YES for word in words] + [False], dtype=np.float32)[codes]
        # The column of names may have the label too; a contradiction is bad.
        contradicted = known & labelled[:, number] & (targets[:, number] != answers)
        bad[:, number + 1] = (codes >= 0) & ~known | contradicted
        targets[known, number] = answers[known]
        labelled[:, number] |= known

    def _names(self, text: str) -> list[str]:
        found = items(text, self.separator)
        return [name for name in found if name != NONE or NONE in self.labels]

    def expected(self, cell: str) -> str:
        """Describe what a column of names, or of one label, may hold."""
        unknown = [name for name in self._names(cell) if name not in self._positions]
        hint = did_you_mean(unknown[0], self.labels) if unknown else ""
        return (
            f'names out of {listed(self.labels)}, separated by "{self.separator}", in the task\'s '
            f"column{hint}; or yes or no (true, false, 1, 0) in a label's own, not contradicting it"
            f"{if_missing(cell)}"
        )

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute the weights of positives and negatives; their mean over each label is 1."""
        counts = labelled.sum(0)
        if not counts.all():
            missing = [name for name, n in zip(self.labels, counts, strict=True) if not n]
            raise UserError(
                f"no training label of {listed(missing)}, which could never be learned; "
                f"label some or leave it out of labels"
            )
        if self.pos_weights is None:
            return
        positive = ((targets > 0.5) & labelled).sum(0).double()
        negative = counts - positive
        given = self.pos_weights
        if isinstance(given, list):
            ratio = torch.tensor(given, dtype=torch.float64)
        else:
            ratio = positive_ratios(positive, negative, given, self.beta)
        mean = (ratio * positive + negative) / counts
        self.positive_weight.copy_(ratio / mean)
        self.negative_weight.copy_(1 / mean)

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Name the labels that nobody denied, and those so rare that their weight is bounded."""
        yes = torch.from_numpy((targets.astype(np.float32) > 0.5) & labelled).sum(0)
        known = torch.from_numpy(labelled).sum(0)
        return [*self._only_positives(yes, known, len(labelled)), *self._bounded(yes, known)]

    def _only_positives(self, yes: Tensor, known: Tensor, rows: int) -> list[tuple[str, str]]:
        """Name the labels of which only yes was written down, if their other cells are ignored."""
        if self.assumes_labels:
            return []
        only = (yes == known) & (yes >= CERTAIN) & (known < rows)
        names = [self.labels[i] for i in only.nonzero()[:, 0].tolist()]
        if not names:
            return []
        empty = int((rows - known)[only].sum())
        what = (
            f"only yes was written down for {listed(names, 5)}, and the {empty:,} empty cells of "
        )
        what += "images with another label are ignored"
        how = "if they mean no: unobserved: negative; if some mean yes: negative_smoothed"
        return [(what, how)]

    def _bounded(self, yes: Tensor, known: Tensor) -> list[tuple[str, str]]:
        """Name the labels so rare that their weight by frequency is bounded."""
        by = self.pos_weights
        if by is None or isinstance(by, list):
            return []
        over = bounded(yes, known - yes, by, self.beta)
        rare = [
            f"{self.labels[i]} ({int(yes[i]):,} of {int(known[i]):,})"
            for i in over.nonzero()[:, 0].tolist()
        ]
        if not rare:
            return []
        what = f"pos_weights: {by} is bounded at {MOST_WEIGHT:g} for "
        return [(what + listed(rare, 5), "label more of them, or leave them out")]

    @property
    def average(self) -> Average:
        """The mean of probabilities; see `Task.average`."""
        return log_mean_sigmoid

    @property
    def num_outputs(self) -> int:
        """One logit per label."""
        return len(self.labels)

    @property
    def output_names(self) -> Sequence[str]:
        """The labels."""
        return self.labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each cell: ``(B, L)`` logits and targets -> ``(B, L)``."""
        targets = targets.to(outputs.dtype)
        losses = self._unweighted(outputs, targets)
        if self.pos_weights is None:
            return losses
        weights = torch.where(targets > 0.5, self.positive_weight, self.negative_weight)
        return losses * weights.to(losses.dtype)

    def _unweighted(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss_name == "asymmetric":
            return asymmetric(outputs, targets, *self.gammas, self.margin)
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def step_loss(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the sum over labelled and, in training mode, assumed cells; see `Task.step_loss`.

        Assumed cells weigh 1: they are not in the statistics that the weights come from.
        """
        if not self.assumes_labels or not self.training:
            return self.masked_loss(outputs, targets, labelled)
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        own = self.masked_loss(outputs, self.assumption.smoothed(targets), labelled)
        return own + self.assumption.losses(outputs, labelled, self._unweighted).sum()

    def loss_terms(self, labelled: Tensor) -> Tensor:
        """Return the number of labelled and, in training mode, assumed cells."""
        if not self.assumes_labels or not self.training:
            return labelled.sum()
        return labelled.any(1).sum() * labelled.shape[1]

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, ``(B, L)``, and calibrated ``applies``, ``(B, L)`` bool."""
        probabilities = self.probabilities(self.tempered(outputs))
        answers = {"probabilities": probabilities}
        if self.calibration is not None and self.calibration.thresholds:
            thresholds = probabilities.new_tensor(self.calibration.thresholds)
            answers["applies"] = probabilities >= thresholds
        return answers

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid, ``(B, L)``."""
        return logits.sigmoid()

    def negative_log_likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of each cell."""
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")

    def truth(self, targets: Tensor) -> Tensor:
        """Return whether each label applies, ``(B, L)`` int64."""
        return (targets > 0.5).long()

    def decisions(
        self, probabilities: Tensor, targets: Tensor, labelled: Tensor, coverage: float
    ) -> Calibration:
        """Fit the threshold of each label; see `label_threshold`."""
        del coverage
        thresholds = [
            label_threshold(own[known], target[known] > 0.5, self.precision)
            for own, target, known in zip(probabilities.T, targets.T, labelled.T, strict=True)
        ]
        return Calibration(thresholds=tuple(thresholds))

    def mistakes(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return how improbable the least probable of the labels is that are answered wrongly."""
        answers = self.predict(outputs)
        surprise = self.negative_log_likelihood(self.tempered(outputs), targets)
        applies = answers.get("applies", answers["probabilities"] >= 0.5)
        wrong = labelled & (applies != self.truth(targets).bool())
        return torch.where(wrong, surprise, 0).amax(1)

    def doubts(self, outputs: Tensor) -> Tensor:
        """Return how close the probabilities are to their thresholds, in the mean over labels."""
        probabilities = self.predict(outputs)["probabilities"]
        thresholds = probabilities.new_tensor(0.5)
        if self.calibration is not None and self.calibration.thresholds:
            thresholds = probabilities.new_tensor(self.calibration.thresholds)
        room = torch.where(probabilities >= thresholds, 1 - thresholds, thresholds)
        certain = torch.where(room > 0, (probabilities - thresholds).abs() / room, 1)
        return (1 - certain).mean(1)

    def judge(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor
    ) -> Judged | None:
        """Compare yes or no, whichever is more probable, with each label; see `Task.judge`."""
        if "raw" not in answers:
            return None
        yes, before = answers["probabilities"][labelled], answers["raw"][labelled]
        return Judged(
            confidence=torch.maximum(yes, 1 - yes),
            before=torch.maximum(before, 1 - before),
            right=(yes >= 0.5) == (targets[labelled] > 0.5),
        )

    def metrics(self) -> MetricCollection:
        """Average precision, F1, accuracy and mA, per label and as means."""
        metrics = {"labels": LabelMetrics(self.labels), **self.calibration_metrics()}
        return MetricCollection(metrics, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with probabilities and the mask of cells.

        Average precision is of the probabilities without a calibration, which does not change their
        order: as in training, equal ones are those of one of 1000 bins.
        """
        raw = answers.get("raw", answers["probabilities"])
        applies = answers.get("applies", raw >= 0.5)
        judged = self.judge(answers, targets, labelled)
        metrics.update(raw, targets, labelled, applies=applies, judged=judged)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the labels that apply, and the probability of each.

        Without a calibration, those apply that are at least as likely as not.
        """
        probabilities = answers["probabilities"]
        names = np.asarray(self.labels, dtype=object)
        applies = answers.get("applies", probabilities >= 0.5)
        applying = [self.separator.join(names[row]) or NONE for row in applies]
        columns = {name: probabilities[:, i] for i, name in enumerate(self.labels)}
        return {"": np.asarray(applying, dtype=object)} | columns

    def guess(self, outputs: Tensor, others: Tensor | None, soft: bool) -> Guess:
        """Guess yes or no for each label, or its probability; see `Task.guess`.

        The number of "no" for label i is 2i, that of "yes" 2i + 1.
        """
        del others
        probabilities = self.predict(outputs)["probabilities"]
        yes = probabilities >= 0.5
        targets = probabilities if soft else yes.to(probabilities.dtype)
        return Guess(
            targets, torch.where(yes, probabilities, 1 - probabilities), self._numbers(yes)
        )

    @property
    def num_class_numbers(self) -> int:
        """Yes and no for each label."""
        return 2 * len(self.labels)

    def class_numbers(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of "yes" for some labels; see `Task.class_numbers`."""
        for name in names:
            if canonical(name) not in self._positions:
                raise UserError(
                    f"labels should be some of {listed(self.labels)}. Found {quoted(name)}"
                    f"{did_you_mean(name, self.labels)}"
                )
        return [2 * self._positions[canonical(name)] + 1 for name in names]

    def label_classes(self, targets: Tensor) -> Tensor:
        """Return the number of "yes" or "no" in each cell, ``(B, L)``."""
        return self._numbers(targets > 0.5)

    def _numbers(self, yes: Tensor) -> Tensor:
        return 2 * torch.arange(len(self.labels), device=yes.device) + yes

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Swap labels, and with them whether each is present; see `Task.mirrored`."""
        order = swap_permutation(self.labels, pairs, "label")
        return replace(
            encoded, targets=encoded.targets[:, order], labelled=encoded.labelled[:, order]
        )

    def class_counts(
        self, encoded: Encoded, groups: NDArray[np.integer], number: int
    ) -> dict[str, NDArray[np.int64]]:
        """Count each label where it applies; see `Task.class_counts`."""
        applies = encoded.labelled & (encoded.targets.astype(np.float32) > 0.5)
        return {
            label: np.bincount(groups[applies[:, i]], minlength=number)
            for i, label in enumerate(self.labels)
        }

    def plot_data(self) -> LabelPlotData:
        """Collect the histograms of each label's probability."""
        return LabelPlotData(self.labels)
