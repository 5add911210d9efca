"""A few images of a split with their labels and answers, for tasks with a label for each pixel."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtl_lightning.tasks.plot_data import PlotData, hashed
from mtl_lightning.tasks.plot_records import PlotRecord

SIDE = 160
"""The largest side of an example, in pixels."""
EXAMPLES = 4

Maps = list[NDArray[np.uint8]]


@dataclass(eq=False)
class MapExamples(PlotRecord):
    """Images with their labels and answers, at a reduced size.

    Attributes:
        images: (h, w, 3) RGB each, uint8.
        labels: (h, w) uint8 each: 0 without a label, else a class plus 1, or a number from ``low``
            (1) to ``high`` (255); or (h, w, 3) for vectors, -1 to 1 as 0 to 255.
        answers: Likewise; never 0 but for vectors.
        classes: The class names; empty for numbers and vectors.
        low: The smallest label that is drawn.
        high: The largest label that is drawn.
        unit: The unit of the numbers.
        n_labelled: Number of labelled rows that the examples were taken from.
    """

    images: Maps
    labels: Maps
    answers: Maps
    classes: list[str]
    low: float
    high: float
    unit: str
    n_labelled: int

    def to_json(self) -> dict[str, Any]:
        """Return the pictures as PNG files in base64."""
        return {
            "images": [_text(image) for image in self.images],
            "labels": [_text(label) for label in self.labels],
            "answers": [_text(answer) for answer in self.answers],
            "classes": self.classes,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "n_labelled": self.n_labelled,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MapExamples":
        """See `PlotRecord.from_json`."""
        images, labels, answers = (
            [_picture(text) for text in values[key]] for key in ("images", "labels", "answers")
        )
        if any(
            image.ndim != 3 or label.shape[:2] != image.shape[:2] or answer.shape != label.shape
            for image, label, answer in zip(images, labels, answers, strict=True)
        ):
            raise ValueError("image, label and answer of an example should have one size")
        low, high, rows = float(values["low"]), float(values["high"]), int(values["n_labelled"])
        names = [str(name) for name in values["classes"]]
        return cls(images, labels, answers, names, low, high, str(values["unit"]), rows)


class MapPlotData(PlotData):
    """Collects a few images: those with the lowest hashes, the same on one rank and on many.

    Args:
        classes: The class names; none for numbers and vectors.
        channels: 3 for vectors.
        unit: The unit of numbers.
    """

    keys: Tensor
    sizes: Tensor
    images: Tensor
    labels: Tensor
    answers: Tensor
    seen: Tensor

    def __init__(self, classes: Sequence[str] = (), channels: int = 1, unit: str = "") -> None:
        super().__init__()
        self.classes = list(classes)
        self.unit = unit
        self._images = torch.zeros(0)
        free = torch.full((EXAMPLES,), torch.iinfo(torch.long).max)
        maps = torch.zeros(EXAMPLES, channels, SIDE, SIDE)
        # Stacked over ranks, not reduced, since a key belongs to its example.
        self.add_state("keys", free, dist_reduce_fx=None)
        self.add_state("sizes", torch.zeros(EXAMPLES, 2, dtype=torch.long), dist_reduce_fx=None)
        pixels = torch.zeros(EXAMPLES, 3, SIDE, SIDE, dtype=torch.uint8)
        self.add_state("images", pixels, dist_reduce_fx=None)
        self.add_state("labels", maps.clone(), dist_reduce_fx=None)
        self.add_state("answers", maps.clone(), dist_reduce_fx=None)
        self.add_state("seen", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def see(self, images: Tensor) -> None:
        """Keep the images for `update`."""
        self._images = images

    def shown(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the answers as they are drawn: ``(B, height, width)``, or ``(B, 3, ...)``."""
        return answers["value"]

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add targets and answers, ``(B, height, width)`` or ``(B, 3, ...)``, of the images."""
        images, self._images = self._images, torch.zeros(0)
        self.seen += labelled.sum()
        own = hashed(rows)
        own[~labelled] = torch.iinfo(torch.long).max
        keys, order = torch.cat([self.keys, own]).sort(stable=True)
        if int(order[:EXAMPLES].max()) < EXAMPLES:
            return  # no row of this batch is among the lowest
        chosen = order[:EXAMPLES]
        mine = chosen[chosen >= EXAMPLES] - EXAMPLES
        answered = self.shown(answers)[mine].float()
        height, width = images.shape[-2:]
        scale = min(SIDE / max(height, width), 1.0)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        new = {
            "images": _at(images[mine].float(), size, "area").round().to(torch.uint8),
            "labels": _at(targets[mine].float(), size, "nearest"),
            "answers": _at(answered, size, "nearest"),
            "sizes": torch.tensor(size, device=rows.device).expand(len(mine), 2),
        }
        for name, values in new.items():
            state = torch.cat([getattr(self, name), values.to(getattr(self, name).dtype)])
            # Old examples are before the new ones, of which only those of `mine` are there.
            place = torch.where(chosen < EXAMPLES, chosen, 0)
            place[chosen >= EXAMPLES] = EXAMPLES + torch.arange(len(mine), device=rows.device)
            setattr(self, name, state[place])
        self.keys = keys[:EXAMPLES]

    def compute(self) -> MapExamples:
        """Return the examples over all ranks."""
        seen, order = int(self.seen), self.keys.flatten().argsort(stable=True)
        chosen = order[: min(seen, EXAMPLES)]
        sizes = self.sizes.view(-1, 2)[chosen].tolist()
        images, labels, answers = (
            [
                values[:, :height, :width].cpu().numpy().transpose(1, 2, 0)
                for values, (height, width) in zip(
                    state.view(-1, *state.shape[-3:])[chosen], sizes, strict=True
                )
            ]
            for state in (self.images, self.labels, self.answers)
        )
        low, high = 0.0, float(len(self.classes))
        if labels and labels[0].shape[-1] == 3:
            labels, answers = ([_vectors(v) for v in maps] for maps in (labels, answers))
        elif self.classes:
            labels, answers = ([v[..., 0].astype(np.uint8) for v in m] for m in (labels, answers))
        else:
            known = np.concatenate([label[label != 0] for label in labels] or [np.zeros(1)])
            low, high = (float(value) for value in np.quantile(known, (0.01, 0.99)))
            known_answers = [_bytes(values[..., 0], low, high) for values in answers]
            labels = [np.where(v == 0, 0, _bytes(v, low, high))[..., 0] for v in labels]
            answers = known_answers
        return MapExamples(images, labels, answers, self.classes, low, high, self.unit, seen)


def palette_of(count: int) -> NDArray[np.uint8]:
    """Return the colours of classes as PASCAL VOC has them: ``(count, 3)``, none of them black."""
    colours = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):  # the lowest bits of the number become the highest of the colour
        for channel in range(3):
            bits = np.arange(1, count + 1) >> (3 * bit + channel) & 1
            colours[:, channel] |= (bits << (7 - bit)).astype(np.uint8)
    return colours


def _at(values: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Scale ``(n, height, width)`` or ``(n, C, ...)`` to ``(n, C, SIDE, SIDE)``, padded with 0."""
    values = values if values.ndim == 4 else values[:, None]
    scaled = F.interpolate(values, size, mode=mode) if len(values) else values[..., : size[0], :]
    return F.pad(scaled, (0, SIDE - size[1], 0, SIDE - size[0]))


def _bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    part = (np.nan_to_num(values) - low) / max(high - low, 1e-12)
    scaled: NDArray[np.uint8] = np.rint(1 + 254 * np.clip(part, 0, 1)).astype(np.uint8)
    return scaled


def _vectors(values: NDArray[Any]) -> NDArray[np.uint8]:
    colours = np.rint((np.clip(values, -1, 1) + 1) * 127.5)
    drawn: NDArray[np.uint8] = np.where((values == 0).all(-1, keepdims=True), 0, colours)
    return drawn.astype(np.uint8)


def _text(values: NDArray[np.uint8]) -> str:
    file = BytesIO()
    Image.fromarray(values).save(file, "png")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _picture(text: str) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(base64.b64decode(text)), formats=("PNG",)) as image:
            if max(image.size) > SIDE:
                raise ValueError(f"an example should have at most {SIDE} pixels a side")
            pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
            return pixels
    except OSError as error:
        raise ValueError(f"an example should be a PNG file: {error}") from error
