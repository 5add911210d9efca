"""The whole network, as it is exported."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.features import POOLED, Features
from mtl_lightning.models.heads import HeadFactory, reads_of
from mtl_lightning.models.inputs import Inputs, InputSpecs
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.sharing.base import Sharing
from mtl_lightning.models.weights import LoadReport
from mtl_lightning.system.errors import UserError, listed


class Network(nn.Module):
    """From inputs to the outputs of every task: the exportable part; knows no Lightning.

    Weights are random until `load_pretrained` or ``load_state_dict``, and in channels_last memory
    format, in which convolutions are fastest. State-dict keys: ``sharing.backbone.trunk...`` (or
    ``sharing.backbones.task_<name>.trunk...``) and ``heads.task_<name>...``.

    Args:
        sharing: How the tasks share the backbone; not attached yet.
        backbone: Inputs to features.
        heads: What makes each task's head. Any name will do, ``type`` and ``a.b`` included.
        inputs: Shapes and dtypes of the inputs: see `mtl_lightning.models.inputs.image_input`.

    Attributes:
        input_specs: The argument ``inputs``.
        feature_spec: What the heads can read.
        reads: Task to the names of the features that its head reads.

    Raises:
        UserError: If the backbone cannot take images of this size, or a head reads features that
            there are not.
    """

    def __init__(
        self,
        sharing: Sharing,
        backbone: Backbone,
        heads: Mapping[str, HeadFactory],
        inputs: InputSpecs,
    ) -> None:
        super().__init__()
        sharing.attach(backbone, list(heads))
        self.input_specs = inputs
        self.feature_spec = sharing.describe(inputs)
        self.sharing = sharing
        self.heads = NamedModules({task: make(self.feature_spec) for task, make in heads.items()})
        self.reads = {task: self._checked_reads(task, head) for task, head in self.heads.items()}
        sharing.provide(self.reads)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, inputs: Inputs, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compute the raw outputs of every task.

        Args:
            inputs: Name to (B, ...): ``image`` (B, 3, H, W) RGB, uint8.
            rows: For each task a bool mask (B,) of the rows whose outputs are wanted, or
                (B, labels): those with any label. None wants all. What comes out in other rows is
                finite and has no other meaning.

        Returns:
            For each task, in the order given, (B, outputs) in the network's dtype.
        """
        return self.forward_heads(self.sharing(inputs, rows))

    def forward_heads(self, features: Mapping[str, Features]) -> dict[str, Tensor]:
        """Compute what `forward` returns of each task's features."""
        return {
            task: head(*[features[task][name] for name in self.reads[task]])
            for task, head in self.heads.items()
        }

    @property
    def all_reads(self) -> list[str]:
        """The names of the features that any head reads."""
        return list(dict.fromkeys(name for names in self.reads.values() for name in names))

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

    def _checked_reads(self, task: str, head: nn.Module) -> tuple[str, ...]:
        spec = self.feature_spec
        for name in reads_of(head):
            if name not in (POOLED, spec.last) and name not in spec.maps:
                raise UserError(
                    f"task {task}: its head should read {listed([*spec.maps, POOLED])}. "
                    f"Found {name}"
                )
        return reads_of(head)
