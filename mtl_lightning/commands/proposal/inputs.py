"""Columns of a table without images as inputs of the network."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtl_lightning.commands.proposal.tables import Table, distinct
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.inputs import Category, Date, Input, Number
from mtl_lightning.system.errors import listed, quoted
from mtl_lightning.tasks.cells import decimal_point, moments, number, says_nothing

FEW = 12
"""Number of integers up to which they may be codes."""
MOST = 1000
"""Largest number of categories."""
NEARLY_ALL = 0.5
"""Share of rows with different texts above which a column names rows."""


@dataclass(frozen=True)
class InputPlan:
    """A proposed input.

    Attributes:
        name: The column.
        kind: The class.
        note: An alternative.
        missing: Texts in it that mean that there is nothing.
    """

    name: str
    kind: type[Input]
    note: str = ""
    missing: frozenset[str] = frozenset()


def plan_inputs(
    tables: Collection[Table], missing: Collection[str], left_out: list[tuple[str, str]]
) -> list[InputPlan]:
    """Return the inputs of tables; a column of one name in several tables is one.

    Args:
        tables: The tables without images.
        missing: Texts that mean "not labelled".
        left_out: Gets the columns that cannot be inputs, each with the reason.
    """
    columns: dict[str, list[Table]] = {}
    for table in tables:
        for name in table.inputs:
            columns.setdefault(name, []).append(table)
    plans = []
    for name, own in columns.items():
        # A source has one list of texts that mean nothing, for labels and inputs.
        labels = [cells for table in own for cells in table.labels.values()]
        answers = {text for cells in labels for text in distinct(cells)} - set(missing)
        plan = _plan(name, np.concatenate([table.inputs[name] for table in own]), answers)
        if isinstance(plan, InputPlan):
            plans.append(plan)
        else:
            where = listed(table.path for table in own)
            left_out.append((f'{where}, column "{name}"', plan))
    return plans


def _plan(name: str, cells: Texts, answers: Collection[str]) -> InputPlan | str:
    """Return the input of a column, or why it cannot be one."""
    every = distinct(cells)
    missing = frozenset(value for value in every if says_nothing(value) and value not in answers)
    values = [value for value in every if value not in missing]
    if len(values) < 2:
        return "its cells are all the same" if values else "its cells are empty"
    words = [value for value in values if says_nothing(value)]
    known = [value for value in values if value not in words]
    kind, note = _measured(known) if known else (None, "")
    if kind is not None and words:
        return f"{quoted(words[0])} in it seems to mean nothing, but is an answer of a task"
    if kind is not None:
        return InputPlan(name, kind, note, missing)
    rows = int(pd.notna(cells).sum())
    if len(values) > MOST or len(values) > NEARLY_ALL * rows:
        return f"nearly every row has another text ({listed(values, 2)})"
    return InputPlan(name, Category, listed(values, 4), missing)


def _measured(values: list[str]) -> tuple[type[Input] | None, str]:
    """Return `Number` or `Date` if all values are such, and a note; None otherwise."""
    numbers = [number(decimal_point(value)) for value in values]
    if all(value is not None for value in numbers):
        few = len(values) <= FEW and all(float(value or 0).is_integer() for value in numbers)
        return Number, f"{listed(values, 4)}; Category if these are codes" if few else ""
    if not np.isnat(moments(np.array(values, dtype=object), None)).any():
        return Date, values[0]
    return None, ""


def apply(plans: Collection[InputPlan], table: Table, arguments: dict[str, object]) -> None:
    """Add to a source's arguments what its inputs need.

    Args:
        plans: The inputs.
        table: The table of the source.
        arguments: The arguments, changed in place.
    """
    own = {plan: distinct(table.inputs[plan.name]) for plan in plans if plan.name in table.inputs}
    words = {word for plan, cells in own.items() for word in plan.missing.intersection(cells)}
    known = arguments.get("missing")
    given = set(known) if isinstance(known, list) else set()
    if words - given:
        arguments["missing"] = sorted(words | given)
    numbers = [cell for plan, cells in own.items() if plan.kind is Number for cell in cells]
    if any(decimal_point(cell) != cell for cell in numbers):
        arguments["decimal"] = ","
