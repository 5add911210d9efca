"""Columns of a table without images as inputs of the network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from mtl_lightning.commands.proposal.tables import Table, distinct
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.inputs import Category, Date, Input, Number
from mtl_lightning.system.errors import listed
from mtl_lightning.tasks.cells import decimal_point, number, says_nothing

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
        comma: A number in it with a decimal comma, "" if there is none.
    """

    name: str
    kind: type[Input]
    note: str = ""
    missing: tuple[str, ...] = ()
    comma: str = ""


def plan_inputs(tables: Collection[Table], left_out: list[tuple[str, str]]) -> list[InputPlan]:
    """Return the inputs of tables; a column of one name in several tables is one.

    Args:
        tables: The tables without images.
        left_out: Gets the columns that cannot be inputs, each with the reason.
    """
    plans: dict[str, InputPlan] = {}
    for table in tables:
        for name, cells in table.inputs.items():
            plan = _plan(name, cells)
            if isinstance(plan, InputPlan):
                plans.setdefault(name, plan)
            else:
                left_out.append((f'{table.path}, column "{name}"', plan))
    return list(plans.values())


def _plan(name: str, cells: Texts) -> InputPlan | str:
    """Return the input of a column, or why it cannot be one."""
    values = distinct(cells)
    missing = tuple(sorted(value for value in values if says_nothing(value)))
    values = [value for value in values if value not in missing]
    if len(values) < 2:
        return "its cells are all the same" if values else "its cells are empty"
    plain = [number(decimal_point(value)) for value in values]
    numbers = [value for value in plain if value is not None]
    if len(numbers) == len(values):
        few = len(values) <= FEW and all(value.is_integer() for value in numbers)
        note = f"{listed(values, 4)}; Category if these are codes" if few else ""
        comma = next((value for value in values if decimal_point(value) != value), "")
        return InputPlan(name, Number, note, missing, comma)
    moments = pd.to_datetime(pd.Series(values), format="ISO8601", utc=True, errors="coerce")
    if moments.notna().all():
        return InputPlan(name, Date, f"{values[0]}", missing)
    rows = int(pd.notna(cells).sum())
    if len(values) > MOST or len(values) > NEARLY_ALL * rows:
        return f"nearly every row has another text ({listed(values, 2)})"
    return InputPlan(name, Category, listed(values, 4), missing)


def apply(plans: Collection[InputPlan], table: Table, arguments: dict[str, object]) -> None:
    """Add to a source's arguments what its inputs need.

    Args:
        plans: The inputs.
        table: The table of the source.
        arguments: The arguments, changed in place.
    """
    own: Mapping[str, InputPlan] = {plan.name: plan for plan in plans if plan.name in table.inputs}
    words = {word for plan in own.values() for word in plan.missing}
    known = arguments.get("missing")
    given = set(known) if isinstance(known, list) else set()
    if words - given:
        arguments["missing"] = sorted(words | given)
    if any(plan.comma for plan in own.values()):
        arguments["decimal"] = ","
