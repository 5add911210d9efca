"""Classes or labels that swap when an image is mirrored."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)
from mtl_lightning.tasks.cells import canonical


def swap_permutation(
    names: Sequence[str], pairs: Mapping[str, str], kind: str
) -> NDArray[np.int64]:
    """Return the position that each position moves to; applied twice, it is the identity.

    Args:
        names: All K classes or labels, in the order of the outputs.
        pairs: Names that swap; a pair may be listed in both directions.
        kind: The word for a name in messages: ``class`` or ``label``.

    Returns:
        ``(K,)`` int64.

    Raises:
        UserError: If there is no such name, or one has two partners.
    """
    known = {canonical(name): name for name in names}
    pairs = {known.get(canonical(a), a): known.get(canonical(b), b) for a, b in pairs.items()}
    partner: dict[str, str] = {}
    for one, other in [*pairs.items(), *((other, one) for one, other in pairs.items())]:
        if one not in names:
            raise UserError(
                f"there is no {kind} {quoted(one)}{did_you_mean(one, names)}; known: "
                f"{listed(names)}"
            )
        if partner.setdefault(one, other) != other:
            raise UserError(
                f"{quoted(one)} swaps with {quoted(partner[one])} and with {quoted(other)}; "
                f"expected one partner (a pair holds in both directions)"
            )
    position = {name: number for number, name in enumerate(names)}
    return np.array([position[partner.get(name, name)] for name in names], dtype=np.int64)
