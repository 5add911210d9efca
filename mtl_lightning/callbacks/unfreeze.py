"""A frozen backbone that is trained from a given epoch on."""

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from rich import get_console
from torch import nn

from mtl_lightning.models import Backbone
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.strategy import check_whole_weights
from mtl_lightning.training.protocol import multi_task


class Unfreeze(Callback):
    """Trains the heads first, and after some epochs the part that ``trainable_from`` froze.

    Until then the frozen stages cost no backward pass, and their batch norm stays in ``eval``
    mode. Several of these callbacks unfreeze stage after stage (Howard and Ruder, "Universal
    Language Model Fine-tuning for Text Classification", ACL 2018: gradual unfreezing).

    The frozen parameters are in the optimizer from the start, in a group ``unfrozen`` (with a
    stage: ``unfrozen/<stage>``). The optimizer skips them as long as they have no gradients; but a
    scheduler knows the group, so that its rate is right when it is unfrozen, and a checkpoint of
    any epoch fits a run that is resumed at any other. There is no state to save: the epoch alone
    decides. DDP only knows the parameters that had a gradient when it was set up, so it is set up
    again.

    Why not Lightning's ``BackboneFinetuning`` (2.6.6): it needs an attribute ``backbone``; it
    freezes all of it; it adds a group to the optimizer at that epoch, at which ``OneCycleLR`` and
    ``LambdaLR`` raise; it finds by value what the optimizer already holds, so that a layer whose
    weights equal another's (a bias of zeros) is never trained; it sets the rate itself, doubling it
    each epoch up to that of the heads; and under DDP the gradients of what it unfreezes are never
    exchanged.

    Args:
        after_epochs: Number of epochs to train before, 1 or more.
        stage: The first stage to train, by the names that ``trainable_from`` takes; ``null`` for
            the whole backbone.
        lr_scale: Learning rate of the unfrozen part relative to the backbone's, which is the
            optimizer's times ``backbone_lr_scale``.

    Raises:
        UserError: If an argument is out of range; before training, if there is no such stage, it
            is not frozen, or the strategy shards the weights.
    """

    def __init__(self, after_epochs: int, stage: str | None = None, lr_scale: float = 1.0) -> None:
        if after_epochs < 1:
            raise UserError(
                f"Unfreeze: after_epochs should be 1 or more. Found {after_epochs}; to train a "
                f"stage from the beginning, change the backbone's trainable_from"
            )
        if not lr_scale > 0:
            raise UserError(f"Unfreeze: lr_scale should be above 0. Found {lr_scale}")
        self.after_epochs = after_epochs
        self.stage = stage
        self.lr_scale = lr_scale

    @property
    def group(self) -> str:
        """The name of the optimizer's group."""
        return "unfrozen" if self.stage is None else f"unfrozen/{self.stage}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the arguments, and add the frozen parameters to the optimizer that will be made."""
        if stage != "fit":
            return
        check_whole_weights(trainer, "Unfreeze")
        parameters = self._parameters(trainer, pl_module)
        if not parameters:
            where = "" if self.stage is None else f" from stage {self.stage} on"
            raise UserError(
                f"Unfreeze: nothing of the backbone is frozen{where} that could be set free after "
                f"{self.after_epochs} epochs: set its trainable_from to a later stage, or to heads"
            )
        multi_task(pl_module).add_parameter_group(self.group, parameters, self.lr_scale)
        if trainer.is_global_zero and 0 <= (trainer.max_epochs or -1) <= self.after_epochs:
            _note(
                f"nothing is unfrozen: training ends after {trainer.max_epochs} epochs, "
                f"Unfreeze.after_epochs is {self.after_epochs}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze immediately if a run is resumed after that epoch, or within it."""
        self.unfreeze_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze if it is due."""
        self.unfreeze_if_due(trainer, pl_module)

    def unfreeze_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the parameters from now on, if the epoch has come."""
        if trainer.current_epoch < self.after_epochs:
            return
        backbones = _backbones(pl_module)
        freed = [p for backbone in backbones for p in backbone.frozen_from(self.stage)]
        if not freed:
            return
        for backbone in backbones:
            backbone.unfreeze(self.stage)
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy):
            # The old wrapper removes its hooks from the gradients before the new one is made.
            strategy.model = pl_module
            strategy.configure_ddp()
        if trainer.is_global_zero:
            number = sum(parameter.numel() for parameter in freed) / 1e6
            _note(f"epoch {trainer.current_epoch}: {number:.2f} M more parameters are trained")

    def _parameters(self, trainer: Trainer, module: LightningModule) -> list[nn.Parameter]:
        """Return the parameters that this callback unfreezes and no earlier one does."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by it
        peers = [callback for callback in callbacks if isinstance(callback, Unfreeze)]
        in_order = sorted(peers, key=lambda peer: peer.after_epochs)
        earlier = in_order[: in_order.index(self)]
        own: dict[nn.Parameter, None] = {}
        for backbone in _backbones(module):
            try:
                taken = {p for peer in earlier for p in backbone.frozen_from(peer.stage)}
                own |= dict.fromkeys(p for p in backbone.frozen_from(self.stage) if p not in taken)
            except UserError as error:
                raise UserError(f"Unfreeze: {error}") from None
        return list(own)


def _backbones(module: LightningModule) -> list[Backbone]:
    return [part for part in module.modules() if isinstance(part, Backbone)]


def _note(text: str) -> None:
    get_console().print(f"[yellow]note:[/] {text}", highlight=False)
