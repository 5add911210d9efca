"""What of a run's settings is remembered: hyper-parameters, and the seed."""

import os

from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters


def built_from_config() -> bool:
    """Whether LightningCLI is building the object, and so knows its arguments as plain values.

    Objects given in Python (a backbone, a task) are not saved as hyper-parameters: a checkpoint
    holds plain values only, so that it loads with ``weights_only=True``.
    """
    return _given_hyperparameters.get() is not None


def global_seed() -> int:
    """Return what Lightning's ``seed_everything`` was called with, 0 if it was not."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))
