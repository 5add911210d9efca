"""Multi-MNIST: two handwritten digits on each image, made from MNIST's own files."""

import gzip
import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels
from mtl_lightning.data.sources.locate import Path, texts
from mtl_lightning.data.splits import hashed
from mtl_lightning.system.errors import UserError

_FILES = {"train": "train", "val": "train", "test": "t10k"}
"""Split to the prefix of the names of MNIST's files with its digits."""
_SIDES = ("left", "right")
_SIDE = 28  # pixels of a digit


class MultiMNISTSource(Source):
    """Two overlaid digits of MNIST: which is the upper left, which the lower right?

    Built as in Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization" (MGDA),
    NeurIPS 2018: 28 x 28 pixels each, one at (0, 0) and one at (6, 6) of a canvas of 36 x 36, the
    brighter pixel wins, and the whole is resized to 28 x 28 by nearest neighbour. There are two
    kinds of labels, ``left`` and ``right``, each ``0`` to ``9``.

    No digit of MNIST is in two splits: test images are made from MNIST's test file, training and
    validation images from two parts of its training file. An image depends only on the arguments.

    Args:
        path: The folder with MNIST's four IDX files (``train-images-idx3-ubyte`` and so on), plain
            or as ``.gz``.
        train: Number of training images; the digits not used for validation are used equally often.
        val: Number of validation images; their share of both is their share of the digits.
        test: Number of test images.
        seed: The seed of the choice of validation digits and of the pairing.
        canvas: Height and width of the canvas in pixels.
        offset: Offset of the second digit below and to the right of the first, in pixels.
        size: Height and width of the image in pixels.
        one_label: Whether each training image has only one of its two labels, half of them each;
            val and test keep both.
        labels: Task to ``left`` or ``right``; by default the tasks of these names.
    """

    def __init__(
        self,
        path: Path,
        train: int = 50_000,
        val: int = 10_000,
        test: int = 10_000,
        seed: int = 0,
        canvas: int = 36,
        offset: int = 6,
        size: int = 28,
        one_label: bool = False,
        labels: Labels | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.counts = {"train": train, "val": val, "test": test}
        self.seed = seed
        self.canvas = canvas
        self.offset = offset
        self.size = size
        self.one_label = one_label
        self.labels = labels
        least = {"train": 1, "val": 0, "test": 0, "seed": 0, "offset": 0, "size": 1}
        least["canvas"] = _SIDE + max(offset, 0)  # both digits are on it
        for name, value in (*self.counts.items(), *vars(self).items()):
            if name in least and value < least[name]:
                raise UserError(f"{name} should be at least {least[name]}. Found {value}")

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Pair the digits; see `Source.read`."""
        pairs = {split: self._pairs(split) for split in self.counts}
        keys, sides = [], []
        for split, pair in pairs.items():
            _, digits = _mnist(self.path, _FILES[split])
            sides.append(digits[pair])
            keys += [f"multimnist:{split}:{one}:{other}:{i}" for i, (one, other) in enumerate(pair)]
        digits = np.concatenate(sides)
        splits = np.repeat(texts(list(pairs)), [len(pair) for pair in pairs.values()])
        names = texts(keys)
        cells = {side: self._cells(i, digits, splits, names) for i, side in enumerate(_SIDES)}
        columns = Columns(
            "multimnist", _SIDES, lambda name: cells[name].copy(), lambda i, _: keys[i], kind="side"
        )
        return SourceTable(
            origin="multimnist",
            images=names,
            keys=names,
            labels=columns.labels(columns.of_tasks(tasks, self.labels), tasks),
            splits=splits,
        )

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return an image as (size, size, 3) RGB, uint8; ink is bright, as in MNIST."""
        _, split, one, other, _ = image.split(":")
        scans, _ = _mnist(self.path, _FILES[split])
        canvas = np.zeros((self.canvas, self.canvas), dtype=np.uint8)
        canvas[:_SIDE, :_SIDE] = scans[int(one)]
        below = canvas[self.offset :, self.offset :][:_SIDE, :_SIDE]
        np.maximum(below, scans[int(other)], out=below)
        # The pixel whose area contains the centre of the new one.
        nearest = ((np.arange(self.size) + 0.5) * (self.canvas / self.size)).astype(np.int64)
        return np.repeat(canvas[np.ix_(nearest, nearest)][:, :, None], 3, axis=2)

    def _pairs(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the two digits of each image of a split, (n, 2)."""
        wanted = self.counts[split]
        own = self._own_digits(split)
        if wanted and len(own) < 2:
            raise UserError(
                f"multimnist: {self.path} has too few digits for {wanted} {split} images; "
                "expected MNIST's 60,000 for training and 10,000 to test"
            )
        draw = np.random.default_rng([self.seed, list(_FILES).index(split)])
        rounds = []
        for _ in range(-(-wanted // max(len(own), 1))):
            order = draw.permutation(own)
            # Each is paired with the next: all are used once on either side, none with itself.
            rounds.append(np.stack([order, np.roll(order, 1)], axis=1))
        return np.concatenate([np.empty((0, 2), dtype=np.int64), *rounds])[:wanted]

    def _own_digits(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the digits of a split."""
        count = len(_mnist(self.path, _FILES[split])[1])
        if split == "test":
            return np.arange(count)
        order = np.random.default_rng([self.seed, len(_FILES)]).permutation(count)
        val = self.counts["val"]
        cut = round(count * val / (self.counts["train"] + val))
        return order[:cut] if split == "val" else order[cut:]

    def _cells(self, side: int, digits: npt.NDArray[np.uint8], splits: Texts, keys: Texts) -> Texts:
        cells = np.array([str(digit) for digit in range(10)], dtype=object)[digits[:, side]]
        if self.one_label:
            train = np.flatnonzero(splits == "train")
            order = train[np.argsort(hashed(keys[train], self.seed))]
            half = len(order) // 2
            cells[order[:half] if side else order[half:]] = None
        return cells


@lru_cache(maxsize=4)
def _mnist(folder: str, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return one part of MNIST: its scans, (n, 28, 28), and their digits, (n,)."""
    scans = _idx(folder, f"{part}-images-idx3-ubyte", 3)
    digits = _idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if scans.shape[1:] != (_SIDE, _SIDE) or len(scans) != len(digits) or digits.max(initial=0) > 9:
        raise UserError(
            f"{folder}: the files {part}-* hold {len(scans)} scans of {scans.shape[1:]} and "
            f"{len(digits)} digits up to {digits.max(initial=0)}; expected as many digits from 0 "
            f"to 9 as scans of ({_SIDE}, {_SIDE})"
        )
    return scans, digits


def _idx(folder: str, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes, http://yann.lecun.com/exdb/mnist."""
    # Some downloads have a dot instead of the hyphen before `idx`.
    names = [own + end for own in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    found = [path for own in names if os.path.isfile(path := os.path.join(folder, own))]
    if not found:
        raise UserError(f"{folder} has no file {name} (or {name}.gz); expected MNIST's four files")
    path = found[0]
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    shape = np.frombuffer(content[4 : 4 + 4 * dimensions], dtype=">u4").astype(np.int64)
    body = content[4 + 4 * dimensions :]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(body) != shape.prod():
        raise UserError(
            f"{path} is not a complete IDX file of bytes in {dimensions} dimension(s); is it cut "
            "short?"
        )
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)
