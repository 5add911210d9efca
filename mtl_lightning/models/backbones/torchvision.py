"""Every image classification network of torchvision whose trunk is a plain sequence."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import get_model_builder, get_model_weights, list_models

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.stages import stages_by_child
from mtl_lightning.models.pooling import PoolingName
from mtl_lightning.models.preprocessing import Normalize, Preset
from mtl_lightning.models.weights import NamedWeights, download, unknown_weights
from mtl_lightning.system.errors import UserError, did_you_mean, listed

# The first child with such a name ends the trunk.
_CLASSIFIER = {"avgpool", "classifier", "fc", "flatten", "head"}

# Families, by torchvision's file, whose trunk is not a plain sequence, with timm's counterpart.
_TIMM_INSTEAD = {
    "googlenet": "inception_v3",
    "inception": "inception_v3",
    "maxvit": "maxvit_tiny_tf_224",
    "vision_transformer": "vit_base_patch16_224",
}
# Families whose trunk has only convolutions, with over 50 million weights in the classifier.
_HEAVY_CLASSIFIER = {"alexnet", "vgg"}
# Families whose stages return (B, h, w, C); their trunk permutes the axes after the last.
_CHANNELS_LAST = {"swin_transformer"}
# Operations between a family's last child and pooling.
_FINALLY: Mapping[str, Callable[[], nn.Module]] = {"densenet": nn.ReLU}
# Keys in weight files from the time before dots were forbidden in names of modules.
_OLD_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class Torchvision(Backbone):
    """A torchvision image classification network without its classifier.

    State-dict keys of the trunk are torchvision's. Stages for ``trainable_from`` are the network's
    children (ResNets: ``conv1, bn1, layer1, ...``) or, where these are one ``features``, its parts
    (``features.0, features.3, ...``).

    Args:
        name: torchvision's name: ``resnet18``, ``squeezenet1_1``, ``convnext_tiny``, ...
        weights: One of torchvision's names for this network (``DEFAULT``, ``IMAGENET1K_V1``), a
            weight file, or None for random weights.
        preprocessing: See `Backbone`.
        pooling: See `Backbone`.
        trainable_from: See `Backbone`.

    Raises:
        UserError: If torchvision has no such network, or its trunk is not a plain sequence.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = "DEFAULT",
        preprocessing: Preset | Normalize = "imagenet",
        pooling: PoolingName = "avg",
        trainable_from: str | None = None,
    ) -> None:
        trunk = torchvision_trunk(name)
        super().__init__(
            trunk,
            stages_by_child(trunk),
            weights,
            preprocessing,
            pooling,
            trainable_from,
            title=f"Torchvision {name}",
        )
        self.name = name
        self._channels_last = _family(name) in _CHANNELS_LAST

    def named_weights(self, name: str) -> NamedWeights:
        """Fetch torchvision's weights with this name."""
        return torchvision_weights(self.name, name)

    def stage_map(self, stage: str, values: Tensor) -> Tensor:
        """Convert the channels-last maps of Swin's stages before the last to (B, C, h, w)."""
        turned = self._channels_last and stage != self.last_stage
        return values.permute(0, 3, 1, 2) if turned else values

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under current keys: DenseNet's files have ``norm.1`` for ``norm1``."""
        return {_OLD_KEY.sub(r"\1\2", key): value for key, value in tensors.items()}


def torchvision_trunk(name: str) -> nn.Sequential:
    """Build the part of a torchvision network before its pooling, with random weights.

    The initialisation is torchvision's own; the classifier is never initialised.

    Args:
        name: torchvision's name of the network.

    Returns:
        A module from (B, 3, H, W) to (B, C, h, w), with torchvision's state-dict keys.

    Raises:
        UserError: If torchvision has no such network, or it is not a plain sequence.
    """
    known = list_models(module=torchvision.models)
    if name not in known:
        raise UserError(
            f'torchvision has no image classification network "{name}"{did_you_mean(name, known)} '
            f"known: {listed(known)}"
        )
    builder, family = get_model_builder(name), _family(name)
    if family in _TIMM_INSTEAD:
        raise UserError(
            f"Torchvision cannot cut the trunk out of {name}, which is not a plain sequence of "
            f"layers: use the backbone Timm, for example with name: {_TIMM_INSTEAD[family]}"
        )
    dense: AbstractContextManager[Any] = nullcontext()
    if family in _HEAVY_CLASSIFIER:
        dense = _MatricesOnMeta()
    with dense:
        network = builder(weights=None, num_classes=1)
    children = OrderedDict(takewhile(lambda c: c[0] not in _CLASSIFIER, network.named_children()))
    if family in _FINALLY:
        children["finally"] = _FINALLY[family]()
    return nn.Sequential(children)


def _family(name: str) -> str:
    """Return the file of torchvision that a network is in."""
    module: str = get_model_builder(name).__module__
    return module.rpartition(".")[2]


def torchvision_weights(model: str, name: str) -> NamedWeights:
    """Fetch the weights ``name`` of torchvision's ``model``, downloading them if need be.

    Args:
        model: torchvision's name of the network.
        name: ``DEFAULT``, ``IMAGENET1K_V1``, ... or in full ``VGG16_Weights.IMAGENET1K_V1``.

    Raises:
        UserError: If the model has no such weights, or the download fails.
    """
    known = get_model_weights(model)
    short = name.removeprefix(f"{known.__name__}.")
    if short not in known.__members__:
        raise unknown_weights(name, model, known.__members__)
    chosen = known[short]
    label = f"{known.__name__}.{chosen.name}"
    tensors = download(
        label, chosen.url, lambda: chosen.get_state_dict(check_hash=True, weights_only=True)
    )
    expects = chosen.transforms()
    return NamedWeights(dict(tensors), label, list(expects.mean), list(expects.std))


class _MatricesOnMeta(TorchFunctionMode):
    """While active, ``nn.Linear`` gets its weight on the meta device: no memory, no time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and isinstance(args[0], tuple) and len(args[0]) == 2:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
