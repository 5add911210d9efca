"""Whether the classes of a column have an order, by their texts and the column's name."""

import re
from collections.abc import Collection

from mtl_lightning.tasks.cells import number
from mtl_lightning.tasks.ranks import by_rank, evident_order

NAMES = {
    *("id", "ids", "code", "class", "label", "category", "type", "kind", "digit", "cluster"),
    *("species", "make", "model", "index", "race", "ethnicity", "fold", "camera", "target"),
}
"""Words of a column's name by which its numbers are names of classes."""
STEPS = {"grade", "grades", "mark", "marks", "rating", "energy", "tier", "band", "condition"}
"""Words of a column's name by which its letters are grades, A the best."""
_GRADE = re.compile(r"([A-G])([+-]?)")
_SIGNS = {"+": 1, "": 0, "-": -1}


def order_of(column: str, classes: Collection[str]) -> tuple[list[str], str]:
    """Return classes in their order, lowest first, and a note on what is doubtful.

    Args:
        column: The name of the column.
        classes: Its classes.

    Returns:
        No classes if they have no order; the note may then say what they could be instead.
    """
    if len(classes) < 3:
        return [], ""
    ordered = evident_order(classes)
    if ordered is not None:
        return ordered, "if the order of its classes does not matter: Classification"
    words = set(re.split(r"[\W_\d]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()))
    grades = {name: found for name in classes if (found := _GRADE.fullmatch(name))}
    if words & STEPS and len(grades) == len(classes):
        worst_first = sorted(grades, key=lambda name: (-ord(grades[name][1]), _sign(grades[name])))
        return worst_first, "A is taken for the best"
    values = [number(name) for name in classes]
    ordered = by_rank(classes)
    if ordered is None or None in values:
        return [], ""
    successive = float(ordered[-1]) - float(ordered[0]) == len(ordered) - 1
    if words & NAMES or not successive:
        return [], (
            "its numbers are taken for names; if they are steps: Ordinal, if amounts: "
            "{class_path: Regression}"
        )
    return ordered, (
        "its numbers are taken for steps; if they are names (ids, digits): Classification, if "
        "amounts: {class_path: Regression}"
    )


def _sign(grade: re.Match[str]) -> int:
    return _SIGNS[grade[2]]
