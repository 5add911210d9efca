"""One class out of several for each image."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal
from unicodedata import normalize

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.models.members import Average, log_mean_softmax
from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted
from mtl_lightning.tasks.base import Encoded, if_missing
from mtl_lightning.tasks.cells import canonical, votes
from mtl_lightning.tasks.class_cells import (
    encode_labels,
    encode_votes,
    in_order,
    named_by,
    refuse_doubtful,
)
from mtl_lightning.tasks.frequency import ByFrequency, check_beta, class_weights
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.tasks.losses import focal, smoothed_shares
from mtl_lightning.tasks.metrics import (
    BalancedAccuracy,
    CalibrationError,
    SharedAnswers,
    TopAccuracy,
)
from mtl_lightning.tasks.mirroring import swap_permutation
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from mtl_lightning.tasks.probability_task import ProbabilityTask
from mtl_lightning.tasks.ranks import evident_order

MOST = 10.0  # larger exponents and factors are mistakes: no row, or only the prior, would count
PLOTTED_UP_TO = 1000  # classes; the counts of more pairs take too much memory


class Classification(ProbabilityTask):
    """A softmax over classes, trained with cross-entropy.

    A label is a class, or a distribution over several, as annotators who disagree give it:
    ``Dress:3|Shirt:1`` (votes or shares; they are scaled to a sum of 1). Metrics then count the
    most probable class as the label. With ``annotators`` the votes come from a column each.

    Args:
        classes: The class names, in the order of the outputs; compared with the labels as text.
            By default, the sorted values of the training labels.
        class_weights: One number per class, or by frequency in the training labels, with a ratio
            of at most 100: ``balanced``, each class counts the same in the loss, however often
            it occurs (n / (K * n_c), as in scikit-learn); ``sqrt``, the square root of that;
            ``effective``, by the effective number of samples; see `frequency.ByFrequency`. Weights
            are scaled so that their mean over the training labels is 1.
        beta: The parameter of ``effective``, between 0 (equal weights) and 1 (``balanced``).
        focal_gamma: The exponent of the focal loss (Lin et al. 2017), in 0..10: rows that are
            already answered well count less. 0 is the cross-entropy, 2 the paper's choice.
        logit_adjustment: Factor of the logarithms of the classes' shares in the training labels,
            which are added to the logits in training only, in 0..10. So rare classes get
            larger logits, as for balanced accuracy (Menon et al. 2021, "Long-tail learning via
            logit adjustment"; tau, 1 in the paper). Probabilities then are those of a world in
            which classes are equally frequent.
        label_smoothing: Share of the target that is spread evenly over all classes (0..1).
        top_k: Also measure how often the label is among so many most probable classes.
        annotators: A column of votes for each of them, instead of one column of labels: the label
            is the distribution of the votes that are there.
        second_answers: Also measure ``shared_accuracy`` and ``shared_ap``, in which an answer that
            has a share in the label, but not the largest one, is ``right``, or in which such rows
            are left out (``skip``); see `SharedAnswers`.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "balanced_accuracy"
    growing: ClassVar[tuple[str, ...]] = ("classes",)
    class_weight: Tensor
    log_prior: Tensor

    def __init__(
        self,
        classes: list[str] | None = None,
        class_weights: list[float] | ByFrequency | None = None,
        label_smoothing: float = 0.0,
        second_answers: Literal["right", "skip"] | None = None,
        beta: float = 0.999,
        focal_gamma: float = 0.0,
        logit_adjustment: float = 0.0,
        top_k: int | None = None,
        annotators: list[str] | None = None,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(weight, head)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing should be in 0..1. Found {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.second_answers = second_answers
        for name, value in (("focal_gamma", focal_gamma), ("logit_adjustment", logit_adjustment)):
            if not 0 <= value <= MOST:
                raise UserError(f"{name} should be in 0..{MOST:g}. Found {value}")
        check_beta(beta)
        self.focal_gamma = focal_gamma
        self.logit_adjustment = logit_adjustment
        self.class_weights = class_weights
        self.beta = beta
        self.top_k = top_k
        self.annotators = [normalize("NFC", str(name)) for name in annotators or ()]
        wrong = [name for name in self.annotators if not name or "/" in name]
        if annotators == [] or wrong or len(set(self.annotators)) < len(self.annotators):
            raise UserError(
                f'annotators should be different names of columns without "/". '
                f"Found {listed(self.annotators) or 'none'}"
            )
        self.classes: list[str] = []
        self._learns_classes = classes is None
        self._positions: dict[str, int] = {}
        """The position of each class by its canonical text."""
        if classes is not None:
            self._set_classes([normalize("NFC", str(name)) for name in classes])

    def _set_classes(self, classes: list[str]) -> None:
        counts = Counter(map(canonical, classes))
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise UserError(f"classes should differ; listed more than once: {listed(repeated)}")
        if len(classes) < 2:
            raise UserError(
                f"a classification needs at least two classes. Found {len(classes)}: "
                f"{listed(classes) or 'none'}; with one there is nothing to learn."
            )
        given = self.class_weights
        if isinstance(given, list):
            if len(given) != len(classes):
                raise UserError(
                    f"class_weights should have one number for each of the {len(classes)} classes "
                    f"({listed(classes)}). Found {len(given)} numbers."
                )
            if min(given) < 0 or max(given) == 0:
                raise UserError(f"class_weights should be 0 or more, not all 0. Found {given}")
        if self.top_k is not None and not 1 < self.top_k < len(classes):
            raise UserError(
                f"top_k should be above 1 and below the number of classes ({len(classes)}). Found "
                f"{self.top_k}"
            )
        self.classes = classes
        self._positions = {canonical(name): number for number, name in enumerate(classes)}
        self.register_buffer("class_weight", torch.ones(len(classes)))
        self.register_buffer("log_prior", torch.zeros(len(classes)))

    @property
    def fields(self) -> tuple[str, ...]:
        """A column of labels, or one for each annotator."""
        return tuple(self.annotators) or ("",)

    def infer_classes(self, cells: NDArray[np.object_]) -> None:
        """Set the classes from the training labels if the config names none."""
        if not self.classes:
            found = named_by(text for text in pd.unique(cells.ravel()) if text is not None)
            refuse_doubtful(found)
            self._set_classes(self._ordered(found))

    def _ordered(self, classes: Sequence[str]) -> list[str]:
        return in_order(classes)

    def identity(self) -> dict[str, object]:
        """Return the classes, if they are known."""
        return {"classes": self.classes} if self.classes else {}

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Map each cell to the position of its class: int64 targets, ``(N,)`` masks.

        If any cell is a distribution, or there is a column for each annotator, the targets are
        float32 ``(N, K)``.
        """
        if self.annotators:
            return encode_votes(cells, self._positions)
        return encode_labels(cells, self._positions)

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return the nonzero shares of the classes, or the class if it has all of the label."""
        del field
        known = self._positions
        shares: dict[str, float] = {}
        given = votes(cell) or []
        # As long as the classes are not known, 12:30 may be one.
        if cell not in known and (len(given) > 1 or all(name in known for name, _ in given)):
            for name, share in given:
                shares[name] = shares.get(name, 0.0) + share
        total = sum(shares.values())
        own = [(name, round(share / total, 9)) for name, share in shares.items() if share]
        return cell if not own else own[0][0] if len(own) == 1 else frozenset(own)

    def named_classes(self, cells: Sequence[str], field: str) -> list[Sequence[str]]:
        """Return the class of each cell, or all that a divided one gives a share."""
        del field
        divided = [votes(cell) if "|" in cell else None for cell in cells]
        return [
            [cell] if shares is None else list(dict.fromkeys(name for name, n in shares if n))
            for cell, shares in zip(cells, divided, strict=True)
        ]

    @property
    def learns_classes(self) -> bool:
        """Whether the config names no classes."""
        return self._learns_classes

    def strata(self, encoded: Encoded) -> NDArray[np.int64]:
        """Return the position of each row's class, or of the most probable in a distribution."""
        targets = encoded.targets
        positions = targets if targets.ndim == 1 else np.argmax(targets, axis=1)
        return np.where(encoded.labelled, positions, -1)

    def expected(self, cell: str) -> str:
        """Name the known classes, the nearest first."""
        hint = did_you_mean(cell, self.classes) or if_missing(cell)
        return f"one of the classes {listed(self.classes)}{hint}"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute the class weights, whose mean over the training labels is 1, and the prior."""
        del labelled  # a row that has no label is not passed here
        if targets.is_floating_point():
            counts = targets.double().sum(0)
        else:
            counts = torch.bincount(targets, minlength=len(self.classes)).double()
        # A class without a training label counts as if it had one, or its logit would be infinite.
        self.log_prior.copy_((counts.clamp(min=1) / counts.sum()).log())
        if self.class_weights is None:
            return
        given = self.class_weights
        if isinstance(given, list):
            weights = torch.tensor(given, dtype=torch.float64)
        else:
            weights = class_weights(counts, given, self.beta)
        mean = (weights * counts).sum() / counts.sum()
        if mean == 0:
            raise UserError("class_weights give weight 0 to every class that occurs in training")
        weights = weights / mean
        if not isinstance(given, list):
            # A class without a training label has no frequency; 1 leaves its loss unchanged.
            weights[counts == 0] = 1.0
        self.class_weight.copy_(weights)

    def hint(self) -> tuple[str, str] | None:
        """Suggest `Ordinal` if the classes are bands of numbers or sizes; see `Task.hint`."""
        ordered = evident_order(self.classes)
        if ordered is None:
            return None
        return f"its classes have an order ({listed(ordered)})", "Ordinal learns it"

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
        """Cross-entropy, or focal loss, of each row: ``(B, K)`` logits -> ``(B,)``.

        Targets are ``(B,)`` int64 classes or ``(B, K)`` floating distributions.
        """
        weight = None if self.class_weights is None else self.class_weight.to(outputs.dtype)
        if self.logit_adjustment and self.training:
            outputs = outputs + self.logit_adjustment * self.log_prior.to(outputs.dtype)
        if self.focal_gamma:
            k, smoothing = len(self.classes), self.label_smoothing
            shares = smoothed_shares(targets, k, smoothing, outputs.dtype)
            return focal(outputs, shares, self.focal_gamma, weight)
        return F.cross_entropy(
            outputs,
            targets.to(outputs.dtype) if targets.is_floating_point() else targets,
            weight=weight,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, ``(B, K)``, and perhaps the ``set``; see `sets`."""
        probabilities = self.probabilities(self.tempered(outputs))
        return {"probabilities": probabilities, **self.sets(probabilities)}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax."""
        return logits.softmax(1)

    def negative_log_likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return F.cross_entropy(
            logits, targets.to(logits) if targets.is_floating_point() else targets, reduction="none"
        )

    def truth(self, targets: Tensor) -> Tensor:
        """Return the class of each label, the most probable one of a distribution."""
        return most_probable(targets)

    def metrics(self) -> MetricCollection:
        """Accuracy over rows, macro F1, balanced accuracy, and expected calibration error."""
        k = len(self.classes)
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(k, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(k, average="macro", validate_args=False),
            "balanced_accuracy": BalancedAccuracy(k),
            "calibration_error": CalibrationError(),
            **self.calibration_metrics(),
        }
        if self.top_k is not None:
            metrics[f"top{self.top_k}_accuracy"] = TopAccuracy(self.top_k)
        if self.second_answers is not None:
            metrics["shared"] = SharedAnswers(skip=self.second_answers == "skip")
        return MetricCollection(metrics, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with probabilities, and with shares if labels are distributions."""
        # Each metric is passed only what it takes.
        judged = self.judge(answers, targets, labelled)
        shares = {"shares": targets} if targets.is_floating_point() else {}
        metrics.update(answers["probabilities"], most_probable(targets), judged=judged, **shares)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the most probable class, the probability of each, and perhaps the set."""
        probabilities = answers["probabilities"]
        chosen = np.asarray(self.classes, dtype=object)[probabilities.argmax(1)]
        columns = {name: probabilities[:, i] for i, name in enumerate(self.classes)}
        return {"": chosen, **columns, **self.set_column(answers, self.classes)}

    def guess(self, outputs: Tensor, others: Tensor | None, soft: bool) -> Guess:
        """Guess the most probable class, or the distribution; see `Task.guess`."""
        del others
        probabilities = self.predict(outputs)["probabilities"]
        confidence, classes = probabilities.max(1)
        return Guess(probabilities if soft else classes, confidence, classes)

    @property
    def num_class_numbers(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def class_numbers(self, names: Sequence[str]) -> list[int]:
        """Return the positions of classes; see `Task.class_numbers`."""
        for name in names:
            if canonical(name) not in self._positions:
                raise UserError(
                    f"classes should be some of {listed(self.classes)}. Found {quoted(name)}"
                    f"{did_you_mean(name, self.classes)}"
                )
        return [self._positions[canonical(name)] for name in names]

    def label_classes(self, targets: Tensor) -> Tensor:
        """Return the class of each row, the most probable one of a distribution."""
        return most_probable(targets)

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Swap classes, or their shares in a distribution; see `Task.mirrored`."""
        order = swap_permutation(self.classes, pairs, "class")
        if encoded.targets.ndim > 1:
            return replace(encoded, targets=encoded.targets[:, order])
        return replace(encoded, targets=order[np.where(encoded.labelled, encoded.targets, 0)])

    def class_counts(
        self, encoded: Encoded, groups: NDArray[np.integer], number: int
    ) -> dict[str, NDArray[np.int64]]:
        """Count each class, or the most probable in a distribution; see `Task.class_counts`."""
        targets = encoded.targets.argmax(1) if encoded.targets.ndim > 1 else encoded.targets
        pairs = targets.astype(np.int64) * number + groups
        counts = np.bincount(pairs[encoded.labelled], minlength=len(self.classes) * number)
        return dict(zip(self.classes, counts.reshape(-1, number), strict=True))

    def plot_data(self) -> ConfusionPlotData | None:
        """Collect a confusion matrix, unless there are more than 1000 classes."""
        return ConfusionPlotData(self.classes) if len(self.classes) <= PLOTTED_UP_TO else None


def most_probable(targets: Tensor) -> Tensor:
    """Return ``(B,)`` classes from such classes or from ``(B, K)`` distributions."""
    return targets.argmax(1) if targets.is_floating_point() else targets
