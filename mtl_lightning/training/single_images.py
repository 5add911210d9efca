"""A check that no step has a single image if batch norm cannot learn from one."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from mtl_lightning.data.plan import StepPlan
from mtl_lightning.models import Network
from mtl_lightning.models.batch_norm import one_pixel_norms
from mtl_lightning.models.inputs import image_input, image_size
from mtl_lightning.system.errors import UserError

MOST_ROWS = 5_000_000
"""Number of rows, over all epochs, whose labels are counted: a second's work."""


def check_single_images(
    network: Network, plan: StepPlan, unfreezes: bool, epochs: int | None = None
) -> None:
    """Refuse a plan in which a device gets one image, if batch norm sees one pixel of it.

    If a task's layers see only its labelled images, this is about these.

    Args:
        network: The network, in the mode in which it is trained.
        plan: The plan of the training split.
        unfreezes: Whether parts that are frozen now are trained later.
        epochs: The number of epochs, None if it is not known.

    Raises:
        UserError: If there is such a step; it names a batch size or an image size that helps.
    """
    if not _has_single(plan):
        if network.sharing.runs_labelled_rows:
            _check_labels(network, plan, unfreezes, epochs)
        return
    norms = _norms(network, plan, unfreezes)
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


def _check_labels(network: Network, plan: StepPlan, unfreezes: bool, epochs: int | None) -> None:
    """Refuse a plan in which a device gets one image with a label of a task."""
    norms = [name for name in _norms(network, plan, unfreezes) if name.startswith("sharing.")]
    if not norms:
        return
    first = plan.resumed[0]
    last = first + max(MOST_ROWS // len(plan.rows), 1)
    for epoch in range(first, last if epochs is None else min(last, max(epochs, first + 1))):
        tasks = plan.single_labels(epoch)
        if tasks:
            height, width = image_size(network.input_specs)
            sharing = type(network.sharing).__name__
            larger = [*_image_sizes(network, unfreezes), "a larger data.batch_size"]
            raise UserError(
                f"task {tasks[0]}: no batch should have a single image with its label: {sharing} "
                f"runs the backbone of a task on these alone, and at {height} x {width} pixels "
                f"batch norm ({norms[0]}) sees one pixel of each, and cannot learn from one. Found "
                f"such a batch in epoch {epoch}; set {' or '.join(larger)}, or sharing: Hard"
            )


def _norms(network: Network, plan: StepPlan, unfreezes: bool) -> list[str]:
    """Return the names of the batch norms that cannot learn from one image of a device."""
    norms = one_pixel_norms(network, network.input_specs, unfreezes)
    if plan.world_size == 1:
        return norms
    modules = dict(network.named_modules())  # some are computed over all devices
    return [name for name in norms if not isinstance(modules[name], nn.SyncBatchNorm)]


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
