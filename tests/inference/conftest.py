from pathlib import Path

import pytest

from mtl_lightning.inference.exporting import export
from tests.helpers.files import exports


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exports.made(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoint, exported in each format."""
    root = tmp_path_factory.mktemp("exported")
    kinds = ("onnx", "safetensors", "torch")
    return {kind: export(checkpoint, root / kind, kind).folder for kind in kinds}
