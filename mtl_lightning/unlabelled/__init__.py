"""Learning from cells without a label: one file per method; ``base`` says how to add one."""

from mtl_lightning.unlabelled.base import UnlabelledLearning
from mtl_lightning.unlabelled.self_training import SelfTraining

__all__ = ["SelfTraining", "UnlabelledLearning"]
