"""How K losses become one update: one file per method; ``base`` says how to add one."""

from mtl_lightning.balancing.base import (
    BalancingMethod,
    GradientBalancingMethod,
    LossBalancingMethod,
)
from mtl_lightning.balancing.dbmtl import DBMTL
from mtl_lightning.balancing.gradnorm import GradNorm
from mtl_lightning.balancing.prioritisation import DynamicPrioritisation
from mtl_lightning.balancing.scale_invariant import ScaleInvariant

__all__ = [
    "DBMTL",
    "BalancingMethod",
    "DynamicPrioritisation",
    "GradNorm",
    "GradientBalancingMethod",
    "LossBalancingMethod",
    "ScaleInvariant",
]
