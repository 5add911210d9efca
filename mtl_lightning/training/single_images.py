"""A check that no step has a single image if batch norm cannot learn from one."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from mtl_lightning.data.plan import StepPlan
from mtl_lightning.models import Network
from mtl_lightning.models.batch_norm import one_pixel_norms
from mtl_lightning.models.inputs import image_input, image_size
from mtl_lightning.system.errors import UserError


def check_single_images(network: Network, plan: StepPlan, unfreezes: bool) -> None:
    """Refuse a plan in which a device gets one image, if batch norm sees one pixel of it.

    Args:
        network: The network, in the mode in which it is trained.
        plan: The plan of the training split.
        unfreezes: Whether parts that are frozen now are trained later.

    Raises:
        UserError: If there is such a step; it names a batch size or an image size that helps.
    """
    if not _has_single(plan):
        return
    norms = one_pixel_norms(network, network.input_specs, unfreezes)
    modules = dict(network.named_modules())
    if plan.world_size > 1:  # it is computed over all devices
        norms = [name for name in norms if not isinstance(modules[name], nn.SyncBatchNorm)]
    if not norms:
        return
    height, width = image_size(network.input_specs)
    devices = f" on {plan.world_size} devices" if plan.world_size > 1 else ""
    fixes = [*_batch_sizes(plan), *_image_sizes(network, unfreezes)]
    fix = f"; set {' or '.join(fixes)}" if fixes else "; train on more images"
    raise UserError(
        f"every step should have two images or more on each device: at {height} x {width} pixels "
        f"batch norm ({norms[0]}) sees one pixel of each, and cannot learn from one. Found "
        f"{len(plan.rows)} training images in batches of {plan.batch_size}{devices}, the last with "
        f"one{fix}"
    )


def _has_single(plan: StepPlan) -> bool:
    first = plan.resumed[0]  # a resumed epoch may end in another batch
    return any(plan.fewest_rows(epoch) == 1 for epoch in (first, first + 1))


def _batch_sizes(plan: StepPlan) -> Iterable[str]:
    sizes = range(2, 2 * plan.batch_size + 2)
    for size in sorted(sizes, key=lambda size: abs(size - plan.batch_size)):
        if not _has_single(replace(plan, batch_size=size)):
            yield f"data.batch_size to {size}"
            return


def _image_sizes(network: Network, unfreezes: bool) -> Iterable[str]:
    side = 2 * max(image_size(network.input_specs))
    try:
        larger = one_pixel_norms(network, image_input((side, side)), unfreezes)
    except RuntimeError:  # a head made for maps of this size
        return
    if not larger:
        yield f"data.image_size to {side}"
