# The public names of this folder and the modules that they are imported from when first used, see
# `mtl_lightning/__init__.pyi`.
from .base import (
    Source as Source,
)
from .base import (
    SourceTable as SourceTable,
)
from .celeba import CelebASource as CelebASource
from .diabetes import DiabetesSource as DiabetesSource
from .digits import DigitsSource as DigitsSource
from .fashionai import FashionAISource as FashionAISource
from .filename import FilenameSource as FilenameSource
from .folder import FolderSource as FolderSource
from .huggingface import HuggingFaceSource as HuggingFaceSource
from .market import MarketSource as MarketSource
from .market1501 import Market1501AttributeSource as Market1501AttributeSource
from .multimnist import MultiMNISTSource as MultiMNISTSource
from .shapes import ShapesSource as ShapesSource
from .stems import StemsSource as StemsSource
from .stream import StreamSource as StreamSource
from .table import TableSource as TableSource
from .torchvision import TorchvisionSource as TorchvisionSource
from .utkface import UTKFaceSource as UTKFaceSource
