"""Augmentation of whole batches on the device of the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import HAS_IMAGE, IMAGE, PADDING, Batch
from mtl_lightning.data.mirroring.mirror import Mirroring


@dataclass(frozen=True)
class OnDevice:
    """The augmentation of the loading processes, with the same random numbers.

    Attributes:
        transform: Maps uint8 images to uint8 images.
        seed: The seed of the run.
        mirroring: Which images are mirrored first; their labels are already swapped.
        target_types: Task to the class of its targets, for those transformed with the images.
        plain: Whether to keep the images without ``transform``; see `Batch`.
    """

    transform: nn.Module
    seed: int
    mirroring: Mirroring
    target_types: Mapping[str, type[tv_tensors.Mask]] = field(default_factory=dict)
    plain: bool = False

    def __call__(self, moved: Batch, loaded: Batch, epoch: int) -> None:
        """Augment the images of a batch, and targets that go with them, in place.

        Black images, which are padding, bad or not there, stay black.

        Args:
            moved: The batch, on the device.
            loaded: The batch before it was moved: reading rows on the device would synchronise.
            epoch: The epoch in which it was loaded.
        """
        rows = loaded.rows.tolist()
        seeds = [
            None if row == PADDING or row in loaded.bad else (self.seed, epoch, row) for row in rows
        ]
        has_image = loaded.inputs.get(HAS_IMAGE)
        if has_image is not None:
            seeds = [seed if has else None for seed, has in zip(seeds, has_image, strict=True)]
        targets = [self._targets(moved, loaded, place) for place in range(len(rows))]
        flips = self.mirroring.mirrored(epoch, rows)
        images = moved.inputs[IMAGE]
        if self.plain:
            flipped = torch.from_numpy(flips).to(images.device)[:, None, None, None]
            plain = torch.where(flipped, images.flip(-1), images)
            moved.plain_inputs = {**moved.inputs, IMAGE: plain}
        moved.inputs[IMAGE], targets = transforms.augment_batch(
            self.transform, images, seeds, flips.tolist(), targets
        )
        for task in self.target_types:
            before = moved.targets[task]
            own = [of_image.get(task, before[i]) for i, of_image in enumerate(targets)]
            moved.targets[task] = torch.stack(own)

    def _targets(self, moved: Batch, loaded: Batch, place: int) -> dict[str, Tensor]:
        """Return the targets of one image for the tasks that it is labelled for."""
        return {
            task: kind(moved.targets[task][place])
            for task, kind in self.target_types.items()
            if loaded.labelled[task][place]
        }
