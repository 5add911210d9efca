"""From results over seeds and bootstrap samples to means, differences and their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from mtl_lightning.system.errors import UserError

WHOLE = "all"
"""The variant that is the config itself: one network for all tasks."""
SINGLE = "only-"
"""The start of the name of the variant that is a task's own network."""
LEVEL = 0.95
"""The confidence level of intervals."""

Floats: TypeAlias = npt.NDArray[np.float64]
Entry: TypeAlias = Mapping[str, Any]
"""The content of a file that ``Bootstrap`` wrote."""


@dataclass(frozen=True)
class Difference:
    """The change of a variant against its baseline, in percent; above 0 is better.

    Attributes:
        percent: The change of the mean over seeds.
        interval: Its bootstrap interval over images, the same in both; NaN where undefined.
        seeds: Half the width of its interval over seeds (Welch's t); NaN with one seed.
        verdict: ``better``, ``worse``, or why it is neither.
    """

    percent: float
    interval: tuple[float, float]
    seeds: float
    verdict: str


@dataclass(frozen=True)
class Row:
    """One metric of one task in one variant.

    Attributes:
        task: The task; empty for the mean over tasks.
        metric: The metric; empty for the mean over tasks.
        variant: The variant.
        mean: Its mean over seeds; NaN for the mean over tasks.
        spread: Its standard deviation over seeds; NaN with one.
        interval: The bootstrap interval over images of its mean over seeds.
        change: The change against the baseline; None in the baseline itself.
    """

    task: str
    metric: str
    variant: str
    mean: float
    spread: float
    interval: tuple[float, float]
    change: Difference | None


class Comparison:
    """The results of variants of a config over the same seeds and images.

    Args:
        results: Variant to what ``Bootstrap`` wrote for each seed.
        single_tasks: Whether the baseline of a task is its own network, ``only-<task>``; else it is
            ``all``.
    """

    def __init__(self, results: Mapping[str, Sequence[Entry]], single_tasks: bool) -> None:
        self.results = results
        self.single_tasks = single_tasks

    def rows(self, all_metrics: bool = False) -> list[Row]:
        """Return a row per task, metric and variant, and the mean change of each variant.

        The mean over tasks of the changes of primary metrics is Δm of Maninis et al. 2019,
        "Attentive Single-Tasking of Multiple Tasks".

        Args:
            all_metrics: Whether to take all metrics, instead of the primary one of each task.
        """
        rows, changes = [], dict[str, list[Floats]]()
        for task, entry in self.results[WHOLE][0]["tasks"].items():
            primary = entry["primary"]
            others = [
                name
                for name in entry["draws"]
                if all_metrics and name != primary and not name.startswith("n_labelled")
            ]
            for metric in [primary, *others]:
                better = entry["higher_is_better"].get(metric)
                sign = None if better is None else 1 if better else -1
                found = self._of_metric(task, metric, sign)
                rows += found
                if metric == primary and sign is not None:
                    self._add_changes(changes, task, metric, sign)
        for variant, own in changes.items():
            mean, *draws = np.mean(own, axis=0).tolist()
            change = Difference(mean, interval(np.array(draws)), math.nan, "")
            rows.append(Row("", "", variant, math.nan, math.nan, (math.nan, math.nan), change))
        return rows

    def base(self, task: str) -> str:
        """Return the variant that a task's others are compared with."""
        return f"{SINGLE}{task}" if self.single_tasks else WHOLE

    def _of_metric(self, task: str, metric: str, sign: int | None) -> list[Row]:
        base = self.base(task)
        base_values = self._values(base, task, metric)
        rows = []
        for variant in self._variants(task):
            seeds, draws = self._values(variant, task, metric)
            change = None
            if variant != base and sign is not None:
                change = difference(seeds, draws, *base_values, sign)
            rows.append(_row(task, metric, variant, seeds, draws, change))
        return rows

    def _add_changes(
        self, changes: dict[str, list[Floats]], task: str, metric: str, sign: int
    ) -> None:
        """Add the change in percent of each variant, and that of each draw: ``(1 + draws,)``."""
        base = self.base(task)
        base_seeds, base_draws = self._values(base, task, metric)
        for variant in self._variants(task):
            if variant != base:
                seeds, draws = self._values(variant, task, metric)
                own = np.append(seeds.mean() - base_seeds.mean(), draws - base_draws)
                changes.setdefault(variant, []).append(sign * percent(own, base_seeds.mean()))

    def _variants(self, task: str) -> list[str]:
        """Return the task's baseline and all variants that answer it."""
        base = self.base(task)
        return [
            base,
            *(
                name
                for name, found in self.results.items()
                if not name.startswith(SINGLE)
                and name != base
                and all(task in each["tasks"] for each in found)
            ),
        ]

    def _values(self, variant: str, task: str, metric: str) -> tuple[Floats, Floats]:
        """Return a metric for each seed, and the mean over seeds for each draw."""
        entries = [found["tasks"][task] for found in self.results[variant]]
        measured = self.results[WHOLE][0]["tasks"][task]["images"]
        if any(entry["images"] != measured for entry in entries):
            raise UserError(
                f"{variant}: task {task} should be measured on the images of {WHOLE}. Found "
                f"others; a variant may not change data.sources, splits or labels"
            )
        seeds = _floats([entry["metrics"].get(metric) for entry in entries])
        draws = np.mean([_floats(entry["draws"][metric]) for entry in entries], axis=0)
        return seeds, draws


def difference(
    seeds: Floats, draws: Floats, base_seeds: Floats, base_draws: Floats, sign: int
) -> Difference:
    """Return the change against a baseline.

    Args:
        seeds: The metric for each seed.
        draws: Its mean over seeds for each bootstrap sample.
        base_seeds: The same of the baseline.
        base_draws: The same of the baseline, for the same samples.
        sign: 1 if higher is better, else -1.
    """
    base = float(base_seeds.mean())
    change = sign * float(percent(seeds.mean() - base, base))
    over_images = interval(sign * percent(draws - base_draws, base))
    noise = abs(float(percent(np.float64(welch(seeds, base_seeds)), base)))
    return Difference(change, over_images, noise, verdict(change, over_images, noise))


def percent(difference: Floats, base: float) -> Floats:
    """Return differences in percent of a base; NaN if that is 0."""
    return 100 * difference / abs(base) if base else difference * math.nan


def interval(draws: Floats) -> tuple[float, float]:
    """Return the percentile interval of bootstrap samples, without those that are undefined."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return math.nan, math.nan
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def welch(one: Floats, other: Floats) -> float:
    """Return half the width of Welch's interval of the difference of two means; NaN if n < 2."""
    if min(len(one), len(other)) < 2:
        return math.nan
    a, b = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    if a + b == 0:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom) * math.sqrt(a + b))


def verdict(change: float, over_images: tuple[float, float], noise: float) -> str:
    """Say whether a change exceeds the noise of images and seeds."""
    if not math.isfinite(change):
        return "undefined"
    word = "better" if change > 0 else "worse"
    beyond_images = over_images[0] > 0 or over_images[1] < 0
    if math.isnan(noise):
        return f"{word}, one seed" if beyond_images else "within noise"
    beyond_seeds = abs(change) > noise
    if beyond_images and beyond_seeds:
        return word
    if beyond_images:
        return "noise of seeds"
    return "noise of images" if beyond_seeds else "within noise"


def _row(
    task: str, metric: str, variant: str, seeds: Floats, draws: Floats, change: Difference | None
) -> Row:
    spread = float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan
    return Row(task, metric, variant, float(seeds.mean()), spread, interval(draws), change)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
