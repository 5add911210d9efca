"""Calibration of a task's answers: the values that are fitted on validation labels, and how.

Everything is fitted on the outputs for labelled rows of ``val``, which no step was trained on.
MAPIE fits such values to scikit-learn estimators of one task; here labels are missing, rows are
spread over ranks, and the values become part of an exported network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mtl_lightning.system.errors import UserError, listed, short

CALIBRATION = "calibration"
"""The key of a checkpoint for the calibration of each task."""

MOST = 20.0
"""Temperatures are between 1 / MOST and MOST."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one task; by default its answers are those of the network.

    Attributes:
        temperature: What outputs are divided by before they become probabilities.
        thresholds: The probability from which each label applies; empty for 0.5.
        coverage: The share of labels that a set or interval should hold; None for neither.
        set_from: The probability from which a class is in the set; None without sets.
        reach: How far the interval of each number goes to either side of the answer, on the learned
            scale, in predicted deviations if they are learned; empty without intervals.
    """

    temperature: float = 1.0
    thresholds: Sequence[float] = ()
    coverage: float | None = None
    set_from: float | None = None
    reach: Sequence[float] = ()

    @property
    def lacks_labels(self) -> bool:
        """Whether there were too few labels for the sets or intervals that were asked for."""
        return self.coverage is not None and self.set_from is None and not self.reach

    def plain(self) -> dict[str, Any]:
        """Return values that a checkpoint and JSON can hold."""
        values = asdict(self)
        return values | {"thresholds": list(self.thresholds), "reach": list(self.reach)}

    def words(self) -> str:
        """Return it in a few words, for a reader."""
        parts = [f"temperature {self.temperature:.3g}"]
        if self.thresholds:
            parts.append(f"thresholds {listed(f'{value:.3g}' for value in self.thresholds)}")
        if self.coverage is not None and not self.lacks_labels:
            what = "intervals" if self.reach else "sets of classes"
            parts.append(f"{what} that hold {self.coverage:.4g} of the labels")
        return "; ".join(parts)

    @classmethod
    def read(cls, values: Any) -> "Calibration":
        """Return the calibration that `plain` gave these values for.

        Raises:
            UserError: If they are damaged.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise UserError(
                f"a calibration should have {sorted(names)}. Found {short(str(values))}"
            )
        optional = [values[key] for key in ("coverage", "set_from") if values[key] is not None]
        many = [values[key] for key in ("thresholds", "reach")]
        numbers = [values["temperature"], *optional]
        if not all(isinstance(each, list | tuple) for each in many) or not all(
            _is_number(value) for each in [numbers, *many] for value in each
        ):
            raise UserError(f"a calibration should hold numbers. Found {short(str(dict(values)))}")
        lists = {key: tuple(values[key]) for key in ("thresholds", "reach")}
        return cls(**{**values, **lists})


def read_calibrations(values: Any) -> dict[str, Calibration]:
    """Return the calibration of each task from the values that a checkpoint holds.

    Raises:
        UserError: If they are damaged.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"calibrations should have an entry for each task. Found {values!r:.60}")
    return {str(name): Calibration.read(own) for name, own in values.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def fit_temperature(nll: Callable[[float], Tensor]) -> float | None:
    """Return the temperature with the least mean negative log-likelihood.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Of a softmax, the
    likelihood is convex in 1 / T; coarse labels and differences of sigmoids need not be, so the
    search is around the best of 21 values.

    Args:
        nll: Maps 1 / T to the mean over labels, a float64 scalar.

    Returns:
        At most MOST, which is nearly the same probability for all. None if 1 / MOST is too much:
        if, for example, each label has the most probable answer, no temperature is low enough.
    """
    from scipy.optimize import minimize_scalar  # only training needs it

    def loss(logarithm: float) -> float:
        return nll(math.exp(-logarithm)).item()

    bound = math.log(MOST)
    best = min((bound * place / 10 for place in range(-10, 11)), key=loss)
    found = minimize_scalar(
        loss,
        bounds=(max(best - bound / 10, -bound), min(best + bound / 10, bound)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    # Without a minimum the search ends anywhere on the plateau where rounding leaves 0.
    if not math.isfinite(found.fun) or nll(MOST).item() <= found.fun:
        return None
    return math.exp(found.x)


def check_coverage(coverage: float) -> None:
    """Raise a ``UserError`` if no set or interval can have this coverage."""
    if not 0 < coverage < 1:
        raise UserError(f"calibration.coverage should be in 0..1 (both excluded). Found {coverage}")


def least_labels(coverage: float) -> int:
    """Return how many labels `conformal_quantile` needs."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def conformal_quantile(scores: Tensor, coverage: float) -> float | None:
    """Return the score that a new label exceeds with a probability of at most 1 - coverage.

    It is the ceil((n + 1) * coverage)-th smallest of n scores: if labels of ``val`` and the new one
    are exchangeable, that holds for any network (split conformal prediction, Papadopoulos et al.
    2002; Lei et al. 2018, "Distribution-Free Predictive Inference for Regression").

    Args:
        scores: ``(n,)``, how far off each label is.
        coverage: In 0..1, both excluded.

    Returns:
        None if there are fewer than `least_labels`.
    """
    n = len(scores)
    if n < least_labels(coverage):
        return None
    place = math.ceil((n + 1) * coverage - 1e-9)
    return scores.double().sort().values[place - 1].item()


def set_threshold(probabilities: Tensor, coverage: float) -> float | None:
    """Return the probability from which a class is in the set that holds so many labels.

    LAC, "least ambiguous set-valued classifiers" (Sadinle, Lei and Wasserman 2019): of all sets of
    this coverage, those that are smallest on average. APS (Romano, Sesia and Candès 2020) adapts
    more to hard images, but covers more than was asked for unless it draws random numbers, which
    answers should not depend on. A set may be empty: no class is probable enough.

    Args:
        probabilities: ``(n,)``, that of each label.
        coverage: In 0..1, both excluded.
    """
    score = conformal_quantile(-probabilities, coverage)
    return None if score is None else _below(-score, probabilities)


def label_threshold(probabilities: Tensor, applies: Tensor, precision: float | None) -> float:
    """Return the probability from which a label applies: for the best F1, or for a precision.

    Args:
        probabilities: ``(n,)``.
        applies: ``(n,)`` bool.
        precision: The lowest precision that is wanted, of which the recall is the highest; if none
            has it, that with the highest precision. None for the best F1.

    Returns:
        Between two probabilities of ``val``; 0.5 without a label of either kind.
    """
    total = int(applies.sum())
    if not 0 < total < len(applies):
        return 0.5
    values, order = probabilities.double().sort(descending=True, stable=True)
    hits = applies[order].cumsum(0).double()
    shown = torch.arange(1, len(values) + 1, dtype=torch.float64)
    quality = 2 * hits / (shown + total)
    if precision is not None:
        precise = hits / shown >= precision
        quality = torch.where(precise, 1 + hits, hits / shown)
    last = torch.ones_like(applies)  # of equal probabilities
    last[:-1] = values[:-1] > values[1:]
    best = int(torch.where(last, quality, -1.0).argmax())
    return _below(values[best].item(), values)


def _below(value: float, others: Tensor) -> float:
    """Return a number halfway to the next lower one, so that rounding decides nothing."""
    lower = others[others < value].double()
    return (value + lower.max().item()) / 2 if len(lower) else value * (1 - 1e-6)
