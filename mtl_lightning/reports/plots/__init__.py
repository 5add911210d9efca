"""Plots: plain data in, a matplotlib figure out; independent of training and files."""

from mtl_lightning.reports.plots.drawing import draw

__all__ = ["draw"]
