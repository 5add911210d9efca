"""Every network of timm (PyTorch Image Models)."""

import math
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.stages import stages_by_child
from mtl_lightning.models.dry_run import dry_run
from mtl_lightning.models.features import MapSpec
from mtl_lightning.models.inputs import InputSpecs, examples, image_size
from mtl_lightning.models.pooling import PoolingName
from mtl_lightning.models.preprocessing import Normalize, Preset
from mtl_lightning.models.weights import NamedWeights, download, unknown_weights
from mtl_lightning.system.errors import UserError, did_you_mean

# Vision transformers and the Swin family need an argument for other image sizes than their own.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


class Timm(Backbone):
    """A timm network without its classifier and pooling.

    Transformers pass their patch tokens to the pooling; class and register tokens are dropped.
    Stages for ``trainable_from`` are the network's children, or the parts of its ``blocks``,
    ``stages``, ``layers`` or ``features`` (``blocks.0, blocks.1, ...``).

    Args:
        name: timm's name, with or without tag: ``resnet18``, ``vit_tiny_patch16_224.augreg_in21k``.
        weights: ``DEFAULT`` (what timm offers for this name), a weight file, or None for random
            weights.
        preprocessing: See `Backbone`. Many transformers expect mean and std 0.5; a note after
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
        # A second network, because only timm can read the older files it refers to.
        tensors = download(label, url, lambda: _create(self.name, pretrained=True).state_dict())
        return NamedWeights(dict(tensors), label, list(settings["mean"]), list(settings["std"]))

    def stage_map(self, stage: str, values: Tensor) -> Tensor:
        """Convert channels-last maps, tokens and vectors to (B, C, h, w)."""
        del stage
        if values.ndim == 4:
            nhwc = str(getattr(self.trunk, "output_fmt", "NCHW")).endswith("NHWC")
            return values.permute(0, 3, 1, 2) if nhwc else values
        if values.ndim == 3:
            prefix = int(getattr(self.trunk, "num_prefix_tokens", 0))
            return values[:, prefix:].transpose(1, 2).unsqueeze(-1)
        return values[:, :, None, None]

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk to its last map (B, C, h, w)."""
        return self._last_map(self.trunk(images), images)

    def feature_maps(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Run the trunk; maps before the last are those of timm's ``forward_intermediates``."""
        earlier = [name for name in self._intermediates if name in names]
        if not earlier:
            return super().feature_maps(images, ())
        final, maps = self._forward_intermediates(images, earlier)
        trunk: Any = self.trunk  # with timm's own methods
        last = self._last_map(trunk.forward_head(final), images)
        return dict(zip(earlier, maps, strict=True)) | {self.last_stage: last}

    def _last_map(self, values: Tensor, images: Tensor) -> Tensor:
        """Convert the trunk's output to (B, C, h, w), tokens to the grid of their patches."""
        maps = self.stage_map(self.last_stage, values)
        height, width = images.shape[-2:]
        rows = round(math.sqrt(maps.shape[2] * height / width))
        in_grid = values.ndim == 3 and rows > 0 and maps.shape[2] % rows == 0
        return maps.reshape(*maps.shape[:2], rows, -1) if in_grid else maps

    def earlier_maps(self, inputs: InputSpecs) -> dict[str, MapSpec]:
        """Describe the maps of ``forward_intermediates``, if the network has it."""
        names = self._intermediates
        if not names:
            return {}
        with dry_run(self):
            images = self.prepare(examples(inputs, 1, self.device))
            _, maps = self._forward_intermediates(images, names)
        size = image_size(inputs)
        return {n: MapSpec.of(values, size) for n, values in zip(names, maps, strict=True)}

    @property
    def _intermediates(self) -> list[str]:
        """The names of timm's intermediate maps, without the last one if it is the last map."""
        if not callable(getattr(self.trunk, "forward_intermediates", None)):
            return []
        info: Any = self.trunk.feature_info
        return [each["module"] for each in info if each["module"] != self.last_stage]

    def _forward_intermediates(
        self, images: Tensor, names: list[str]
    ) -> tuple[Tensor, list[Tensor]]:
        trunk: Any = self.trunk
        everything = [each["module"] for each in trunk.feature_info]
        final, maps = trunk.forward_intermediates(
            images, indices=[everything.index(name) for name in names], output_fmt="NCHW"
        )
        return final, maps


def _build(name: str) -> nn.Module:
    import timm  # takes seconds: only those who use it should pay

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
        with suppress(TypeError):  # the network may not know the argument
            return timm.create_model(name, **plain, **arguments)
    return timm.create_model(name, **plain)
