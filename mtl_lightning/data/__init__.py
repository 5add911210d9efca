"""Files to batches: sources, merging, splits, the step plan, loading."""

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.data.sampling import (
    AtLeast,
    LabelBalanced,
    Mixed,
    Sampling,
    Shards,
)
from mtl_lightning.data.sources import (
    CelebASource,
    DigitsSource,
    FashionAISource,
    FilenameSource,
    FolderSource,
    HuggingFaceSource,
    Market1501AttributeSource,
    MultiMNISTSource,
    Source,
    SourceTable,
    StreamSource,
    TableSource,
    TorchvisionSource,
    UTKFaceSource,
)

__all__ = [
    "AtLeast",
    "Batch",
    "CelebASource",
    "DigitsSource",
    "FashionAISource",
    "FilenameSource",
    "FolderSource",
    "HuggingFaceSource",
    "Intensity",
    "LabelBalanced",
    "Market1501AttributeSource",
    "Mirror",
    "Mixed",
    "MultiMNISTSource",
    "PartialLabels",
    "Sampling",
    "Shards",
    "Source",
    "SourceTable",
    "StreamSource",
    "TableSource",
    "TorchvisionSource",
    "UTKFaceSource",
]
