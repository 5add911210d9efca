"""One audit of the messy tables, for all that shows it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.report import Report, audit
from mtl_lightning.commands import prepare, trainer
from mtl_lightning.system.progress import Progress
from tests.helpers import messy


def audited(name: str) -> Report:
    """Audit a config in the current folder."""
    prepared = prepare.prepare("inspect", ["--config", name])
    data = trainer.build_data(prepared.config)
    quiet = Progress(Console(file=io.StringIO()))
    return audit(prepared.name, data, StepSize(data.batch_size, 2), 0, True, quiet)


@pytest.fixture(scope="package")
def messy_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The audit of `messy`."""
    folder: Path = tmp_path_factory.mktemp("messy")
    messy.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return audited("messy.yaml")
