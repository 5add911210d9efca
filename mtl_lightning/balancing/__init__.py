"""How K losses become one update: one file a method; ``base`` says how to add one."""

from mtl_lightning.balancing.base import Balancing, GradientBalancing, LossBalancing
from mtl_lightning.balancing.dbmtl import DBMTL
from mtl_lightning.balancing.gradnorm import GradNorm
from mtl_lightning.balancing.prioritisation import DynamicPrioritisation
from mtl_lightning.balancing.scale_invariant import ScaleInvariant

__all__ = [
    "DBMTL",
    "Balancing",
    "DynamicPrioritisation",
    "GradNorm",
    "GradientBalancing",
    "LossBalancing",
    "ScaleInvariant",
]
