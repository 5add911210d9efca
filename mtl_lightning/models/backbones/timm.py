"""Every network of timm (PyTorch Image Models)."""

from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.stages import stages_by_child
from mtl_lightning.models.pooling import PoolingName
from mtl_lightning.models.preprocessing import Normalize, Preset
from mtl_lightning.models.weights import NamedWeights, download, unknown_weights
from mtl_lightning.system.errors import UserError, did_you_mean

# Vision transformers and the Swin family take other image sizes than their own only when told so.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


class Timm(Backbone):
    """A timm network without its classifier and pooling.

    Transformers give their patch tokens to the pooling; class and register tokens are dropped.
    Stages for ``trainable_from`` are the network's children, or the parts of its ``blocks``,
    ``stages``, ``layers`` or ``features`` (``blocks.0, blocks.1, ...``).

    Args:
        name: timm's name, with or without tag: ``resnet18``, ``vit_tiny_patch16_224.augreg_in21k``.
        weights: ``DEFAULT`` (what timm offers for this name), a weight file, or None for random
            weights.
        preprocessing: See `Backbone`. Many transformers want mean and std 0.5: a note after
            loading says so.
        pooling: See `Backbone`.
        trainable_from: See `Backbone`.

    Raises:
        UserError: If timm has no such network or cannot build it without its classifier.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = "DEFAULT",
        preprocessing: Preset | Normalize = "imagenet",
        pooling: PoolingName = "avg",
        trainable_from: str | None = None,
    ) -> None:
        trunk = _build(name)
        super().__init__(
            trunk,
            stages_by_child(trunk),
            weights,
            preprocessing,
            pooling,
            trainable_from,
            title=f"Timm {name}",
        )
        self.name = name

    def named_weights(self, name: str) -> NamedWeights:
        """Fetch timm's weights for this network; the only name is ``DEFAULT``."""
        if name != "DEFAULT":
            raise unknown_weights(name, self.name, ["DEFAULT"])
        settings = self.trunk.pretrained_cfg
        assert isinstance(settings, dict)
        url = settings.get("hf_hub_id") or settings.get("url")
        if not url:
            raise UserError(
                f"timm has no pretrained weights for {self.name}: set "
                "model.backbone.init_args.weights to a file, or to null for random weights"
            )
        if settings.get("hf_hub_id"):
            url = f"https://huggingface.co/{url}"
        label = f"timm {self.name}"
        # A second network, because only timm knows how to read the older files it refers to.
        tensors = download(label, url, lambda: _create(self.name, pretrained=True).state_dict())
        return NamedWeights(dict(tensors), label, list(settings["mean"]), list(settings["std"]))

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk, and bring channels-last maps, tokens and vectors to (B, C, h, w)."""
        maps: Tensor = self.trunk(images)
        if maps.ndim == 4:
            nhwc = str(getattr(self.trunk, "output_fmt", "NCHW")).endswith("NHWC")
            return maps.permute(0, 3, 1, 2) if nhwc else maps
        if maps.ndim == 3:
            prefix = int(getattr(self.trunk, "num_prefix_tokens", 0))
            return maps[:, prefix:].transpose(1, 2).unsqueeze(-1)
        return maps[:, :, None, None]


def _build(name: str) -> nn.Module:
    import timm  # seconds: only whoever uses it pays

    if not timm.is_model(name.partition(".")[0]):
        known = timm.list_models()
        raise UserError(
            f'timm has no network "{name}"{did_you_mean(name, known)} '
            f"(timm.list_models() lists all {len(known)})"
        )
    try:
        return _create(name, pretrained=False)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"timm cannot build {name} without its classifier: {reason}") from error


def _create(name: str, *, pretrained: bool) -> nn.Module:
    import timm

    plain: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "global_pool": ""}
    for arguments in _ANY_SIZE:
        with suppress(TypeError):  # from a network that does not know the argument
            return timm.create_model(name, **plain, **arguments)
    return timm.create_model(name, **plain)
