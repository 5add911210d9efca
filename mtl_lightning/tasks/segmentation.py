"""One class out of several for each pixel."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchvision import tv_tensors

from mtl_lightning.models.decoder import DecoderOptions
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.dense import DenseTask, mean_over_pixels, png, read_png
from mtl_lightning.tasks.map_examples import MapPlotData, palette_of
from mtl_lightning.tasks.rle import is_rle, read_rle

MOST_CLASSES = 254
"""Classes that a byte holds besides 0, which is no label."""
_BEGINNING = 100
"""Bytes by which encoded masks are told from PNG files."""


class Segmentation(DenseTask):
    """Classes of pixels, from mask files: grey or palette PNG files of the size of their images.

    Masks may be run-length encoded, too, as in COCO: in JSON files, or in the cells of a table. A
    mask ``{"size": [height, width], "counts": ...}`` has the value 1 inside and 0 outside; a list
    ``[{"category_id": 7, "segmentation": {"size": ..., "counts": ...}}, ...]`` has the values of
    its categories, and 0 where there is none.

    Targets are 0 where a pixel is ignored, and otherwise the position of the class plus 1.

    Args:
        classes: The class names, the first for value 0 of the masks; or a mapping from values to
            class names, of which several may be the same: ``{7: road, 8: sidewalk, 9: sidewalk}``.
        ignore: The value, or values, of pixels without a class; ``others`` ignores all values
            that are not among the classes. Other values are an error.
        loss: ``cross_entropy``: the mean over the pixels of an image. ``dice``: 1 minus the mean
            of the soft Dice coefficients (Milletari, Navab and Ahmadi 2016, "V-Net") of the
            classes that occur in the image. ``both``: their sum.
        decoder: Settings of the decoder, which is this task's head.
        weight: Factor of this task's loss in the sum over tasks.

    Raises:
        UserError: If classes or values are wrong.
    """

    primary: ClassVar[str] = "miou"
    growing: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(
        self,
        classes: list[str] | dict[int, str],
        ignore: int | list[int] | Literal["others"] | None = 255,
        loss: Literal["cross_entropy", "dice", "both"] = "cross_entropy",
        decoder: DecoderOptions | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(decoder, weight)
        self.meanings = dict(classes if isinstance(classes, dict) else enumerate(classes))
        self.classes = list(dict.fromkeys(self.meanings.values()))
        if not 2 <= len(self.classes) <= MOST_CLASSES:
            raise UserError(
                f"classes should be 2 to {MOST_CLASSES} names. Found {len(self.classes)}"
            )
        if not isinstance(classes, dict) and len(classes) > len(self.classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise UserError(f'classes should be distinct. Found "{twice}" twice')
        self.ignore = ignore
        ignored = ignore if isinstance(ignore, list) else [ignore]
        self.ignored = {value for value in ignored if isinstance(value, int)}
        both = self.ignored & set(self.meanings)
        if both and isinstance(classes, dict):
            raise UserError(
                f"ignore should not name a value of `classes`. Found {min(both)}, which is "
                f'"{self.meanings[min(both)]}"'
            )
        self.loss_name = loss
        self._places = self._lookup()

    def _lookup(self) -> NDArray[np.uint8]:
        """Return what each value of a mask is as a target; 255 for no known value."""
        values = [*self.meanings, *self.ignored]
        if min(values) < 0 or max(values) > np.iinfo(np.uint16).max:
            raise UserError(
                f"values of a mask should be in 0..65535. Found {listed(map(str, values))}"
            )
        rest = 0 if self.ignore == "others" else 255
        places = np.full(np.iinfo(np.uint16).max + 1, rest, dtype=np.uint8)
        places[[*self.ignored]] = 0
        for value, name in self.meanings.items():
            if value not in self.ignored:
                places[value] = self.classes.index(name) + 1
        return places

    def identity(self) -> dict[str, object]:
        """Return the classes, with their values if these are not their positions."""
        plain = self.meanings == dict(enumerate(self.classes))
        return {"classes": self.classes if plain else self.meanings}

    @property
    def num_outputs(self) -> int:
        """One logit per class, for each pixel."""
        return len(self.classes)

    def load_target(self, content: bytes) -> tv_tensors.Mask:
        """Read a mask: ``(height, width)`` uint8."""
        encoded = is_rle(content[:_BEGINNING].decode("utf-8-sig", "replace"))
        values = read_rle(content.decode("utf-8-sig")) if encoded else read_png(content)
        if values.ndim != 2:
            raise ValueError("a picture of colours, expected a grey or palette PNG file of classes")
        if values.dtype == bool:
            values = values.astype(np.uint8)
        low, high = int(values.min()), int(values.max())
        places = np.full_like(values, 255, dtype=np.uint8)
        if low >= 0 and high < len(self._places):
            places = self._places[values]
        unknown = places == 255
        if unknown.any():
            value = values[unknown].flat[0]
            raise ValueError(
                f"value {value} of {np.count_nonzero(values == value):,} pixels is no class, "
                f"expected {self._values()}"
            )
        return tv_tensors.Mask(torch.from_numpy(places))

    def _values(self) -> str:
        known = [f"{value} ({name})" for value, name in self.meanings.items()]
        ignored = f", or {listed(map(str, sorted(self.ignored)))} for pixels to ignore"
        return listed(known) + (ignored if self.ignored else ", as `ignore` names no value")

    def summary(self, targets: Sequence[Tensor]) -> list[str]:
        """Return the share of the pixels of each class, and of those that are ignored."""
        counts = torch.zeros(len(self.classes) + 1, dtype=torch.long)
        for target in targets:
            counts += torch.bincount(target.flatten().long(), minlength=len(counts))
        shares = [f"{n / counts[1:].sum().clamp(min=1):.1%}" for n in counts[1:]]
        words = [f"{name} {share}" for name, share in zip(self.classes, shares, strict=True)]
        return [*words, f"ignored {counts[0] / counts.sum().clamp(min=1):.1%} of all"]

    def empty_target(self, size: tuple[int, int]) -> Tensor:
        """Return a mask of which all pixels are ignored."""
        return torch.zeros(size, dtype=torch.uint8)

    @property
    def output_names(self) -> Sequence[str]:
        """The classes."""
        return self.classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row: ``(B, K, height, width)`` logits, masks -> ``(B,)``."""
        valid = targets > 0
        places = torch.where(valid, targets, 1).long() - 1
        losses = []
        if self.loss_name != "dice":
            pixels = F.cross_entropy(outputs, places, reduction="none")
            losses.append(mean_over_pixels(pixels, valid))
        if self.loss_name != "cross_entropy":
            losses.append(self._dice(outputs, places, valid))
        return torch.stack(losses).sum(0)

    def _dice(self, outputs: Tensor, places: Tensor, valid: Tensor) -> Tensor:
        weights = valid.unsqueeze(1).to(outputs.dtype)
        truth = F.one_hot(places, len(self.classes)).movedim(-1, 1).to(outputs.dtype) * weights
        chances = outputs.softmax(1) * weights
        shared, labelled = (chances * truth).sum((2, 3)), truth.sum((2, 3))
        overlap = 2 * shared / (chances.sum((2, 3)) + labelled).clamp(min=1e-12)
        occurs = (labelled > 0).to(outputs.dtype)
        return ((1 - overlap) * occurs).sum(1) / occurs.sum(1).clamp(min=1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``classes``, ``(B, height, width)`` int64, and ``probabilities``, ``(B, K, ...)``.

        ``classes`` are the positions of the most probable ones.
        """
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return {"classes": outputs.argmax(1), "probabilities": wide.softmax(1)}

    def doubts(self, outputs: Tensor) -> Tensor | None:
        """Return 1 minus the mean distance of the two most probable classes of each pixel."""
        if outputs.shape[1] < 2:
            return None
        first, second = self.predict(outputs)["probabilities"].topk(2, dim=1).values.unbind(1)
        return 1 - (first - second).flatten(1).mean(1)

    def encode_answers(self, answers: Mapping[str, NDArray[Any]]) -> list[bytes]:
        """Return masks with the values of the labels, as palette images if a byte holds them."""
        value_of = {name: value for value, name in reversed(self.meanings.items())}
        values = np.array([value_of[name] for name in self.classes])
        masks = values[answers["classes"]]
        if values.max() > np.iinfo(np.uint8).max:
            return [png(mask.astype(np.uint16)) for mask in masks]
        palette = np.zeros((np.iinfo(np.uint8).max + 1, 3), dtype=np.uint8)
        palette[values] = palette_of(len(self.classes))
        return [png(mask.astype(np.uint8), palette.flatten().tolist()) for mask in masks]

    def metrics(self) -> MetricCollection:
        """Mean intersection over union, pixel accuracy, and the IoU of each class."""
        return MetricCollection({"miou": PixelConfusion(self.classes)}, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with the classes of the pixels."""
        del labelled
        metrics.update(answers["classes"], targets)

    def plot_data(self) -> MapPlotData:
        """Collect images with their masks and answers."""
        return _MaskPlotData(self.classes)


class PixelConfusion(Metric):
    """How often each class was predicted for each label, over the pixels that have a class.

    ``miou`` is the mean, over the classes that occur in the labels of the split, of intersection
    over union: all pixels of the split together, not a mean over images. A class that never occurs
    has no part in the mean, even if it is predicted: that lowers the IoU of the pixels' own class.
    (torchmetrics' Jaccard index counts it as 0.)

    Args:
        classes: The K class names.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.names = ("miou", "pixel_accuracy", *(f"iou/{name}" for name in self.classes))
        k = len(self.classes)
        self.add_state("counts", torch.zeros(k, k, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add ``(B, height, width)`` classes and targets, which are 0 where there is no class."""
        k = len(self.classes)
        # Row 0 is for pixels without a class: a mask would make a GPU wait.
        cells = target.long() * k + preds
        found = torch.bincount(cells.flatten(), minlength=(k + 1) * k)
        self.counts += found.view(k + 1, k)[1:]

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name; NaN for the IoU of a class that does not occur."""
        counts = self.counts.double() if self.counts.device.type != "mps" else self.counts.float()
        hits, labelled = counts.diagonal(), counts.sum(1)
        iou = torch.where(labelled > 0, hits / (labelled + counts.sum(0) - hits), torch.nan)
        values = {"miou": iou.nanmean(), "pixel_accuracy": hits.sum() / labelled.sum()}
        return values | {f"iou/{name}": iou[k] for k, name in enumerate(self.classes)}


class _MaskPlotData(MapPlotData):
    """Collects examples of masks."""

    def shown(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the classes as targets have them."""
        return answers["classes"] + 1
