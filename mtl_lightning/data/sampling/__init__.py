"""Samplings: which images an epoch takes; one file each. ``base`` says how to add one."""

from mtl_lightning.data.sampling.at_least import AtLeast
from mtl_lightning.data.sampling.base import Population, Sampling
from mtl_lightning.data.sampling.composition import composition
from mtl_lightning.data.sampling.label_balanced import LabelBalanced
from mtl_lightning.data.sampling.mixed import Mixed
from mtl_lightning.data.sampling.shards import Shards
from mtl_lightning.data.sampling.time_order import TimeOrder

__all__ = [
    "AtLeast",
    "LabelBalanced",
    "Mixed",
    "Population",
    "Sampling",
    "Shards",
    "TimeOrder",
    "composition",
]
