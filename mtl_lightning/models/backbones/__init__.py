"""Backbones, from inputs to features: one file each; ``base`` says how to add one."""

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.ft_transformer import FTTransformer
from mtl_lightning.models.backbones.image_and_table import ImageAndTable
from mtl_lightning.models.backbones.table_mlp import TableMLP
from mtl_lightning.models.backbones.tabm import TabM
from mtl_lightning.models.backbones.timm import Timm
from mtl_lightning.models.backbones.torchvision import Torchvision
from mtl_lightning.models.backbones.vgg import VGG16

__all__ = [
    "VGG16",
    "Backbone",
    "FTTransformer",
    "ImageAndTable",
    "TabM",
    "TableMLP",
    "Timm",
    "Torchvision",
]
