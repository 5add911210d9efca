"""The progress bar: one line with loss and score."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from rich import get_console
from rich.progress import BarColumn

_TEXT = 72
"""Columns that the numbers next to the bar take."""


class Bar(RichProgressBar):
    """Lightning's rich bar on one line of a terminal with 80 columns."""

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Shorten the bar, so that the numbers do not wrap."""
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = min(max(get_console().width - _TEXT, 6), 40)
        return columns

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Show loss and score, without Lightning's version number: the run's folder is printed."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        short = {"train/loss_step": "loss", "val/score": "score"}
        return {short.get(name, name): value for name, value in metrics.items()}
