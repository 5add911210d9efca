"""What a task says of growing: which names it may take on, and what a trained network keeps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from mtl_lightning.system.errors import did_you_mean, listed, quoted
from mtl_lightning.tasks.cells import canonical


class Growable(ABC):
    """The part of a task that `fit --grow` asks; see `mtl_lightning.training.growing`."""

    growing: ClassVar[tuple[str, ...]] = ()
    """The entries of `identity` to which `fit --grow` may add names; one per output."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """The number of outputs of the head."""

    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """Return what a checkpoint must agree on."""

    @property
    def output_names(self) -> Sequence[str]:
        """A name for each output, by which `fit --grow` keeps what a trained head knows of it."""
        return [str(number) for number in range(self.num_outputs)]

    def lost(self, key: str, trained: Any) -> str | None:
        """Return what a checkpoint knows that this task does not, in words; None for nothing.

        Args:
            key: One of `growing`.
            trained: Its value in the checkpoint: names, or anything to a name.
        """
        own = names_of(self.identity()[key])
        known = set(map(canonical, own))
        for name in names_of(trained):
            if canonical(name) not in known:
                near = did_you_mean(name, own)
                return f"{quoted(name)}, which is not among the {key} ({listed(own)}){near}"
        return None

    def grown_rows(self, fresh: Tensor, saved: Tensor, were: Sequence[int | None]) -> Tensor:
        """Return the rows of the last layer of the head, with those that are kept.

        Args:
            fresh: ``(outputs, ...)``, as initialised.
            saved: The rows in the checkpoint.
            were: For each output its place there, None for a new one.
        """
        rows = fresh.clone()
        for place, before in enumerate(were):
            if before is not None:
                rows[place] = saved[before]
        return rows

    def keep_statistics(  # noqa: B027 - for subclasses
        self, saved: Mapping[str, Tensor], names: Sequence[str]
    ) -> None:
        """Take over the statistics of a trained network on which its answers depend.

        Called by `fit --grow` after `fit_statistics`; by default nothing, as for statistics that
        training alone reads.

        Args:
            saved: The buffers of the task in the checkpoint.
            names: Its `output_names` there.
        """


def names_of(value: Any) -> list[str]:
    """Return the names in a list, or the values of a mapping."""
    return [str(name) for name in (value.values() if isinstance(value, Mapping) else value)]
