"""Classes that name a side and do not swap although augmentation mirrors images."""

import json
import re
from collections.abc import Collection, Mapping

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.data import transforms
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.mirroring.names import has_side, partners
from mtl_lightning.system.errors import listed

NAMED = 5
"""Number of classes, and of pairs, in a line."""


def findings(data: PartialLabels, names: Mapping[str, Collection[str]]) -> list[Finding]:
    """Return tasks whose classes name a side and do not swap in mirrored images.

    Args:
        data: The data module.
        names: Task to its classes or labels.
    """
    mirror = data.mirror
    if mirror is None:
        flips, swap = transforms.flips(data.augmentation), {}
    else:
        flips, swap = mirror.probability > 0, mirror.swap
    found = []
    for task, classes in names.items() if flips else ():
        pairs = swap.get(task, {})
        sided = [c for c in classes if has_side(c) and c not in {*pairs, *pairs.values()}]
        if sided:
            what = f"task {task}: images are mirrored, and classes that name a side are not: "
            fix = _fix(data, task, sided)
            found.append(Finding(Level.WARNING, what + listed(sided, NAMED), fix))
    return found


def _fix(data: PartialLabels, task: str, sided: list[str]) -> str:
    both = partners(sided)
    if not both:
        place = "data.augmentation" if data.mirror is None else "data.mirror"
        return f"a mirrored image has a wrong label then; see {place}"
    text = ", ".join(f"{_written(one)}: {_written(other)}" for one, other in both[:NAMED])
    more = ", ..." if len(both) > NAMED else ""
    swap = f"data.mirror: {{swap: {{{_written(task)}: {{{text}{more}}}}}}}"
    in_place = "" if isinstance(data.augmentation, str) else ", in place of RandomHorizontalFlip,"
    return f"{swap}{in_place} swaps them"


def _written(name: str) -> str:
    """Return a name in YAML, quoted if necessary."""
    return name if re.fullmatch(r"[\w][\w -]*", name) else json.dumps(name, ensure_ascii=False)
