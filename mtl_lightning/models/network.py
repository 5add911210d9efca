"""The whole network."""

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
    """Maps inputs to the outputs of every task: the exportable part, independent of Lightning.

    Weights are random until `load_pretrained` or ``load_state_dict``, and in channels_last memory
    format, in which convolutions are fastest. State-dict keys: ``sharing.backbone.trunk...`` (or
    ``sharing.backbones.task_<name>.trunk...``) and ``heads.task_<name>...``.

    Args:
        sharing: How the tasks share the backbone; not attached yet.
        backbone: Maps inputs to features.
        heads: Makes the head of each task. Any name is allowed, ``type`` and ``a.b`` included.
        inputs: Shapes and dtypes of the inputs that there are: see
            `mtl_lightning.models.inputs.row_inputs`.

    Attributes:
        input_specs: Those of the argument ``inputs`` that the backbone reads.
        feature_spec: The features that heads can read.
        reads: Task to the names of the features that its head reads.

    Raises:
        UserError: If the backbone cannot take images of this size, or a head reads features that
            do not exist.
    """

    def __init__(
        self,
        sharing: Sharing,
        backbone: Backbone,
        heads: Mapping[str, HeadFactory],
        inputs: InputSpecs,
    ) -> None:
        super().__init__()
        backbone.build(inputs)
        inputs = {name: spec for name, spec in inputs.items() if name in backbone.reads}
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
            inputs: Name to (B, ...): those in `input_specs`, such as ``image`` (B, 3, H, W) RGB,
                uint8.
            rows: For each task a bool mask (B,) of the rows whose outputs are needed, or
                (B, labels): the rows with any label. None needs all. The outputs of other rows are
                finite but have no meaning.

        Returns:
            For each task, in the order given, (B, outputs) in the network's dtype.
        """
        return self.forward_heads(self.sharing(inputs, rows))

    def forward_heads(self, features: Mapping[str, Features]) -> dict[str, Tensor]:
        """Compute the outputs of `forward` from each task's features."""
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
        """Return the term added once to the loss of an optimizer step: see `Sharing.penalty`."""
        return self.sharing.penalty()

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Return the parameters that serve ``task`` alone: its head, and those in the sharing.

        Raises:
            KeyError: If there is no such task.
        """
        return [*self.heads[task].parameters(), *self.sharing.own_parameters(task)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters that serve several tasks: `Sharing.shared_parameters`."""
        shared = self.sharing.shared_parameters(list(self.heads))
        return [p for p in shared if p.requires_grad]

    def update_absent(self, absent: Collection[str], rates: Mapping[nn.Parameter, float]) -> None:
        """Move absent tasks' tied parameters by the penalty alone: `Sharing.update_absent`."""
        self.sharing.update_absent(absent, rates)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but the heads', including frozen ones (no ``requires_grad``)."""
        return self.sharing.backbone_parameters()

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all heads."""
        return list(self.heads.parameters())

    def _checked_reads(self, task: str, head: nn.Module) -> tuple[str, ...]:
        spec = self.feature_spec
        for name in reads_of(head):
            if name not in (POOLED, spec.last) and name not in spec.maps:
                raise UserError(
                    f"task {task}: its head should read {listed(spec.names())}. Found {name}"
                )
        return reads_of(head)
