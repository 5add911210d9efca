"""Batch norms that cannot be trained on a single image, because their maps have one pixel."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_lightning.models.dry_run import dry_run
from mtl_lightning.models.inputs import InputSpecs, examples
from mtl_lightning.models.network import Network

IMAGES = 2
"""Number of images to try: norms without running statistics refuse a single one."""


def one_pixel_norms(network: Network, inputs: InputSpecs, frozen: bool = False) -> list[str]:
    """Return the names of the batch norms that see one value per channel and image.

    In training their statistics are those of the batch, and one value has no variance.

    Args:
        network: The network, in the mode in which it is trained.
        inputs: Shapes of the inputs.
        frozen: Whether to include those that are not in training mode now.
    """
    norms = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and (module.training or frozen)
    }
    found = []

    def look(name: str, values: Tensor) -> None:
        if values.numel() == IMAGES * values.shape[1]:  # its rows may be pixels or tokens
            found.append(name)

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        for name, module in norms.items()
    ]
    device = next(network.parameters()).device
    try:
        with dry_run(network), torch.autocast(device.type, enabled=False):
            network(examples(inputs, IMAGES, device))
    finally:
        for hook in hooks:
            hook.remove()
    return found
