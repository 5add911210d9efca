"""Augmentation of whole batches where the network is, not where images are loaded."""

from dataclasses import dataclass

from torch import Tensor, nn

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.data.mirroring.mirror import Mirroring


@dataclass(frozen=True)
class OnDevice:
    """What the loading processes would do to their images, with the same random numbers.

    Attributes:
        transform: From uint8 image to uint8 image.
        seed: Of the run.
        mirroring: Which images are mirrored first; their labels are swapped already.
    """

    transform: nn.Module
    seed: int
    mirroring: Mirroring

    def __call__(self, images: Tensor, loaded: Batch, epoch: int) -> Tensor:
        """Return the images of a batch augmented; black ones, that nobody sees, stay so.

        Args:
            images: Those of the batch, on the device.
            loaded: The batch before it was moved: to read its rows there would wait for the device.
            epoch: In which it was loaded.
        """
        rows = loaded.rows.tolist()
        seeds = [
            None if row == PADDING or row in loaded.bad else (self.seed, epoch, row) for row in rows
        ]
        return transforms.augment_batch(
            self.transform, images, seeds, self.mirroring.mirrored(epoch, rows).tolist()
        )
