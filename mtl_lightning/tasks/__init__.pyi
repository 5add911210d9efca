# The public names of this folder and the modules that they are imported from when first used, see
# `mtl_lightning/__init__.pyi`.
from .base import (
    Encoded as Encoded,
)
from .base import (
    Task as Task,
)
from .classification import Classification as Classification
from .dense_regression import DenseRegression as DenseRegression
from .hierarchical import HierarchicalClassification as HierarchicalClassification
from .multi_regression import MultiRegression as MultiRegression
from .multilabel import MultiLabel as MultiLabel
from .ordinal import Ordinal as Ordinal
from .regression import Regression as Regression
from .segmentation import Segmentation as Segmentation
