"""Where images and labels come from: one file a kind of source. The recipe is in `base`."""

from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.data.sources.digits import DigitsSource
from mtl_lightning.data.sources.folder import FolderSource
from mtl_lightning.data.sources.table import TableSource

__all__ = ["DigitsSource", "FolderSource", "Source", "SourceTable", "TableSource"]
