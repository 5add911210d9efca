"""Lightning's callbacks that cannot work here, and what does their work instead."""

from collections.abc import Iterable

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    ProgressBar,
)

from mtl_lightning.system.errors import UserError

_REFUSED: dict[type[Callback], str] = {
    BackboneFinetuning: (
        "it adds to the optimizer in the middle of a training, which could not be resumed; use "
        "Unfreeze instead"
    ),
    BatchSizeFinder: (
        "it trains in the middle of a training, whose steps are planned with data.batch_size; try "
        "a size with --data.batch_size and --trainer.fast_dev_run 3 instead"
    ),
    GradientAccumulationScheduler: (
        "it changes what a step is after its labels were counted; set "
        "trainer.accumulate_grad_batches instead"
    ),
    LearningRateFinder: (
        "it trains in the middle of a training, and sets one rate for heads and backbone; compare "
        "short trainings with --model.optimizer.init_args.lr and --trainer.max_steps instead"
    ),
    ModelPruning: (
        "it needs weights in another memory format than channels_last, which is the fastest for "
        "images; prune the trained network with torch.nn.utils.prune instead"
    ),
}
_BASE_CLASSES: dict[type[Callback], str] = {
    BaseFinetuning: "Unfreeze",
    ProgressBar: "TQDMProgressBar or RichProgressBar",
}
"""They are for subclasses, which may work."""


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Refuse the callbacks that would crash, or train something else than what is asked for.

    (`Tuner` makes them, too: ``scale_batch_size`` a `BatchSizeFinder`, ``lr_find`` a
    `LearningRateFinder`.)

    Raises:
        UserError: For the first of them; it says what to use instead.
    """
    for callback in callbacks:
        kind = type(callback)
        for refused, why in _REFUSED.items():
            if isinstance(callback, refused):
                raise UserError(f"trainer.callbacks: {kind.__name__} cannot be used: {why}")
        if kind in _BASE_CLASSES:
            raise UserError(
                f"trainer.callbacks: {kind.__name__} cannot be used: it is a base class; use "
                f"{_BASE_CLASSES[kind]} instead"
            )
