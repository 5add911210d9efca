"""Features of images that a network will not change, in place of the images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.data.dataset import labels_of
from mtl_lightning.data.mirroring.mirror import NONE, Sides
from mtl_lightning.data.plan import Request
from mtl_lightning.tasks import Encoded


@dataclass
class Features:
    """The features of a split's images; empty until they are computed.

    Attributes:
        values: ``(V, n, F)``: V views of n images.
        position: ``(N,)`` int64, the number among these n of each row of the merged table.
        bad: Row to why its image could not be used; its features mean nothing.
    """

    values: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0))
    position: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    bad: dict[int, str] = field(default_factory=dict)

    def view(self, epoch: int) -> int:
        """Return what an epoch sees: the first V see a view each, and then they see them again."""
        return epoch % len(self.values)

    def of(self, rows: npt.NDArray[np.int64], view: int) -> Tensor:
        """Return a view of rows: ``(B, F)``, zeros for padding."""
        found = self.values[view][torch.from_numpy(self.position[rows])]
        return torch.where(torch.from_numpy(rows != PADDING)[:, None], found, 0)


class FeatureDataset(Dataset[Batch]):
    """Answers one request of the step plan with one batch of features.

    Args:
        features: Filled by the time of the first request.
        encoded: Task to the labels of all rows.
        sides: Which images were mirrored, in the view that has an epoch's number.
    """

    def __init__(
        self, features: Features, encoded: Mapping[str, Encoded], sides: Sides = NONE
    ) -> None:
        self.features = features
        self.encoded = dict(encoded)
        self.sides = sides

    def __len__(self) -> int:
        """The number of rows of the merged table."""
        return len(self.features.position)

    def __getitems__(self, request: Request) -> Batch:
        """Give one micro-batch."""
        rows = request.rows
        bad = {int(row): self.features.bad[row] for row in rows if row in self.features.bad}
        view = self.features.view(request.epoch)
        mirrored = self.sides.drawn(view, rows.tolist())
        targets, labelled = labels_of(self.encoded, rows, bad, self.sides, mirrored)
        return Batch(
            images=torch.empty(len(rows), 3, 0, 0, dtype=torch.uint8),
            features=self.features.of(rows, view),
            targets=targets,
            labelled=labelled,
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            parts=request.parts,
            bad=bad,
        )
