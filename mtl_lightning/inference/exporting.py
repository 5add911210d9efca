"""From a checkpoint to a folder that runs elsewhere, compared with PyTorch before it is kept."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtl_lightning.inference import formats
from mtl_lightning.inference.card import card
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats import Run
from mtl_lightning.inference.formats.safetensors import run_of
from mtl_lightning.inference.names import FORMATS, check_format
from mtl_lightning.inference.rows import Given, InputReader
from mtl_lightning.inference.values import IMAGES, Values, examples
from mtl_lightning.runs.checkpoint_reading import read_checkpoint
from mtl_lightning.system.errors import UserError, state_dict_difference
from mtl_lightning.system.files import part_of
from mtl_lightning.tasks.predictor import Predictor

TOLERANCE = 1e-4
"""The largest difference that an exported network may have: absolute for probabilities, else
relative to the largest answer."""
BATCHES = (1, 3)
"""Sizes of the random batches that are compared."""
MOST = 64
"""Rows of the largest batch."""


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        folder: Its folder.
        difference: The largest difference from PyTorch.
        compared: The number of rows that were compared.
    """

    folder: Path
    difference: float
    compared: int


def load_predictor(path: Path, description: Description) -> Predictor:
    """Build the network of a checkpoint with its weights, on the CPU.

    Args:
        path: The checkpoint.
        description: Its `Description`, perhaps with only some of its tasks.

    Raises:
        UserError: If the checkpoint does not fit it.
    """
    predictor = description.build()
    state = read_checkpoint(path)["state_dict"]
    own = predictor.state_dict()
    try:
        predictor.load_state_dict({name: state[name] for name in own if name in state})
    except RuntimeError as error:
        raise UserError(
            f"checkpoint {path}: does not fit its network ({state_dict_difference(error)})"
        ) from error
    return predictor


def export(
    path: Path,
    folder: Path,
    kind: str = "onnx",
    tasks: Collection[str] = (),
    images: Given = (),
    trusted: Collection[str] = (),
) -> Exported:
    """Export the network of a checkpoint into a new folder.

    The folder appears once the network in it agrees with PyTorch, on random inputs and on those
    given; otherwise nothing is left behind.

    Args:
        path: The checkpoint.
        folder: The folder, which should not exist, or be empty.
        kind: The format, see `FORMATS`.
        tasks: The tasks to export, by default all.
        images: Real images, or rows of a network that reads columns, to compare on.
        trusted: Modules of the user's own classes.

    Raises:
        UserError: If it cannot be written, or answers differ by more than `TOLERANCE`.
    """
    check_format(kind)
    check_folder(folder)
    description = Description.of_checkpoint(path, trusted)
    if tasks:
        description = description.only(tasks)
    predictor = load_predictor(path, description)
    own = getattr(formats, FORMATS[kind][0])()
    with _new_folder(folder) as part:
        description = replace(description.completed(predictor), format=kind)
        files = own.write(predictor, description, part)
        description = replace(description, files=files)
        description.write(part)
        (part / "README.md").write_text(card(description, path), encoding="utf-8")
        run = own.open(Description.read(part) if not trusted else description, part)
        batches = [*_made_up(description), *InputReader(description).batches(images, MOST)]
        difference = _largest_difference(run_of(predictor), run, batches)
        if not difference <= TOLERANCE:
            raise UserError(
                f"--format {kind}: the exported network differs from PyTorch by {difference:.2g}, "
                f"more than {TOLERANCE:g}; nothing is written"
            )
    return Exported(folder, difference, sum(len(next(iter(batch.values()))) for batch in batches))


def check_folder(folder: Path) -> None:
    """Raise a ``UserError`` if a new folder cannot be made there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a folder that is not empty" if folder.is_dir() else "a file"
        raise UserError(f"--output should be a new folder. Found {what}: {folder}")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``folder`` once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if folder.exists():
            folder.rmdir()  # it is empty
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _made_up(description: Description) -> list[Values]:
    """Return batches of noise, and of grey images with noise in the columns."""
    random = np.random.default_rng(0)
    batches = [examples(description, rows, random) for rows in BATCHES]
    greys = examples(description, 3, random)
    if IMAGES in greys:
        greys[IMAGES][:] = np.array([0, 127, 255], dtype=np.uint8)[:, None, None, None]
    return [*batches, greys]


def _largest_difference(one: Run, other: Run, batches: Sequence[Values]) -> float:
    """Return the largest difference of any answer; infinite if one is missing, or not finite."""
    largest = 0.0
    for batch in batches:
        expected, found = one(batch), other(batch)
        if expected.keys() != found.keys():
            return float("inf")
        for name, values in expected.items():
            if found[name].shape != values.shape:
                return float("inf")
            wide, own = values.astype(np.float64), found[name].astype(np.float64)
            scale = max(1.0, float(np.abs(wide).max(initial=0.0)))
            difference = float(np.abs(wide - own).max(initial=0.0)) / scale
            largest = max(largest, difference if np.isfinite(difference) else float("inf"))
    return largest
