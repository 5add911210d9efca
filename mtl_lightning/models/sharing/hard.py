"""One backbone for all tasks."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.features import Features, FeatureSpec
from mtl_lightning.models.inputs import Inputs, InputSpecs
from mtl_lightning.models.sharing.base import Sharing
from mtl_lightning.models.weights import LoadReport


class Hard(Sharing):
    """Hard parameter sharing: every task reads the same features (Caruana 1997).

    The backbone runs once, on all rows, whatever labels they carry.
    """

    backbone: Backbone
    tasks: tuple[str, ...]

    @property
    def shared_backbone(self) -> Backbone:
        """The backbone, which all tasks share."""
        return self.backbone

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        """Take the backbone."""
        self.backbone = backbone
        self.tasks = tuple(tasks)

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe the features of the backbone."""
        return self.backbone.describe(inputs)

    def load_pretrained(self) -> LoadReport | None:
        """Load the backbone's pretrained weights."""
        return self.backbone.load_pretrained()

    def forward(
        self,
        inputs: Inputs,
        rows: Mapping[str, Tensor] | None = None,  # noqa: ARG002 - one run serves all
    ) -> dict[str, Features]:
        """Compute features once; all tasks get the same."""
        features: Features = self.backbone(inputs)
        return dict.fromkeys(self.tasks, features)
