"""How K losses become one update: one file a method; ``base`` says how to add one."""

from mtl_lightning.balancing.base import Balancing, GradientBalancing, LossBalancing

__all__ = ["Balancing", "GradientBalancing", "LossBalancing"]
