"""Measurements of one split as numbers that can be logged, printed or written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mtl_lightning.tasks.base import Task


@dataclass(frozen=True)
class Results:
    """The metrics of every task over one split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        tasks: The values of each task; always ``n_labelled``, and nothing else if that is 0.
        loss: Weighted sum, over the tasks that are present, of their mean loss over labelled rows,
            whatever ``loss_reduction`` is, without the penalty of a sharing; ``None`` if none is.
        score: Mean, over the tasks that are present, of their primary metric, mapped to 0..1.
    """

    split: str
    tasks: dict[str, dict[str, float]]
    loss: float | None
    score: float | None

    @classmethod
    def of(
        cls, split: str, tasks: Mapping[str, Task], values: dict[str, dict[str, float]]
    ) -> "Results":
        """Average the tasks, leaving out those that are absent or whose metric is undefined."""
        losses = [tasks[name].weight * v["loss"] for name, v in values.items() if "loss" in v]
        results = cls(split, values, loss=sum(losses) if losses else None, score=None)
        scores = results.scores(tasks).values()
        return replace(results, score=sum(scores) / len(scores) if scores else None)

    def scores(self, tasks: Mapping[str, Task]) -> dict[str, float]:
        """Return the primary metric of each task that has one, mapped to 0..1."""
        return {
            name: tasks[name].score(values)
            for name, values in self.tasks.items()
            if math.isfinite(values.get(tasks[name].primary, math.nan))
        }

    def flat(self) -> dict[str, float]:
        """Return ``split/task/metric`` to number, without undefined values."""
        named = {f"{self.split}/loss": self.loss, f"{self.split}/score": self.score}
        for task, values in self.tasks.items():
            named |= {f"{self.split}/{task}/{metric}": value for metric, value in values.items()}
        return {
            name: value
            for name, value in named.items()
            if value is not None and math.isfinite(value)
        }

    def plain(self) -> dict[str, object]:
        """Return values that JSON can hold: numbers, and null for undefined values."""
        return {
            "split": self.split,
            **plain_numbers({"loss": self.loss, "score": self.score}),
            "tasks": {task: plain_numbers(values) for task, values in self.tasks.items()},
        }


def plain_numbers(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return numbers that JSON can hold: null for undefined ones."""
    return {name: plain_number(value) for name, value in values.items()}


def plain_number(value: float | None) -> float | None:
    """Return a number that JSON can hold: null for an undefined one."""
    return value if value is not None and math.isfinite(value) else None
