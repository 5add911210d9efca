"""The base class of how tasks share the backbone, and how to add one.

Adding a sharing: one file here with one class, one line in ``__init__.py``, one test file.

1. Derive from `Sharing`. The constructor takes only the method's own settings (explicit and
   annotated); a config names the class, and the network then passes it the backbone by `attach`.
2. In `attach`, keep the backbone, or one ``copy.deepcopy`` of it for each task, as submodules, and
   your own layers. To put layers between its stages, run `Backbone.prepare`,
   `Backbone.run_stage` stage by stage and `Backbone.collect`, and call `Backbone.require_stages`
   in `describe`.
3. In `describe`, return what heads can read: the backbone's description, unless you change widths.
4. In `forward`, return features for each task. ``rows`` says which rows carry the task's label: a
   sharing with one backbone for each task may compute only these.
5. If the method adds a term to the loss, return it from `penalty`. Parameters that serve one task
   alone, and that no penalty should move when the task is absent, belong in `own_parameters`;
   those that a penalty should move then are moved in `update_absent`.
6. If one backbone computes the tensors that all tasks' features depend on, return it from
   `shared_backbone`: balancing and cached features then cost what they cost under ``Hard``.
   Without it they stay correct, but cost more or are refused.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.features import Features, FeatureSpec
from mtl_lightning.models.inputs import Inputs, InputSpecs
from mtl_lightning.models.weights import LoadReport


class Sharing(nn.Module, ABC):
    """Holds the backbone, or the backbones, and computes each task's features.

    Attributes:
        runs_labelled_rows: Whether a task's layers see only the rows with a label of it.
    """

    runs_labelled_rows: bool = False

    @property
    def shared_backbone(self) -> Backbone | None:
        """The backbone from whose output all tasks' features are computed, or None.

        `forward` has to run it once, on all images. Anything may follow it: nothing (all tasks
        read one tensor), layers of one task, layers that tasks share.
        """
        return None

    @abstractmethod
    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        """Take the backbone; called once, before anything else.

        Args:
            backbone: As the config describes it, with random weights.
            tasks: The tasks' names, in their order.
        """

    @abstractmethod
    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe what heads can read; called after `attach` and before any `forward`.

        Raises:
            UserError: If the backbone cannot take images of this size.
        """

    def provide(self, reads: Mapping[str, Collection[str]]) -> None:
        """Compute these features from now on, and no others; called after `describe`.

        By default every backbone computes what any task reads.

        Args:
            reads: Task to the names of the features that its head reads.
        """
        names = dict.fromkeys(name for wanted in reads.values() for name in wanted)
        for backbone in self.modules():
            if isinstance(backbone, Backbone):
                backbone.provide(names)

    @abstractmethod
    def load_pretrained(self) -> LoadReport | None:
        """Load the backbone's pretrained weights into everything that starts from them.

        Returns:
            The report, or None if the backbone has no weights to load.

        Raises:
            UserError: If they cannot be read or downloaded, or fit nothing.
        """

    @abstractmethod
    def forward(
        self, inputs: Inputs, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Features]:
        """Compute features for each task.

        Args:
            inputs: Name to (B, ...): the inputs that the backbone reads.
            rows: For each task a bool mask (B,) of the rows whose features are needed, or
                (B, labels): the rows with any label. None needs all. What is returned in other rows
                must be finite but has no meaning. Every trained parameter must have a gradient
                (of 0) even if no row is needed: DDP waits for all of them.

        Returns:
            For each task the features that its head reads.
        """

    def penalty(self) -> Tensor | None:
        """Return a scalar that is added once to the loss of an optimizer step, or None.

        Once per step, not once per rank or accumulated micro-batch.
        """
        return None

    def own_parameters(self, task: str) -> list[nn.Parameter]:  # noqa: ARG002 - for subclasses
        """Return the parameters that serve ``task`` alone.

        They do not move in a step without a label of the task. They are also among
        `backbone_parameters`, whose learning rate they have.
        """
        return []

    def shared_parameters(self, tasks: Sequence[str]) -> list[nn.Parameter]:
        """Return the parameters that the losses of several tasks reach, frozen ones included.

        Gradient balancing weighs the tasks' gradients with respect to them. By default: all
        parameters that are in no task's `own_parameters`.

        Args:
            tasks: The names of all tasks.
        """
        own = {p for task in tasks for p in self.own_parameters(task)}
        return [p for p in self.parameters() if p not in own]

    def update_absent(self, absent: Collection[str], rates: Mapping[nn.Parameter, float]) -> None:
        """Move the parameters that, without a label of their task, only a penalty should move.

        Called before the optimizer's step, which skips parameters without a gradient.

        Args:
            absent: The tasks without a label in the step.
            rates: Parameter to its learning rate in this step.
        """

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return all parameters, each once, including frozen ones (no ``requires_grad``)."""
        return list(self.parameters())
