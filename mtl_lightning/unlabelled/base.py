"""The base class of ways to learn from cells without a label, and how to add one.

Adding one: one file here with one class, one line in ``__init__.py``, one test file. Derive from
`UnlabelledLearning`; the constructor takes the settings of a config, explicit and annotated.

Guesses are not labels. They are in no count, statistic or metric, and the loss of the labelled
cells stays what it is; the loss of the guesses is added to each task's own. A task without a label
in a step takes no part in the step, whatever is guessed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer

from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Network
from mtl_lightning.tasks import Task
from mtl_lightning.unlabelled.guesses import Guesses


class UnlabelledLearning(ABC):
    """Guesses targets for cells without a label during a training."""

    @property
    def active(self) -> bool:
        """Whether it does anything; if not, a training is as if there were none."""
        return True

    @abstractmethod
    def check(self, trainer: Trainer, tasks: Mapping[str, Task]) -> None:
        """Refuse, before training, settings and combinations that would be wrong.

        Raises:
            UserError: Saying which, and what to change.
        """

    @abstractmethod
    def begin(self, network: Network, tasks: Mapping[str, Task], first_rank: bool) -> None:
        """Start a training, or continue the one that `load_state_dict` was given.

        Args:
            network: The network, on its device, with the weights that training starts from.
            tasks: The tasks by name.
            first_rank: Whether this process continues what all ranks have counted.
        """

    @abstractmethod
    def guess(self, batch: Batch, epochs: float) -> Guesses:
        """Guess targets for a training batch.

        Args:
            batch: The micro-batch, with ``plain_inputs`` if it is augmented.
            epochs: Epochs of training before this step, with a fraction.
        """

    @abstractmethod
    def after_step(self, network: Network) -> None:
        """Follow the weights of an optimizer step."""

    @abstractmethod
    def end_epoch(self) -> dict[str, float]:
        """Finish an epoch of training; return values to be logged, the same on all ranks."""

    @abstractmethod
    def validate(self, batch: Batch) -> None:
        """Measure guesses on a validation batch."""

    @abstractmethod
    def end_validation(self) -> tuple[dict[str, float], list[str]]:
        """Finish a validation; return values to be logged, and notes for the user."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores, plain values and tensors; called on all ranks."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold a checkpoint's state until `begin`."""
