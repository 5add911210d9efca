"""Sources of images and labels: one file each; ``base`` says how to add one."""

from mtl_lightning.data.sources.base import Source, SourceTable
from mtl_lightning.data.sources.celeba import CelebASource
from mtl_lightning.data.sources.digits import DigitsSource
from mtl_lightning.data.sources.fashionai import FashionAISource
from mtl_lightning.data.sources.filename import FilenameSource
from mtl_lightning.data.sources.folder import FolderSource
from mtl_lightning.data.sources.huggingface import HuggingFaceSource
from mtl_lightning.data.sources.market1501 import Market1501AttributeSource
from mtl_lightning.data.sources.multimnist import MultiMNISTSource
from mtl_lightning.data.sources.stream import StreamSource
from mtl_lightning.data.sources.table import TableSource
from mtl_lightning.data.sources.torchvision import TorchvisionSource
from mtl_lightning.data.sources.utkface import UTKFaceSource

__all__ = [
    "CelebASource",
    "DigitsSource",
    "FashionAISource",
    "FilenameSource",
    "FolderSource",
    "HuggingFaceSource",
    "Market1501AttributeSource",
    "MultiMNISTSource",
    "Source",
    "SourceTable",
    "StreamSource",
    "TableSource",
    "TorchvisionSource",
    "UTKFaceSource",
]
