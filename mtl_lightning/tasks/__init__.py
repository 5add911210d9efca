"""The kinds of task: one file each."""

from mtl_lightning.tasks.base import Encoded, Task
from mtl_lightning.tasks.classification import Classification
from mtl_lightning.tasks.multilabel import MultiLabel
from mtl_lightning.tasks.ordinal import Ordinal
from mtl_lightning.tasks.regression import Regression

__all__ = ["Classification", "Encoded", "MultiLabel", "Ordinal", "Regression", "Task"]
