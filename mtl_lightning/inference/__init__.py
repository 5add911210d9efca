"""Trained networks elsewhere: exported folders in several formats, and answers for images."""

from mtl_lightning.inference.model import Model, load

__all__ = ["Model", "load"]
