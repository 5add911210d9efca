"""Findings about the columns that a network reads: missing cells, and answers in disguise."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.splits import SPLITS

ENOUGH = 20
"""Number of training rows with both cells below which nothing can be said."""
MOST_CODES = 100
"""Number of categories above which nothing is said: few rows have each."""
PERFECT = 0.99
"""Balanced accuracy, or absolute rank correlation, that one column alone hardly ever reaches."""
_FIX = (
    "if it is known only once the answer is, leave the input out: the network would copy it, and "
    "fail where it is used"
)

Codes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def missing_counts(labels: LabelTable) -> dict[str, npt.NDArray[np.int64]]:
    """Return input to its number of missing cells in each split."""
    table = labels.table
    return {
        name: np.bincount(table.splits[pd.isna(table.inputs[name])], minlength=len(SPLITS))
        for name in labels.inputs
    }


def giveaways(labels: LabelTable, numbers: Mapping[str, Numbers]) -> list[Finding]:
    """Return the columns that give a task away, judged by training rows.

    A column that is a label under other names is an error; one that alone predicts a label nearly
    perfectly is a warning.

    Args:
        labels: The table, encoded.
        numbers: The columns whose labels are numbers.
    """
    training = labels.table.in_split("train")
    found: list[Finding] = []
    for field in labels.columns.values():
        if field.left_out or field.names_files:
            continue
        task = f"{field.task_name}/{field.name}" if field.name else field.task_name
        cells = labels.table.cells[task]
        for name, own in labels.table.inputs.items():
            rows = training & pd.notna(cells) & pd.notna(own)
            if rows.sum() < ENOUGH:
                continue
            if task in numbers:
                found += _of_number(labels, name, task, own[rows], cells[rows])
            else:
                found += _of_class(labels, name, task, own[rows], cells[rows])
    return found


def _of_number(
    labels: LabelTable, name: str, task: str, own: Texts, cells: Texts
) -> Iterator[Finding]:
    answers = pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy(np.float64)
    values = _ordered(labels, name, own)
    if values is None:
        yield from _of_codes(name, task, own, answers)
        return
    known = np.isfinite(values) & np.isfinite(answers)
    values, answers = values[known], answers[known]
    if len(values) < ENOUGH or (values == values[0]).all() or (answers == answers[0]).all():
        return
    correlation = abs(float(np.corrcoef(values, answers)[0, 1]))
    if correlation > 1 - 1e-9:
        yield _equal(name, task, len(values))
    elif abs(float(np.corrcoef(_ranks(values), _ranks(answers))[0, 1])) > PERFECT:
        yield _warning(name, task, "orders its numbers nearly perfectly")


def _of_codes(name: str, task: str, own: Texts, answers: Numbers) -> Iterator[Finding]:
    """Yield whether categories are the numbers of a task under other names."""
    codes, values = pd.factorize(own)
    numbers = np.unique(answers)
    # Where nearly every row has a value of its own, two columns of names would be the same.
    if not 2 <= len(values) == len(numbers) <= len(own) / 2:
        return
    if len(np.unique(np.stack([codes, answers]), axis=1).T) == len(numbers):
        yield _equal(name, task, len(own))


def _of_class(
    labels: LabelTable, name: str, task: str, own: Texts, cells: Texts
) -> Iterator[Finding]:
    answers, classes = pd.factorize(cells)
    if len(classes) < 2:
        return
    codes, values = pd.factorize(own)
    pairs = len(np.unique(np.stack([codes, answers]), axis=1).T)
    if pairs == len(classes) == len(values):
        yield _equal(name, task, len(cells))
        return
    numbers = _ordered(labels, name, own)
    share = _predicted(codes if numbers is None else numbers, answers, len(classes))
    if share > PERFECT:
        yield _warning(name, task, f"predicts it with a balanced accuracy of {share:.1%}")


def _ordered(labels: LabelTable, name: str, own: Texts) -> Numbers | None:
    """Return the values of an input as numbers, None if they have no order."""
    column = labels.inputs[name]
    if column.sizes:
        return None
    return column.encode(own).values[:, 0].astype(np.float64)


def _predicted(values: Codes | Numbers, answers: Codes, classes: int) -> float:
    """Return the balanced accuracy of one column alone, by a small tree, judged on other rows.

    The tree has a leaf for each code, or for numbers two for each class.
    """
    # Half a second that other commands need not wait for.
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    if np.bincount(answers).min() < 2:
        return 0.0
    if values.dtype == np.int64:
        if values.max() > MOST_CODES:
            return 0.0
        features, leaves = np.eye(int(values.max()) + 1)[values], int(values.max()) + 2
    else:
        features, leaves = np.nan_to_num(values)[:, None], 2 * classes
    tree = DecisionTreeClassifier(max_leaf_nodes=max(leaves, 2), random_state=0)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    found = cross_val_predict(tree, features, answers, cv=folds)
    return float(recall_score(answers, found, average="macro", zero_division=0))


def _ranks(values: Numbers) -> Numbers:
    ranks: Numbers = pd.Series(values).rank().to_numpy(np.float64)
    return ranks


def _equal(name: str, task: str, rows: int) -> Finding:
    return Finding(
        Level.ERROR,
        f"input {name} is the label of task {task} under other names, in all {rows:,} training "
        f"rows that have both",
        "leave the input out",
    )


def _warning(name: str, task: str, what: str) -> Finding:
    return Finding(Level.WARNING, f"input {name} gives task {task} away: alone it {what}", _FIX)
