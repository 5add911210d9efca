"""The formats of exported networks: one file each; ``base`` says how to add one."""

from mtl_lightning.inference.formats.base import ExportFormat, Run
from mtl_lightning.inference.formats.onnx import ONNX
from mtl_lightning.inference.formats.pt2 import PT2
from mtl_lightning.inference.formats.safetensors import SafeTensors

__all__ = ["ONNX", "PT2", "ExportFormat", "Run", "SafeTensors"]
