"""``mtl-lightning inspect``: an audit of the data of a config, before anything is trained."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_lightning.system.errors import UserError

HELP = """usage: mtl-lightning inspect --config FILE [--KEY VALUE ...] [options]

Audits the data of a config before training: labels by source, classes, tasks missing from steps,
copies and leaks between splits, labels that contradict each other or look
misspelt, sizes of images, images that cannot be read. Nothing is changed.

options:
  --config FILE       the config that `fit` takes; several are merged
  --KEY VALUE         changes a key of it, as for `fit`: --data.batch_size 64
  --only TASK...      audit only these tasks
  --output FILE.html  also write a page with every finding, all classes and samples of each task
  --sheet FILE.png    also draw the samples of each task with their labels
  --all               decode every image; by default 500, and the sizes of 10,000 are read
  -h, --help          print this

exit status: 0 if nothing is wrong (warnings are allowed), 1 if an error was found, 2 if the config
itself cannot be used
"""
OPTIONS = ("--config", "--only", "--output", "--sheet", "--all", "--help", "--name", "--ckpt_path")
FILES = {"--output": (".html", ".htm"), "--sheet": (".png",)}


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If the config, or the name of an output file, is wrong.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.commands import command_line
    from mtl_lightning.config import flags

    outputs, rest = {}, list(arguments)
    for option in FILES:
        values, rest = flags.pop_options(rest, (option,))
        if values:
            outputs[option] = _checked(option, Path(values[-1]))
    everything = "--all" in rest
    rest = [argument for argument in rest if argument != "--all"]
    line = command_line.check("inspect", rest, OPTIONS)
    return _audit(rest, line, outputs.get("--output"), outputs.get("--sheet"), everything)


def _checked(option: str, path: Path) -> Path:
    """Refuse a file that cannot be written before minutes are spent on it."""
    if path.suffix.lower() not in FILES[option]:
        raise UserError(f"{option} should be a name that ends in {FILES[option][0]}. Found {path}")
    if path.is_dir():
        raise UserError(f"{option} {path}: this is a folder; give the name of a file in it")
    return path


def _audit(
    arguments: list[str], line: Any, page: Path | None, sheet: Path | None, everything: bool
) -> int:
    # From here on torch is needed, which takes seconds to import.
    from rich import get_console

    from mtl_lightning.audit.findings import Level
    from mtl_lightning.audit.report import audit
    from mtl_lightning.commands.common import prepare_data
    from mtl_lightning.reports import audit_console
    from mtl_lightning.reports import audit_page as pages
    from mtl_lightning.reports import audit_sheet as sheets
    from mtl_lightning.system.progress import ProgressBar

    prepared, data = prepare_data("inspect", arguments, line)
    console = get_console()
    seed = prepared.config.get("seed_everything")
    report = audit(
        prepared.name,
        data,
        step_size(prepared.config, data.batch_size),
        seed=seed if type(seed) is int else 0,
        everything=everything,
        progress=ProgressBar(console),
    )
    written = [path for path in (page, sheet) if path is not None]
    if page is not None:
        pages.write(report, page)
    if sheet is not None:
        sheets.write(report, sheet)
    for part in audit_console.parts(report):
        console.print(part, highlight=False)
    for path in written:
        console.print(f"written: {path}", markup=False, highlight=False)
    return int(report.count(Level.ERROR) > 0)


def step_size(config: Mapping[str, Any], batch_size: int) -> Any:
    """Return the size of a step of the config's trainer.

    Args:
        config: The whole config.
        batch_size: The batch size of the data.
    """
    from mtl_lightning.audit.absence_odds import StepSize

    trainer = config.get("trainer") or {}
    nodes = int(trainer.get("num_nodes") or 1)
    devices = _devices(trainer.get("devices") or "auto", trainer.get("accelerator") or "auto")
    accumulate = int(trainer.get("accumulate_grad_batches") or 1)
    return StepSize(batch_size, devices * nodes, accumulate)


def _devices(devices: Any, accelerator: str) -> int:
    """Return the number of devices of ``trainer.devices``; for ``auto``, those of this machine."""
    import torch

    text = str(devices).strip(" []").rstrip(",")
    if text not in ("auto", "-1"):
        listed = isinstance(devices, list) or "," in str(devices)
        return len(text.split(",")) if listed else int(text)
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.device_count()
    return 1
