"""``test_metrics.json`` and ``val_metrics.json``: the results of ``test`` and ``validate``."""

import json
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.system.files import atomic_write
from mtl_lightning.training.protocol import multi_task


class ResultsFile(Callback):
    """Writes the results of a split as plain JSON: numbers, or null where undefined.

    Args:
        run: The folder to write to.
    """

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``test_metrics.json``."""
        self._write(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``val_metrics.json``, unless this validation is part of a training."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, "val")

    def _write(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if trainer.is_global_zero:
            path, module = self.run / f"{split}_metrics.json", multi_task(pl_module)
            with atomic_write(path) as file:
                json.dump(module.results[split].plain(), file, indent=2)
                file.write("\n")
            module.print(f"written: {path}")
