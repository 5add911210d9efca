"""The base class of tasks that answer with probabilities, which a temperature calibrates."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.calibratable import Judged
from mtl_lightning.tasks.calibration import Calibration, fit_temperature, set_threshold
from mtl_lightning.tasks.calibration_metrics import JudgedError, SetMetrics
from mtl_lightning.tasks.cells import NONE


class ProbabilityTask(Task):
    """A task whose outputs become probabilities of classes, of which one applies.

    With a calibration, they are divided by a temperature before. Neither the most probable class
    nor, in `Ordinal`, the rank depends on it.
    """

    calibrates: ClassVar[bool] = True

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities ``(B, K)`` of outputs in at least float32."""

    @abstractmethod
    def negative_log_likelihood(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return that of each row (or cell), unweighted and without any smoothing.

        Args:
            logits: ``(B, num_outputs)`` float64.
            targets: ``(B, ...)``, undefined where a label is missing.
        """

    @abstractmethod
    def truth(self, targets: Tensor) -> Tensor:
        """Return the class of each label, ``(B,)`` int64; -1 where several may apply."""

    def chosen(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the class that is the answer of each row, ``(B,)`` int64."""
        return answers["probabilities"].argmax(1)

    def tempered(self, outputs: Tensor) -> Tensor:
        """Return outputs in at least float32 (bfloat16 has three digits), over the temperature."""
        wide = _wide(outputs)
        return wide if self.calibration is None else wide / self.calibration.temperature

    def raw(self, outputs: Tensor) -> Tensor:
        """Return the probabilities without a calibration."""
        return self.probabilities(_wide(outputs))

    def measured(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the answers, and with a calibration ``raw``: the probabilities without it."""
        answers = self.predict(outputs)
        if self.calibration is not None:
            answers["raw"] = self.raw(outputs)
        return answers

    def mistakes(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return how improbable the label is where it is not the answer; see `Task.mistakes`.

        Where several classes may apply, that is a mistake if all others are more probable.
        """
        del labelled  # each row has one label
        surprise = self.negative_log_likelihood(self.tempered(outputs), targets)
        truth = self.truth(targets)
        wrong = torch.where(
            truth < 0, surprise > math.log(2), self.chosen(self.predict(outputs)) != truth
        )
        return torch.where(wrong, surprise, 0)

    def doubts(self, outputs: Tensor) -> Tensor | None:
        """Return 1 minus the distance of the two most probable classes; see `Task.doubts`."""
        probabilities = self.predict(outputs)["probabilities"]
        if probabilities.shape[1] < 2:
            return None
        first, second = probabilities.topk(2, dim=1).values.T
        margin: Tensor = first - second
        return 1 - margin

    def sets(self, probabilities: Tensor) -> dict[str, Tensor]:
        """Return the answer ``set``, ``(B, K)`` bool; nothing without a calibration."""
        own = self.calibration
        if own is None or own.set_from is None:
            return {}
        return {"set": probabilities >= own.set_from}

    def set_column(
        self, answers: Mapping[str, NDArray[Any]], classes: Sequence[str]
    ) -> dict[str, NDArray[np.object_]]:
        """Return the column of the sets, such as ``set_90``: the names of their classes."""
        if self.calibration is None or self.calibration.coverage is None or "set" not in answers:
            return {}
        names = np.asarray(classes, dtype=object)
        texts = ["|".join(names[row]) or NONE for row in answers["set"]]
        return {f"set_{100 * self.calibration.coverage:g}": np.array(texts, dtype=object)}

    def calibrate(
        self, outputs: Tensor, targets: Tensor, labelled: Tensor, coverage: float
    ) -> Calibration:
        """Fit the temperature, then what follows from it, in float64; see `Task.calibrate`.

        Without a minimum the temperature is 1.
        """
        logits = outputs.double()

        def mean(inverse: float) -> Tensor:
            return self.negative_log_likelihood(logits * inverse, targets)[labelled].mean()

        temperature = fit_temperature(mean) or 1.0
        probabilities = self.probabilities(logits / temperature)
        decisions = self.decisions(probabilities, targets, labelled, coverage)
        return replace(decisions, temperature=temperature)

    def decisions(
        self, probabilities: Tensor, targets: Tensor, labelled: Tensor, coverage: float
    ) -> Calibration:
        """Fit what is decided by calibrated probabilities: here, which classes are in the set."""
        truth = self.truth(targets)
        known = labelled & (truth >= 0)
        own = probabilities[known].gather(1, truth[known][:, None]).squeeze(1)
        return Calibration(coverage=coverage, set_from=set_threshold(own, coverage))

    def judge(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor
    ) -> Judged | None:
        """Compare the answers with the labels that are a single class; see `Task.judge`."""
        if "raw" not in answers:
            return None
        truth = self.truth(targets)
        known = labelled & (truth >= 0)
        chosen, truth = self.chosen(answers)[known], truth[known]
        own = chosen[:, None]
        sets = answers["set"][known] if "set" in answers else None
        return Judged(
            confidence=answers["probabilities"][known].gather(1, own).squeeze(1),
            before=answers["raw"][known].gather(1, own).squeeze(1),
            right=chosen == truth,
            covered=None if sets is None else sets.gather(1, truth[:, None]).squeeze(1),
            size=None if sets is None else sets.sum(1),
        )

    def calibration_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Return what is measured of calibrated answers in addition; nothing without them."""
        if self.calibration is None:
            return {}
        metrics: dict[str, Metric | MetricCollection] = {
            "calibration_error": JudgedError("confidence"),
            "calibration_error_before": JudgedError("before"),
        }
        return metrics if self.calibration.set_from is None else {**metrics, "sets": SetMetrics()}


def _wide(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
