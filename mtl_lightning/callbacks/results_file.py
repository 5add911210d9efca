"""``test_metrics.json`` and ``val_metrics.json``: the results of ``test`` and ``validate``."""

import json
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.callbacks.slices import Slices
from mtl_lightning.runs.facts import SliceResults
from mtl_lightning.system.files import atomic_write
from mtl_lightning.tasks.results import plain_numbers
from mtl_lightning.training.protocol import multi_task


class ResultsFile(Callback):
    """Writes the results of a split as plain JSON: numbers, or null where undefined.

    Args:
        run: The folder to write to.
        slices: The callback that measures parts of the split, if any, which is called before.
    """

    def __init__(self, run: Path, slices: Slices | None = None) -> None:
        self.run = run
        self.slices = slices

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
                json.dump(module.results[split].plain() | self._parts(), file, indent=2)
                file.write("\n")
            module.print(f"written: {path}")

    def _parts(self) -> dict[str, object]:
        """Return the results of sources and slices, if there are any."""
        if self.slices is None:
            return {}
        parts: dict[str, object] = {}
        if self.slices.sources:
            parts["sources"] = {task: _plain(own) for task, own in self.slices.sources.items()}
        if self.slices.columns:
            parts["slices"] = {
                task: {column: _plain(own) for column, own in columns.items()}
                for task, columns in self.slices.columns.items()
            }
        return parts


def _plain(results: Sequence[SliceResults]) -> list[dict[str, object]]:
    return [{"name": own.name, **plain_numbers(own.values)} for own in results]
