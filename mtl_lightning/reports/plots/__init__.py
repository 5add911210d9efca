"""Plain data in, a matplotlib figure out; these modules know nothing of training or files."""

from mtl_lightning.reports.plots.drawing import draw

__all__ = ["draw"]
