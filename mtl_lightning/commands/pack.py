"""``mtl-lightning pack`` writes the data of a config as shards, for one machine or many."""

import sys
from pathlib import Path
from typing import Any

from mtl_lightning.system.errors import UserError, one_line
from mtl_lightning.system.stopping import stoppable

HELP = """usage: mtl-lightning pack --config FILE [--KEY VALUE ...] --output FOLDER [options]

Merges the data of a config as `fit` does and writes them as a few large files, which can be copied
to a network drive or an object store for training: the images byte for byte in shards, and one
table with the labels, a mask for each task and the splits. Images without any
label are left out, and counted.

options:
  --config FILE       the config that `fit` takes; several are merged
  --KEY VALUE         changes a key of it, as for `fit`: --data.on_bad_image skip
  --only TASK...      pack only the labels of these tasks, and the images that carry one
  --output FOLDER     the folder to write; an existing one is never overwritten
  --shard_mb N        megabytes of a shard (default 64)
  -h, --help          print this

Train on it with this source:  {class_path: StreamSource, init_args: {path: FOLDER_OR_URL}}

exit status: 0 if the pack was written, 2 if not; there is no FOLDER then
"""
OPTIONS = ("--config", "--only", "--output", "--shard_mb", "--help")
LARGEST = 2048
"""Largest size of a shard in megabytes; it is fetched as a whole."""


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If the config, an image or a name is wrong.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.commands import command_line
    from mtl_lightning.config import flags

    outputs, rest = flags.pop_options(arguments, ("--output",))
    sizes, rest = flags.pop_options(rest, ("--shard_mb",))
    if not outputs:
        raise UserError("pack needs --output: the folder to write")
    shard_bytes = int(_megabytes(sizes[-1] if sizes else "64") * 1e6)
    line = command_line.check("pack", rest, OPTIONS)
    try:
        with stoppable("stopped; nothing was written"):
            return _pack(rest, line, Path(outputs[-1]), shard_bytes)
    except OSError as error:
        if error.filename is None:
            raise UserError(f"the pack cannot be written: {error.strerror or error}") from error
        raise


def _megabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= LARGEST:
        raise UserError(
            f"--shard_mb should be a number of megabytes above 0 and up to {LARGEST}. Found {text}"
        )
    return size


def _pack(arguments: list[str], line: Any, output: Path, shard_bytes: int) -> int:
    # From here on torch is needed, which takes seconds to import.
    from rich.console import Console

    from mtl_lightning.commands.common import prepare_data
    from mtl_lightning.data.packing import check_free, pack
    from mtl_lightning.system.progress import ProgressBar

    check_free(output)
    _, data = prepare_data("pack", arguments, line)
    data.labels.infer_classes()
    data.labels.encode()
    packed = pack(data, output, shard_bytes, ProgressBar(Console(stderr=True)))
    splits = ", ".join(f"{split} {count:,}" for split, count in packed.images.items())
    sys.stdout.write(
        f"written: {output} ({sum(packed.images.values()):,} images: {splits}; tasks "
        f"{', '.join(data.tasks)}; {packed.shards:,} shards, {packed.size / 1e6:,.1f} MB)\n"
    )
    notes = [f"note: {note}" for note in data.labels.table.notes()]
    if packed.unlabelled:
        notes.append(f"left out: {packed.unlabelled:,} images that carry no label")
    notes += [f"left out: {bad.where}: image {bad.image} {bad.reason}" for bad in packed.unreadable]
    for line in notes:
        sys.stderr.write(f"{one_line(line)}\n")
    return 0
