"""Numbers for each pixel: depth or another quantity, or the directions of surface normals."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection
from torchvision import tv_tensors

from mtl_lightning.models.decoder import DecoderOptions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.dense import DenseTask, mean_over_pixels, png, read_png
from mtl_lightning.tasks.dense_metrics import AngularErrors, DepthErrors
from mtl_lightning.tasks.map_examples import MapPlotData
from mtl_lightning.tasks.normals import Normals

_NPY = b"\x93NUMPY"
_TINY = float(np.finfo(np.float32).tiny)
_BYTE = 127.5
"""Half the range of a byte, which stands for 0 to 1 of a vector's channel."""
_MOST_PIXELS = 10_000
"""Pixels of an image that count in statistics."""


class DenseRegression(DenseTask):
    """A number for each pixel (``channels: 1``), or a unit vector (``channels: 3``), from files.

    Files are PNG (8 or 16 bits, grey; 8 bits, RGB for vectors) or NPY arrays of the size of their
    images. A vector in a PNG file is ``value / 127.5 - 1`` in each channel, and only its direction
    counts. The outputs of numbers are standardised by mean and standard deviation of up to 64
    training files, so that tasks in m and in mm pull equally on what they share.

    Targets are ``(height, width)`` or ``(3, height, width)`` float32, 0 for pixels without a label.

    Args:
        unit: The unit of the numbers, for reports: ``m``.
        scale: The number for which 1 in a file stands: 0.001 for depth in m from mm.
        invalid: The value in a file (in all three channels) of pixels without a label; null for
            none. NaN and infinity in NPY files are never labels.
        loss: ``l1``: absolute error, in standard deviations. ``log``: absolute error of the
            logarithms, likewise, for positive numbers. ``cosine``: 1 minus the cosine of the angle
            between the vectors.
        channels: 1, or 3 for vectors. A mirrored image has mirrored vectors: x points along its
            width, y along its height.
        decoder: Settings of the decoder, which is this task's head.
        weight: Factor of this task's loss in the sum over tasks.

    Raises:
        UserError: If arguments contradict each other.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        unit: str = "",
        scale: float = 1.0,
        invalid: float | None = 0.0,
        loss: Literal["l1", "log", "cosine"] = "l1",
        channels: Literal[1, 3] = 1,
        decoder: DecoderOptions | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(decoder, weight)
        if not 0 < scale < float("inf"):
            raise UserError(f"scale should be above 0. Found {scale}")
        if channels == 3 and scale != 1:
            raise UserError(f"scale should be left out with 3 channels. Found {scale}")
        if (loss == "cosine") != (channels == 3) and not (loss == "l1" and channels == 3):
            kinds = "l1 or cosine with 3 channels" if channels == 3 else "l1 or log with 1 channel"
            raise UserError(f"loss should be {kinds}. Found {loss}")
        self.unit = unit
        self.scale = scale
        self.invalid = invalid
        self.loss_name = loss
        self.channels: Literal[1, 3] = channels
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.ones((), dtype=torch.float64))

    @property
    def primary(self) -> str:  # type: ignore[override]  # it depends on what is measured
        """The metric in the score: ``delta1`` for numbers, ``within_11`` for vectors."""
        return "delta1" if self.channels == 1 else "within_11"

    @property
    def target_type(self) -> type[tv_tensors.Mask]:  # type: ignore[override]  # likewise
        """Vectors change with their image."""
        return tv_tensors.Mask if self.channels == 1 else Normals

    def identity(self) -> dict[str, object]:
        """Return what decides the meaning of outputs."""
        return {"channels": self.channels, "loss": self.loss_name, "unit": self.unit}

    @property
    def num_outputs(self) -> int:
        """One output for each channel, for each pixel."""
        return self.channels

    # ----------------------------------------------------------------- targets

    def load_target(self, content: bytes) -> tv_tensors.Mask:
        """Read a file: ``(height, width)`` or ``(3, height, width)`` float32."""
        in_array = content.startswith(_NPY)
        stored = np.load(BytesIO(content), allow_pickle=False) if in_array else read_png(content)
        if stored.dtype.kind not in "uif":
            raise ValueError(f"an array of {stored.dtype}, expected numbers")
        if stored.shape[2:] != (3,) * (self.channels == 3) or stored.ndim < 2 or not stored.size:
            wanted = "(height, width)" if self.channels == 1 else "(height, width, 3)"
            raise ValueError(f"values of the shape {stored.shape}, expected {wanted}")
        valid = np.isfinite(stored)
        if self.channels == 3:
            valid = valid.all(-1)
            values = stored.astype(np.float64) / (1 if in_array else _BYTE) - (not in_array)
            lengths = np.linalg.norm(values, axis=-1, keepdims=True)
            valid &= lengths[..., 0] > 0
            values = values / np.where(lengths > 0, lengths, 1)
        else:
            values = stored.astype(np.float64) * self.scale
        if self.invalid is not None:
            same = stored == self.invalid
            valid &= ~(same.all(-1) if self.channels == 3 else same)
        return self._target(values, valid)

    def _target(self, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> tv_tensors.Mask:
        if self.channels == 3:
            vectors = np.where(valid[..., None], values, 0).astype(np.float32).transpose(2, 0, 1)
            return Normals(torch.from_numpy(np.ascontiguousarray(vectors)))
        numbers = np.where(valid, values, 0)
        if not np.abs(numbers).max() <= np.finfo(np.float32).max:
            raise ValueError(f"a value of {numbers.flat[np.abs(numbers).argmax()]:g}, too large")
        if self.loss_name == "log" and (numbers[valid] <= 0).any():
            low = numbers[valid].min()
            raise ValueError(f"a value of {low:g}, expected numbers above 0 (loss: log)")
        numbers = numbers.astype(np.float32)
        # 0 is no label: a 0 that is one becomes the smallest number, which nothing can tell from 0.
        numbers[valid & (np.abs(numbers) < _TINY)] = _TINY
        return tv_tensors.Mask(torch.from_numpy(numbers))

    def empty_target(self, size: tuple[int, int]) -> Tensor:
        """Return a target of which no pixel has a label."""
        return torch.zeros(size if self.channels == 1 else (3, *size), dtype=torch.float32)

    def summary(self, targets: Sequence[Tensor]) -> list[str]:
        """Return the range of the numbers, and the share of the pixels that have a label."""
        masks = [target != 0 for target in targets]
        if self.channels == 3:
            masks = [mask.any(0) for mask in masks]
        labelled = sum(int(mask.sum()) for mask in masks) / max(sum(m.numel() for m in masks), 1)
        words = [f"labelled {labelled:.1%} of the pixels"]
        if self.channels == 1 and targets:
            low = min(float(target[target != 0].min()) for target in targets)
            high = max(float(target[target != 0].max()) for target in targets)
            low = 0.0 if abs(low) <= _TINY else low
            words.insert(0, f"{low:.4g} to {high:.4g} {self.unit}".rstrip())
        return words

    def fit_targets(self, targets: Sequence[Tensor]) -> None:
        """Compute mean and standard deviation of the pixels with a label, of their logarithms."""
        if self.channels == 3:
            return
        samples = []
        for target in targets:
            values = target[target != 0].double()
            samples.append(values[:: max(1, len(values) // _MOST_PIXELS)])
        pixels = torch.cat(samples) if samples else torch.zeros(0)
        if not len(pixels):
            raise UserError(
                f"no pixel of {len(targets):,} training files has a label; is `invalid` "
                f"({self.invalid}) right?"
            )
        if bool((pixels == pixels[0]).all()):
            raise UserError(
                f"every pixel of {len(targets):,} training files is {pixels[0].item():g}; there is "
                f"nothing to learn"
            )
        pixels = pixels.log() if self.loss_name == "log" else pixels
        self.mean.copy_(pixels.mean())
        self.std.copy_(pixels.std(correction=0))

    def keep_statistics(self, saved: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Keep mean and deviation; see `Task.keep_statistics`."""
        del names
        self.mean.copy_(saved["mean"])
        self.std.copy_(saved["std"])

    # ----------------------------------------------------------------- outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row: ``(B, channels, height, width)`` outputs, targets -> ``(B,)``."""
        if self.channels == 3:
            valid = (targets != 0).any(1)
            if self.loss_name == "cosine":
                losses = 1 - F.cosine_similarity(outputs, targets.to(outputs.dtype), dim=1)
            else:
                losses = (F.normalize(outputs, dim=1) - targets).abs().sum(1)
            return mean_over_pixels(losses, valid)
        valid = targets != 0
        wide = targets.to(self.mean.dtype)
        if self.loss_name == "log":
            wide = torch.where(valid, wide, 1).log()
        standard = ((wide - self.mean) / self.std).to(outputs.dtype)
        return mean_over_pixels((outputs.squeeze(1) - standard).abs(), valid)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``value``: ``(B, height, width)`` in the unit, or ``(B, 3, ...)`` unit vectors."""
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        if self.channels == 3:
            return {"value": F.normalize(wide, dim=1)}
        numbers = wide.squeeze(1) * self.std.to(wide.dtype) + self.mean.to(wide.dtype)
        return {"value": numbers.exp() if self.loss_name == "log" else numbers}

    def encode_answers(self, answers: Mapping[str, NDArray[Any]]) -> list[bytes]:
        """Return the answers as files: PNG with ``scale`` (16 bits), NPY without one, RGB vectors.

        Numbers that 16 bits cannot hold become the nearest that they can; none is ``invalid``.
        """
        values = answers["value"]
        if self.channels == 3:
            bytes_ = np.rint((values.transpose(0, 2, 3, 1) + 1) * _BYTE).astype(np.uint8)
            return [png(own) for own in bytes_]
        if self.scale == 1:
            return [_npy(own.astype(np.float32)) for own in values]
        most = np.iinfo(np.uint16).max
        whole = np.rint(np.clip(values.astype(np.float64) / self.scale, 0, most)).astype(np.uint16)
        if self.invalid is not None and 0 <= self.invalid <= most:
            whole[whole == self.invalid] = self.invalid + (1 if self.invalid < most else -1)
        return [png(own) for own in whole]

    @property
    def answer_suffix(self) -> str:
        """The suffix of the files of `encode_answers`."""
        return ".npy" if self.channels == 1 and self.scale == 1 else ".png"

    def metrics(self) -> MetricCollection:
        """Errors of numbers, or angles between vectors."""
        errors = DepthErrors() if self.channels == 1 else AngularErrors()
        return MetricCollection({self.primary: errors}, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with the pixels that have a label."""
        del labelled
        metrics.update(answers["value"], targets)

    def plot_data(self) -> MapPlotData:
        """Collect images with their labels and answers."""
        return MapPlotData(channels=self.channels, unit=self.unit)


def _npy(values: NDArray[np.float32]) -> bytes:
    file = BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
