"""Which hyper-parameters go into a checkpoint."""

from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters


def built_from_config() -> bool:
    """Whether LightningCLI is building the object, and so knows its arguments as plain values.

    Objects given in Python (a backbone, a task) are not saved as hyper-parameters: a checkpoint
    holds plain values only, so that it loads with ``weights_only=True``.
    """
    return _given_hyperparameters.get() is not None
