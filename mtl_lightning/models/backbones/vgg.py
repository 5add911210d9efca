"""VGG16, the network of the original recipe."""

from torch import nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.torchvision import torchvision_trunk, torchvision_weights
from mtl_lightning.models.pooling import PoolingName
from mtl_lightning.models.preprocessing import Normalize, Preset
from mtl_lightning.models.weights import NamedWeights


class VGG16(Backbone):
    """The 13 convolutions of VGG16 (14.7 million weights), without its dense layers (123 million).

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015. Images need at least 32 pixels a side. State-dict keys of the trunk are torchvision's
    (``features.0.weight``). Stages for ``trainable_from``: ``block1`` to ``block5``, as in Keras.

    Args:
        weights: torchvision's ``IMAGENET1K_V1`` or ``IMAGENET1K_FEATURES`` (which needs another
            ``preprocessing``), a weight file, or None for random weights.
        batch_norm: Batch norm after each convolution (torchvision's ``vgg16_bn``).
        preprocessing: See `Backbone`. Weights from Keras or Caffe need ``caffe``.
        pooling: See `Backbone`.
        trainable_from: See `Backbone`.
    """

    def __init__(
        self,
        weights: str | None = "IMAGENET1K_V1",
        batch_norm: bool = False,
        preprocessing: Preset | Normalize = "imagenet",
        pooling: PoolingName = "max",
        trainable_from: str | None = None,
    ) -> None:
        name = "vgg16_bn" if batch_norm else "vgg16"
        trunk = torchvision_trunk(name)
        super().__init__(trunk, _blocks(trunk), weights, preprocessing, pooling, trainable_from)
        self.name = name

    def named_weights(self, name: str) -> NamedWeights:
        """Fetch torchvision's weights with this name."""
        return torchvision_weights(self.name, name)


def _blocks(trunk: nn.Module) -> dict[str, list[nn.Module]]:
    """Split the layers after each max pooling."""
    blocks: list[list[nn.Module]] = [[]]
    for layer in trunk.get_submodule("features").children():
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    return {f"block{i}": block for i, block in enumerate(blocks[:-1], start=1)}
