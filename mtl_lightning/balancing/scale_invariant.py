"""The sum of the losses' logarithms."""

from collections.abc import Sequence

from torch import Tensor

from mtl_lightning.balancing.base import LossBalancing
from mtl_lightning.balancing.torchjd.scalarizers import SMALLEST


class ScaleInvariant(LossBalancing):
    """Minimises the sum of the logarithms: a loss in other units is the same loss.

    Each gradient is divided by its loss, whatever its scale and however far it has fallen. (It is
    K times the logarithm of the geometric mean.) For losses above 0, which all of ours are.

    Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022 (as the baseline SI).
    """

    def combine(self, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return the sum over the tasks present, whose weights do not depend on the others."""
        del present
        return values.clamp(min=SMALLEST).log().sum()
