"""Features of images that a network will not change, in place of the images."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.data.dataset import labels_of
from mtl_lightning.data.mirroring.mirror import NO_MIRRORING, Mirroring
from mtl_lightning.data.plan import Request
from mtl_lightning.tasks import Encoded


class Features:
    """The features of a split's n images, in several views; unknown until `fill`.

    Args:
        rows: ``(n,)`` int64, the rows of the split.
        total: Rows of the merged table, N.
        views: In how many ways each image is augmented.

    Attributes:
        bad: Row to why its image could not be used; its features mean nothing.
    """

    def __init__(self, rows: npt.NDArray[np.int64], total: int, views: int) -> None:
        self.views = views
        self.bad: dict[int, str] = {}
        self._position = np.full(total, PADDING)  # of each row among the n
        self._position[rows] = np.arange(len(rows))
        self._values = torch.empty(views, 0, 0)

    def __len__(self) -> int:
        """The number of rows of the merged table."""
        return len(self._position)

    def fill(self, values: Tensor, bad: Mapping[int, str]) -> None:
        """Take the computed features.

        Args:
            values: ``(V, n, F)``: V views of n images.
            bad: See `Features`.
        """
        self._values, self.bad = values, dict(bad)

    def positions(self, rows: Tensor) -> npt.NDArray[np.int64]:
        """Return the places of rows among the n images of the split; padding has none."""
        found: npt.NDArray[np.int64] = self._position[rows.numpy()]
        return found

    def view(self, epoch: int) -> int:
        """Return the view that an epoch takes: the first V take one each, and so on in turn."""
        return epoch % self.views

    def of(self, rows: npt.NDArray[np.int64], view: int) -> Tensor:
        """Return a view of rows: ``(B, F)``, zeros for padding."""
        found = self._values[view][torch.from_numpy(self._position[rows])]
        return torch.where(torch.from_numpy(rows != PADDING)[:, None], found, 0)


class FeatureDataset(Dataset[Batch]):
    """Answers one request of the step plan with one batch of features.

    Args:
        features: Filled by the time of the first request.
        encoded: Task to the labels of all rows.
        mirroring: Which images were mirrored, in the view that has an epoch's number.
    """

    def __init__(
        self,
        features: Features,
        encoded: Mapping[str, Encoded],
        mirroring: Mirroring = NO_MIRRORING,
    ) -> None:
        self.features = features
        self.encoded = dict(encoded)
        self.mirroring = mirroring

    def __len__(self) -> int:
        """The number of rows of the merged table."""
        return len(self.features)

    def __getitems__(self, request: Request) -> Batch:
        """Give one micro-batch."""
        rows = request.rows
        bad = {int(row): self.features.bad[row] for row in rows if row in self.features.bad}
        view = self.features.view(request.epoch)
        mirrored = self.mirroring.mirrored(view, rows.tolist())
        targets, labelled = labels_of(self.encoded, rows, bad, self.mirroring, mirrored)
        return Batch(
            inputs={},
            features=self.features.of(rows, view),
            targets=targets,
            labelled=labelled,
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            gradient_divisor=request.gradient_divisor,
            bad=bad,
        )
