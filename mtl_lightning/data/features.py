"""Cached features of images that a frozen backbone will not change."""

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
        total: Number of rows of the merged table, N.
        views: Number of augmented versions of each image.

    Attributes:
        bad: Row to the reason why its image could not be used; its features are undefined.
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
        """Store the computed features.

        Args:
            values: ``(V, n, F)``: V views of n images.
            bad: See `Features`.
        """
        self._values, self.bad = values, dict(bad)

    def positions(self, rows: Tensor) -> npt.NDArray[np.int64]:
        """Return the positions of rows among the n images of the split; padding has none."""
        found: npt.NDArray[np.int64] = self._position[rows.numpy()]
        return found

    def view(self, epoch: int) -> int:
        """Return the view of an epoch; the V views are used in turn."""
        return epoch % self.views

    def of(self, rows: npt.NDArray[np.int64], view: int) -> Tensor:
        """Return the features of rows in a view: ``(B, F)``, zeros for padding."""
        found = self._values[view][torch.from_numpy(self._position[rows])]
        return torch.where(torch.from_numpy(rows != PADDING)[:, None], found, 0)


class FeatureDataset(Dataset[Batch]):
    """Returns one batch of features for each request of the step plan.

    Args:
        features: The features, filled before the first request.
        encoded: Task to the labels of all rows.
        mirroring: Tells which images were mirrored; a view's number stands for the epoch.
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
        """Return one micro-batch."""
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
