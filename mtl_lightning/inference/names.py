"""The names of formats and what they need, which are known before anything heavy is imported."""

from collections.abc import Mapping
from importlib.util import find_spec

from mtl_lightning.system.errors import UserError, did_you_mean, listed

FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "onnx": ("ONNX", ("onnx", "onnxruntime", "onnxscript")),
    "safetensors": ("SafeTensors", ()),
    "torch": ("PT2", ()),
}
"""Format to its class in `mtl_lightning.inference.formats`, and the packages of the extra
``export`` that it needs."""


def check_format(name: str) -> None:
    """Raise a ``UserError`` if there is no such format, or its packages are not installed."""
    if name not in FORMATS:
        raise UserError(
            f"--format should be one of {listed(FORMATS)}. Found {name}"
            f"{did_you_mean(name, FORMATS)}"
        )
    missing = [package for package in FORMATS[name][1] if find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format {name}: its packages are not installed ({listed(missing)}): "
            "pip install 'mtl-lightning[export]'"
        )
