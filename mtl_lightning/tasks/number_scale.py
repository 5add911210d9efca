"""How a number in the label's own unit and the head's standardised output follow from each other.

A standardised number is 0 at the mean of the training labels and 1 one standard deviation above
it; of their logarithms, if the scale is ``log``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.system.errors import UserError

Scale = Literal["linear", "log"]
"""``log``: errors are ratios, so that 1 against 2 is as wrong as 100 against 200."""

LARGEST = float(np.finfo(np.float32).max)
"""Labels and answers are at most that large: no square of them overflows float64."""


@dataclass(frozen=True)
class NumberScale:
    """The scale on which numbers are learned, and the range that they cannot leave.

    Args:
        scale: See `Scale`.
        bounds: The smallest and largest possible number; None for no limits.

    Raises:
        UserError: If there can be no number in the bounds, or no logarithm of one.
    """

    scale: Scale = "linear"
    bounds: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.bounds is None:
            return
        if len(self.bounds) != 2 or not -LARGEST <= self.bounds[0] < self.bounds[1] <= LARGEST:
            raise UserError(
                f"bounds should be the smallest and the largest possible number. Found "
                f"{list(self.bounds)}"
            )
        if self.scale == "log" and self.bounds[0] <= 0:
            raise UserError(
                f"bounds should be above 0 with scale: log. Found {list(self.bounds)}; the "
                f"logarithm has no other limits"
            )

    def holds(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which numbers are possible labels; NaN is none."""
        low, high = (-LARGEST, LARGEST) if self.bounds is None else self.bounds
        inside = (numbers >= low) & (numbers <= high)
        return inside & (numbers > 0) if self.scale == "log" else inside

    def expected(self) -> str:
        """Describe the possible labels in a few words."""
        words = "a finite number"
        if self.bounds is not None:
            return f"{words} in {self.bounds[0]:.15g}..{self.bounds[1]:.15g} (bounds)"
        return f"{words} above 0 (scale: log)" if self.scale == "log" else words

    def learned(self, numbers: Tensor) -> Tensor:
        """Return what mean and deviation are of: the numbers, or their logarithms.

        What stands for a missing label may be 0; its logarithm is finite too, or its gradient
        would be NaN even where its loss is left out.
        """
        return torch.where(numbers > 0, numbers, 1.0).log() if self.scale == "log" else numbers

    def standardised(self, numbers: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return numbers in standard deviations from the mean."""
        return (self.learned(numbers) - mean) / std

    def limited(self, outputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return a head's outputs as standardised numbers within the bounds.

        Without bounds they are the outputs. Otherwise they follow a sigmoid between the bounds,
        which at 0 has the value 0 and the slope 1.
        """
        if self.bounds is None:
            return outputs
        low, high = self._standard_bounds(mean, std)
        span = high - low
        below, above = -low / span, high / span
        steepness = span * below * above
        # The sigmoid's difference from its value at 0, without differences of large numbers: in
        # float64 bounds may be very far away.
        logits = outputs.to(span.dtype) / steepness
        # Not clamped, which has the gradient 0 at 0.
        up, down = torch.where(logits >= 0, logits, 0.0), torch.where(logits < 0, logits, 0.0)
        inside = torch.where(
            logits >= 0,
            -torch.expm1(-up) / (torch.exp(-up) - below * torch.expm1(-up)),
            torch.expm1(down) / (torch.exp(down) - above * torch.expm1(down)),
        )
        return (steepness * inside).to(outputs.dtype)

    def numbers(self, standardised: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return standardised numbers in the label's own unit."""
        numbers = standardised * std + mean
        if self.scale == "log":
            numbers = numbers.clamp(max=math.log(LARGEST)).exp()
        if self.bounds is not None:  # which rounding may have left
            numbers = numbers.clamp(*self.bounds)
        return numbers

    def written(self, numbers: NDArray[np.float64], std: float) -> NDArray[np.float64]:
        """Return ``(n,)`` answers without digits that a network of float32 has not."""
        if self.scale == "log":
            return np.array([float(f"{number:.7g}") for number in numbers], dtype=np.float64)
        digits = 7 - math.floor(math.log10(max(std, 1e-300)))
        return np.round(numbers, digits)

    def _standard_bounds(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        assert self.bounds is not None
        limits = torch.tensor(list(self.bounds), dtype=mean.dtype, device=mean.device)
        low, high = self.learned(limits).unbind()
        return (low - mean) / std, (high - mean) / std
