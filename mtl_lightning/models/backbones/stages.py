"""The stages of a trunk whose structure is known only by its children."""

from torch import nn

# Children that hold the whole body: their own children are the stages.
_BODIES = {"features", "blocks", "stages", "layers", "trunk_output"}


def stages_by_child(trunk: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the trunk's children as stages, in order; those without any state are left out.

    ResNets get ``conv1, bn1, layer1, ...``; trunks with one ``features``, ``blocks``, ... get
    ``features.0, features.1, ...``.
    """
    stages: dict[str, list[nn.Module]] = {}
    for name, child in trunk.named_children():
        if name in _BODIES and isinstance(child, nn.Sequential | nn.ModuleList):
            stages |= {f"{name}.{sub}": [part] for sub, part in child.named_children()}
        else:
            stages[name] = [child]
    return {name: modules for name, modules in stages.items() if modules[0].state_dict()}
