"""The network of a set of tasks: each makes its own head."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from mtl_lightning.models import Backbone, Hard, HeadOptions, Network, Sharing
from mtl_lightning.models.inputs import InputSpecs, row_inputs
from mtl_lightning.tasks.base import Task


def build_network(
    tasks: Mapping[str, Task],
    backbone: Backbone,
    sharing: Sharing | None,
    heads: HeadOptions,
    image_size: tuple[int, int],
    columns: InputSpecs = MappingProxyType({}),
) -> Network:
    """Build a network with random weights.

    Args:
        tasks: The tasks by name.
        backbone: Maps inputs to features.
        sharing: How the tasks share it; None for `Hard`.
        heads: Settings of heads, for those that a task does not set.
        image_size: The (height, width) of the images.
        columns: Specifications of the columns that there are.

    Raises:
        UserError: If the backbone cannot take images of this size, or reads other inputs.
    """
    return Network(
        sharing or Hard(),
        backbone,
        heads={name: partial(task.head, defaults=heads) for name, task in tasks.items()},
        inputs=row_inputs(image_size, columns),
    )
