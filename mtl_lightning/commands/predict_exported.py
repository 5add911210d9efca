"""``mtl-lightning predict --model``: the answers of an exported network, without its training."""

import sys
from pathlib import Path

from mtl_lightning.system.errors import UserError, did_you_mean

HELP = """usage: mtl-lightning predict --model FOLDER --images IMAGES [options]

Writes the answers of a network that `mtl-lightning export` wrote: of model.onnx by onnxruntime, of
the other formats by PyTorch. It needs neither the run nor its data.

options:
  --model FOLDER      the folder of the export
  --images IMAGES     a folder, a table, a glob or a file; for a network that reads columns, a table
  --output FILE       .csv, .parquet or .jsonl (default predictions.csv)
  --batch_size N      the rows that the network gets at once (default 32)
  --resume            go on where the same command has ended
  --allow_outside_root
                      images may be outside the given folder or the table's folder
  -h, --help          print this

exit status: 0 if the answers were written, 2 if not
"""
VALUES = {"--model": "", "--images": "", "--output": "predictions.csv", "--batch_size": "32"}
SWITCHES = ("--resume", "--allow_outside_root")
THREADS = 2
"""Batches of images that are read at once, beside the one that the network gets."""


def is_asked(arguments: list[str]) -> bool:
    """Whether the arguments of ``predict`` name the folder of an export."""
    return any(argument.partition("=")[0] == "--model" for argument in arguments)


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If an option is wrong, or an image or cell cannot be read.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.config import flags

    given, rest = dict(VALUES), list(arguments)
    for option in VALUES:
        found, rest = flags.pop_options(rest, (option,))
        if found:
            given[option] = found[-1]
    switches = {switch: switch in rest for switch in SWITCHES}
    for argument in rest:
        if argument not in SWITCHES:
            near = did_you_mean(argument, [*VALUES, *SWITCHES])
            raise UserError(
                f"{argument}: predict with --model has no such option{near}; --help prints all"
            )
    if not given["--images"]:
        raise UserError("predict needs --images: a folder, a table, a glob or a file")
    size = given["--batch_size"]
    if not size.isdecimal() or not int(size):
        raise UserError(f"--batch_size should be a whole number above 0. Found {size}")
    return _predict(
        Path(given["--model"]),
        given["--images"],
        Path(given["--output"]),
        int(size),
        switches["--resume"],
        switches["--allow_outside_root"],
    )


def _predict(
    folder: Path, spec: str, output: Path, batch_size: int, resume: bool, allow_outside_root: bool
) -> int:
    # From here on torch is needed, which takes seconds to import.
    from hashlib import sha256

    import numpy as np
    from rich import get_console

    from mtl_lightning.data.unlabelled import UnlabelledImages
    from mtl_lightning.inference.model import load
    from mtl_lightning.inference.predictions.table import PredictionTable, check_output, digest
    from mtl_lightning.system.progress import ProgressBar

    check_output(output)
    if not folder.is_dir():
        raise UserError(f"--model should be a folder of `mtl-lightning export`. Found {folder}")
    model = load(folder)
    images = UnlabelledImages.find(spec, allow_outside_root, inputs=model.reader.inputs)
    _say(*(f"note: --images {spec}: {note}" for note in images.notes))
    table = PredictionTable(images.names, output, "image" if images.has_image.any() else "row")
    contents = ((path.name, sha256(path.read_bytes()).hexdigest()) for path in _files(folder))
    done = table.start({"model": digest(contents), "cells": digest(images.cells())}, resume)
    try:
        if len(done):
            _say(table.resumed(done))
        rows = np.setdiff1d(np.arange(len(images)), done)
        batches = np.split(rows, range(batch_size, len(rows), batch_size))
        read, bar = model.reader.of_files(images), ProgressBar(get_console())
        for some, values in zip(batches, bar.imap(read, batches, "predict", THREADS), strict=True):
            answers, every = model.run(values), np.ones(len(some), dtype=bool)
            columns = {name: task.columns(answers[name]) for name, task in model.tasks.items()}
            files = {
                name: (task.answer_suffix, task.encode_answers(answers[name]))
                for name, task in model.tasks.items()
            }
            table.add(some, columns, files, used=every, bad=~every)
        table.flush()
        lines = table.finish()
    except BaseException:
        line = table.interrupted()
        _say(*([] if line is None else [line]))
        raise
    _say(*lines)
    return 0


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _say(*lines: str) -> None:
    from rich import get_console

    for line in lines:
        get_console().print(line, markup=False, highlight=False, soft_wrap=True)
