"""A trunk in stages, the first of which may be frozen."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from mtl_lightning.system.errors import UserError, did_you_mean, listed

HEADS = "heads"  # as `trainable_from`: only the heads are trained


class Staged(nn.Module):
    """A trunk and a pooling, with the trunk's stages in order.

    Every stage before ``trainable_from`` is frozen: no gradients, and always in ``eval`` mode.

    Args:
        title: Its name in errors.
        trunk: The network.
        pooling: The layer after the trunk.
        stages: The trunk's submodules by stage, in forward order.
        trainable_from: The first stage to train; None trains everything, ``heads`` nothing.

    Raises:
        UserError: If there is no such stage.
    """

    def __init__(
        self,
        title: str,
        trunk: nn.Module,
        pooling: nn.Module,
        stages: Mapping[str, Sequence[nn.Module]],
        trainable_from: str | None,
    ) -> None:
        super().__init__()
        self.title = title
        self.trunk = trunk
        self.pooling = pooling
        # By name, since torch may replace modules (``trainer.sync_batchnorm``).
        names = {module: name for name, module in self.named_modules()}
        self._stages = {stage: [names[m] for m in modules] for stage, modules in stages.items()}
        self._frozen = self._before(trainable_from, "trainable_from")
        for parameter in self._parameters_in(self._frozen):
            parameter.requires_grad_(False)
        self.train()  # nobody else calls it before the first epoch; it puts frozen parts in `eval`

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        """The trunk's modules by stage, in forward order."""
        return {stage: self._modules_of(names) for stage, names in self._stages.items()}

    @property
    def last_stage(self) -> str:
        """The name of the last stage."""
        return next(reversed(self._stages))

    def run_stage(self, stage: str, values: Tensor) -> Tensor:
        """Run the modules of one stage, one after the other."""
        for module in self._modules_of(self._stages[stage]):
            values = module(values)
        return values

    @property
    def frozen_modules(self) -> list[nn.Module]:
        """The modules that are currently frozen."""
        return self._modules_of(self._frozen)

    def train(self, mode: bool = True) -> "Staged":
        """Set training mode, except for frozen modules, which stay in ``eval`` mode."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def frozen_from(self, stage: str | None = None) -> list[nn.Parameter]:
        """Return the distinct parameters that `unfreeze` would unfreeze.

        Raises:
            UserError: If there is no such stage.
        """
        kept = self._parameters_in(self._before(stage, "stage"))
        return [p for p in self._parameters_in(self._frozen) if p not in kept]

    def unfreeze(self, stage: str | None = None) -> None:
        """Train from ``stage`` on, as if it had been ``trainable_from``; None trains everything.

        What is trained already stays trained. If the backbone is in training mode, unfrozen stages
        enter it too: their batch norm follows the data again.

        Raises:
            UserError: If there is no such stage.
        """
        freed = self.frozen_from(stage)
        if freed:
            for parameter in freed:
                parameter.requires_grad_(True)
            self._frozen = self._before(stage, "stage")
            self.train(self.training)

    def _before(self, first: str | None, key: str) -> list[str]:
        """Return the names of the modules that are frozen if ``first`` is the first trained."""
        if first is None:
            return []
        if first == HEADS:
            return ["trunk", "pooling"]
        stages = list(self._stages)
        if first not in stages:
            known = [*stages, HEADS]
            raise UserError(
                f"{key} should be a stage of {self.title}, one of {listed(known, limit=40)}. "
                f'Found "{first}"{did_you_mean(first, known)}'
            )
        before = stages[: stages.index(first)]
        return [name for stage in before for name in self._stages[stage]]

    def _modules_of(self, names: Iterable[str]) -> list[nn.Module]:
        return [self.get_submodule(name) for name in names]

    def _parameters_in(self, frozen: Iterable[str]) -> dict[nn.Parameter, None]:
        """Return (as keys, in order) the parameters of these modules."""
        modules = self._modules_of(frozen)
        parameters = dict.fromkeys(p for module in modules for p in module.parameters())
        if modules:
            staged = {
                p for modules in self.stages.values() for m in modules for p in m.parameters()
            }
            parameters |= dict.fromkeys(p for p in self.trunk.parameters() if p not in staged)
        return parameters
