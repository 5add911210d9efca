import io
from types import SimpleNamespace

import pytest
from pytorch_lightning import Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mtl_lightning.callbacks.bar import Bar


def test_loss_and_score_and_no_version_number(monkeypatch):
    bar = Bar()
    trainer = SimpleNamespace(
        loggers=[SimpleNamespace(version="version_0")],
        progress_bar_metrics={"train/loss_step": 1.5, "val/score": 0.5},
    )
    module = SimpleNamespace()
    assert bar.get_metrics(trainer, module) == {"loss": 1.5, "score": 0.5}


@pytest.mark.parametrize(("width", "bar_width"), [(80, 8), (100, 28), (200, 40), (40, 6)])
def test_the_bar_takes_what_the_numbers_leave(monkeypatch, width, bar_width):
    console = Console(width=width, file=io.StringIO())
    monkeypatch.setattr("mtl_lightning.callbacks.bar.get_console", lambda: console)
    columns = Bar().configure_columns(
        Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    )
    (bar,) = [column for column in columns if isinstance(column, BarColumn)]
    assert bar.bar_width == bar_width


def test_a_long_line_fits_80_columns(monkeypatch):
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr("mtl_lightning.callbacks.bar.get_console", lambda: console)
    columns = Bar().configure_columns(
        Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    )
    text = TextColumn("loss: 14.068 score: 0.205")
    with Progress(*columns, text, console=console, auto_refresh=False) as progress:
        progress.add_task("Epoch 9/19", total=999, completed=123)
        progress.refresh()
        lines = console.file.getvalue()
    assert "score: 0.205" in lines
    assert "\n" not in lines.split("score")[0]
