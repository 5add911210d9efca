"""From files to batches: sources, merging, splits, the step plan, loading."""

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import (
    DigitsSource,
    FolderSource,
    Source,
    SourceTable,
    TableSource,
)

__all__ = [
    "Batch",
    "DigitsSource",
    "FolderSource",
    "PartialLabels",
    "Source",
    "SourceTable",
    "TableSource",
]
