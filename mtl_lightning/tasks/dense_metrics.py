"""Errors of dense predictions, over the pixels of a split that have a label.

As in the literature on NYUv2, all pixels of all images count alike.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

THRESHOLDS = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}
"""Degrees, of Fouhey, Gupta and Hebert 2013."""
_BINS = 1800


class DepthErrors(Metric):
    """The errors of Eigen, Puhrsch and Fergus 2014, "Depth Map Prediction from a Single Image".

    ``mae`` and ``rmse`` are in the label's unit; ``rel`` is the mean of the error divided by the
    label; ``delta1`` to ``delta3`` are the shares of pixels whose larger value is less than 1.25,
    1.25 squared and cubed times the smaller one. These four are over labels above 0.
    """

    full_state_update = False
    higher_is_better = True
    names = ("delta1", "delta2", "delta3", "mae", "rmse", "rel")
    sums: Tensor
    hits: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Pixels, absolute and squared error; pixels above 0, their relative error.
        self.add_state("sums", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, height, width)`` predictions and targets, which are 0 without a label."""
        preds, target = preds.to(self.sums.dtype), target.to(self.sums.dtype)
        valid, above = target != 0, target > torch.finfo(torch.float32).tiny
        error = torch.where(valid, preds - target, 0).abs()
        label = torch.where(above, target, 1)
        relative = torch.where(above, error / label, 0)
        ratio = torch.maximum(preds / label, label / preds.clamp(min=1e-12))
        totals = valid.sum(), error.sum(), error.square().sum(), above.sum(), relative.sum()
        self.sums += torch.stack([total.to(self.sums.dtype) for total in totals])
        self.hits += torch.stack([(above & (ratio < 1.25**k)).sum() for k in (1, 2, 3)])

    def compute(self) -> dict[str, Tensor]:
        """Return the errors by name; NaN if no label is above 0."""
        pixels, absolute, squared, above, relative = self.sums
        shares = self.hits / above
        return {
            **{f"delta{k}": shares[k - 1] for k in (1, 2, 3)},
            "mae": absolute / pixels,
            "rmse": (squared / pixels).sqrt(),
            "rel": relative / above,
        }


class AngularErrors(Metric):
    """Angles between vectors, in degrees, and the shares below 11.25, 22.5 and 30 degrees.

    As in Fouhey, Gupta and Hebert 2013, "Data-Driven 3D Primitives for Single Image Understanding",
    and Eigen and Fergus 2015. The median is exact to a tenth of a degree.
    """

    full_state_update = False
    higher_is_better = True
    names = (*THRESHOLDS, "angle_mean", "angle_median")
    histogram: Tensor
    hits: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("histogram", torch.zeros(_BINS, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(len(THRESHOLDS), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, 3, height, width)`` unit vectors; targets are 0 without a label."""
        preds, target = preds.to(self.total.dtype), target.to(self.total.dtype)
        valid = (target != 0).any(1)
        cosine = torch.nn.functional.cosine_similarity(preds, target, dim=1)
        angles = cosine.clamp(-1, 1).arccos().rad2deg()
        self.total += torch.where(valid, angles, 0).sum()
        self.hits += torch.stack(
            [(valid & (angles < limit)).sum() for limit in THRESHOLDS.values()]
        )
        # Pixels without a label go to a bin of their own.
        bins = torch.where(valid, (angles * (_BINS / 180)).long().clamp(max=_BINS - 1), _BINS)
        self.histogram += torch.bincount(bins.flatten(), minlength=_BINS + 1)[:_BINS]

    def compute(self) -> dict[str, Tensor]:
        """Return the errors by name."""
        pixels = self.histogram.sum()
        middle = torch.searchsorted(self.histogram.cumsum(0), (pixels + 1) // 2)
        shares = self.hits / pixels
        return {
            **dict(zip(THRESHOLDS, shares, strict=True)),
            "angle_mean": self.total / pixels,
            "angle_median": (middle + 0.5) * (180 / _BINS),
        }
