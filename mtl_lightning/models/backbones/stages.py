"""The stages of a trunk whose structure is known only by its children."""

from collections.abc import Iterator

from torch import nn

# Children that hold the whole body; their own children are the stages.
_BODIES = {"features", "blocks", "stages", "layers", "trunk_output"}


def stages_by_child(trunk: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the trunk's children as stages, in order.

    ResNets get ``conv1, bn1, layer1, ...``; trunks with one ``features``, ``blocks``, ... get
    ``features.0, features.1, ...``. A child without any state (ReLU, pooling) belongs to the
    previous stage, or to the first if there is none before it.
    """
    stages: dict[str, list[nn.Module]] = {}
    leading: list[nn.Module] = []
    for name, child in _children(trunk):
        if child.state_dict():
            stages[name] = [*leading, child]
            leading = []
        elif stages:
            next(reversed(stages.values())).append(child)
        else:
            leading.append(child)
    return stages


def _children(trunk: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in trunk.named_children():
        if name in _BODIES and isinstance(child, nn.Sequential | nn.ModuleList):
            yield from ((f"{name}.{sub}", part) for sub, part in child.named_children())
        else:
            yield name, child
