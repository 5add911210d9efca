"""The whole network, as it is exported."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.heads import head
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.sharing.base import Sharing
from mtl_lightning.models.weights import LoadReport


class Network(nn.Module):
    """From uint8 images to the outputs of every task: the exportable part; knows no Lightning.

    Weights are random until `load_pretrained` or ``load_state_dict``, and in channels_last memory
    format, in which convolutions are fastest. State-dict keys: ``sharing.backbone.trunk...`` (or
    ``sharing.backbones.task_<name>.trunk...``) and ``heads.task_<name>...``.

    Args:
        sharing: How the tasks share the backbone; not attached yet.
        backbone: Images to features.
        outputs: Number of outputs of each task. Any name will do, ``type`` and ``a.b`` included.
        image_size: (height, width) in pixels.
        dropout: See `mtl_lightning.models.heads.head`.
        head_hidden: See `mtl_lightning.models.heads.head`.

    Raises:
        UserError: If the backbone cannot take images of this size, or a setting is out of range.
    """

    def __init__(
        self,
        sharing: Sharing,
        backbone: Backbone,
        outputs: Mapping[str, int],
        image_size: tuple[int, int],
        dropout: float = 0.0,
        head_hidden: int | None = None,
    ) -> None:
        super().__init__()
        sharing.attach(backbone, list(outputs))
        num_features = sharing.num_features(image_size)
        self.image_size = image_size
        self.sharing = sharing
        self.heads = NamedModules(
            {task: head(num_features, n, head_hidden, dropout) for task, n in outputs.items()}
        )
        self.to(memory_format=torch.channels_last)

    def forward(
        self, images: Tensor, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compute the raw outputs of every task.

        Args:
            images: (B, 3, H, W) RGB, uint8.
            rows: For each task a bool mask (B,) of the rows whose outputs are wanted, or
                (B, labels): those with any label. None wants all. What comes out in other rows is
                finite and has no other meaning.

        Returns:
            For each task, in the order given, (B, outputs) in the network's dtype.
        """
        return self.forward_heads(self.sharing(images, rows))

    def forward_heads(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute what `forward` returns of each task's features, ``(B, F)``."""
        return {task: layers(features[task]) for task, layers in self.heads.items()}

    def load_pretrained(self) -> LoadReport | None:
        """Load the backbone's pretrained weights: see `Sharing.load_pretrained`."""
        return self.sharing.load_pretrained()

    def penalty(self) -> Tensor | None:
        """Return what is added once to the loss of an optimizer step: see `Sharing.penalty`."""
        return self.sharing.penalty()

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Return what serves ``task`` alone: its head, and what the sharing keeps for it.

        Raises:
            KeyError: If there is no such task.
        """
        return [*self.heads[task].parameters(), *self.sharing.own_parameters(task)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return what is trained and serves several tasks: see `Sharing.shared_parameters`."""
        shared = self.sharing.shared_parameters(list(self.heads))
        return [p for p in shared if p.requires_grad]

    def update_absent(self, absent: Collection[str], rates: Mapping[nn.Parameter, float]) -> None:
        """Move absent tasks' tied parameters by the penalty alone: `Sharing.update_absent`."""
        self.sharing.update_absent(absent, rates)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return everything but the heads, frozen parameters (no ``requires_grad``) included."""
        return self.sharing.backbone_parameters()

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all heads."""
        return list(self.heads.parameters())
