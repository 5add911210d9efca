from pathlib import Path

import pytest

from mtl_lightning.inference.exporting import export
from tests.helpers.files import exports


class Folders(dict[str, Path]):
    """The checkpoint exported in each format, when it is first asked for."""

    def __init__(self, checkpoint: Path, root: Path) -> None:
        super().__init__()
        self.checkpoint, self.root = checkpoint, root

    def __missing__(self, kind: str) -> Path:
        self[kind] = export(self.checkpoint, self.root / kind, kind).folder
        return self[kind]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exports.made(tmp_path_factory.mktemp("trained"), calibration=exports.CALIBRATION)


@pytest.fixture(scope="session")
def folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(checkpoint, tmp_path_factory.mktemp("exported"))
