"""442 patients with diabetes, from scikit-learn: a table without images."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.kinds import checked_kinds
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import hashed
from mtl_lightning.system.errors import UserError

COLUMNS = {
    "progression": "target",
    "age": "age",
    "sex": "sex",
    "bmi": "bmi",
    "blood_pressure": "bp",
    "cholesterol": "s1",
    "ldl": "s2",
    "hdl": "s3",
    "cholesterol_ratio": "s4",
    "triglycerides": "s5",
    "glucose": "s6",
}
"""The columns, with their names in scikit-learn; any can be asked or read."""
_VAL, _TEST = 0.1, 0.2


class DiabetesSource(Source):
    """The 442 patients of `sklearn.datasets.load_diabetes`, as measured.

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least Angle Regression", Annals of
    Statistics, 2004. Each patient has an ``age``, a ``sex`` (1 or 2), a ``bmi``, a
    ``blood_pressure``, six measurements of blood serum (``cholesterol``, ``ldl``, ``hdl``,
    ``cholesterol_ratio``, ``triglycerides`` (their logarithm), ``glucose``) and, one year later,
    the ``progression`` of the disease. Any of them can be a task or an input. Of the patients, 10 %
    are val and 20 % test, drawn with the seed.

    Args:
        missing: Task to the fraction of its *training* labels to leave out, as if this were
            measured in some patients only; val and test keep all of theirs.
        seed: The seed of the splits and of the labels left out.
        labels: Task to one of the columns; by default the tasks of these names.

    Raises:
        UserError: If ``seed`` is negative.
    """

    def __init__(
        self,
        missing: dict[str, float] | None = None,
        seed: int = 0,
        labels: dict[str, str] | None = None,
    ) -> None:
        if seed < 0:
            raise UserError(f"diabetes: seed should be at least 0. Found {seed}")
        self.missing = missing or {}
        self.seed = seed
        self.labels = labels

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Look up the measurements; see `Source.read`."""
        kinds = checked_kinds("diabetes", COLUMNS, tasks, self.labels, self.missing)
        kinds = {task: kind for task, kind in kinds.items() if task in tasks}
        read = {name: name for name in self.inputs_wanted if name in COLUMNS}
        count = len(_column("age"))
        keys = texts([f"diabetes:{i}" for i in range(count)])
        splits, order = texts(["train"] * count), np.argsort(hashed(keys, self.seed))
        val, test = round(_VAL * count), round((_VAL + _TEST) * count)
        splits[order[:val]], splits[order[val:test]] = "val", "test"
        labels = {task: _column(kind).copy() for task, kind in kinds.items()}
        train = np.flatnonzero(splits == "train")
        for task, fraction in self.missing.items():
            if task in labels:
                # The task's name keeps the labels left out for two tasks independent.
                rows = np.argsort(hashed((f"{task}:{key}" for key in keys[train]), self.seed))
                labels[task][train[rows[: round(fraction * len(train))]]] = None
        return SourceTable(
            "diabetes",
            images=keys,
            keys=keys,
            labels=labels,
            splits=splits,
            columns={name: [column] for name, column in (dict(kinds) | read).items()},
            inputs={name: _column(column) for name, column in read.items()},
            slices={name: _column(name) for name in self.slices_wanted if name in COLUMNS},
            without_image=np.ones(count, dtype=bool),
        )


def _column(name: str) -> Texts:
    """Return a column as text."""
    return texts([str(value) for value in _patients()[COLUMNS[name]].tolist()])


@cache
def _patients() -> Any:
    """Return a data frame with a row for each patient."""
    from sklearn.datasets import load_diabetes  # half a second, as for the digits

    return load_diabetes(as_frame=True, scaled=False).frame
