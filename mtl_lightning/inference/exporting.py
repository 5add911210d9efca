"""From a checkpoint to a folder that runs elsewhere, compared with PyTorch before it is kept."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.inference import formats
from mtl_lightning.inference.card import card
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats import Run
from mtl_lightning.inference.formats.safetensors import run_of
from mtl_lightning.inference.images import AnyImage, ImageReader
from mtl_lightning.inference.names import FORMATS, check_format
from mtl_lightning.runs.checkpoint_reading import read_checkpoint
from mtl_lightning.system.errors import UserError, state_dict_difference
from mtl_lightning.system.files import part_of
from mtl_lightning.tasks.predictor import Predictor

TOLERANCE = 1e-4
"""The largest difference that an exported network may have: absolute for probabilities, else
relative to the largest answer."""
BATCHES = (1, 3)
"""Sizes of the random batches that are compared."""


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        folder: Its folder.
        difference: The largest difference from PyTorch.
        compared: The number of images that were compared.
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
    images: Iterable[AnyImage] = (),
    trusted: Collection[str] = (),
) -> Exported:
    """Export the network of a checkpoint into a new folder.

    The folder appears once the network in it agrees with PyTorch, on random images and on those
    given; otherwise nothing is left behind.

    Args:
        path: The checkpoint.
        folder: The folder, which should not exist, or be empty.
        kind: The format, see `FORMATS`.
        tasks: The tasks to export, by default all.
        images: Real images to compare on.
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
        description = replace(description.with_statistics(predictor), format=kind)
        files = own.write(predictor, description, part)
        description = replace(description, files=files)
        description.write(part)
        (part / "README.md").write_text(card(description, path), encoding="utf-8")
        run = own.open(Description.read(part) if not trusted else description, part)
        real = list(ImageReader(description)(images))
        batches = _batches(description.image_size, real)
        difference = _largest_difference(run_of(predictor), run, batches)
        if not difference <= TOLERANCE:
            raise UserError(
                f"--format {kind}: the exported network differs from PyTorch by {difference:.2g}, "
                f"more than {TOLERANCE:g}; nothing is written"
            )
    return Exported(folder, difference, sum(map(len, batches)))


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


def _batches(
    size: tuple[int, int], images: Sequence[NDArray[np.uint8]]
) -> Sequence[NDArray[np.uint8]]:
    """Return batches of noise, of grey and of real images."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (n, 3, *size), dtype=np.uint8) for n in BATCHES]
    greys = np.empty((3, 3, *size), dtype=np.uint8)
    greys[:] = np.array([0, 127, 255], dtype=np.uint8)[:, None, None, None]
    return [*noise, greys, *([np.stack(images)] if images else [])]


def _largest_difference(one: Run, other: Run, batches: Sequence[NDArray[np.uint8]]) -> float:
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
