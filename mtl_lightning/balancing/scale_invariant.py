"""The sum of the losses' logarithms."""

from collections.abc import Sequence

from torch import Tensor

from mtl_lightning.balancing.base import MIN_LOSS, LossBalancingMethod


class ScaleInvariant(LossBalancingMethod):
    """Minimises the sum of the losses' logarithms, in which the unit of a loss has no part.

    Each gradient is divided by its loss, whatever its scale and however far it has fallen. (The sum
    is K times the logarithm of the geometric mean.) For losses above 0, as all of ours are.

    Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022 (as the baseline SI).
    """

    def combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the sum over the active tasks, whose weights do not depend on the others."""
        del active
        return losses.clamp(min=MIN_LOSS).log().sum()
