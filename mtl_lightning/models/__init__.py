"""The network from inputs to outputs: preprocessing, backbones, pooling, sharing and heads."""

from mtl_lightning.models.backbones import (
    VGG16,
    Backbone,
    FTTransformer,
    ImageAndTable,
    TableMLP,
    TabM,
    Timm,
    Torchvision,
)
from mtl_lightning.models.decoder import Decoder, DecoderOptions
from mtl_lightning.models.features import FeatureSpec, MapSpec
from mtl_lightning.models.heads import HeadOptions, build_head
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.network import Network
from mtl_lightning.models.preprocessing import Normalize, Preprocessing
from mtl_lightning.models.sharing import Hard, Sharing, Soft
from mtl_lightning.models.weights import LoadReport

__all__ = [
    "VGG16",
    "Backbone",
    "Decoder",
    "DecoderOptions",
    "FTTransformer",
    "FeatureSpec",
    "Hard",
    "HeadOptions",
    "ImageAndTable",
    "LoadReport",
    "MapSpec",
    "NamedModules",
    "Network",
    "Normalize",
    "Preprocessing",
    "Sharing",
    "Soft",
    "TabM",
    "TableMLP",
    "Timm",
    "Torchvision",
    "build_head",
]
