"""The base class of every kind of task, and how to add one.

A task owns everything that depends on what its labels mean: how a cell of a table becomes a
target, how many outputs its head has, its loss, its metrics, and how an output is read.

Adding a kind of task is one file here, one line in ``__init__.py`` and one test file:

1. Subclass :class:`Task`. Every constructor argument is a key of the config: annotate it, give
   it a default where you can, and never take ``**kwargs``.
   Pass ``weight`` and ``head`` on to the base class.
2. Implement ``encode``, ``num_outputs``, ``loss``, ``predict``, ``metrics``, ``update`` and
   ``columns``. The head is one or two linear layers on the pooled vector; for another one, which
   may read feature maps, override ``head``.
3. What must be learned from the training labels (statistics, not weights) goes into buffers that
   ``fit_statistics`` fills: so it is in the checkpoint.
4. Where outputs have names (classes, labels), ``identity`` gives those that a checkpoint must
   agree on.
5. ``plot_data`` may collect what is plotted after an evaluation; see ``plot_data.py``.
6. Where cells name classes, ``named_classes`` says which. Where different texts give the same
   label (``5`` and ``5e0``), ``meaning`` says so; where a label is doubtful, ``doubt`` asks the
   user, or ``remarks`` says so before training.
7. Where a cell names a file that holds the target (a segmentation, a depth map), set
   ``loads_targets``, let ``encode`` return ``encode_files(cells)``, and implement ``load_target``
   and, unless targets are integer masks ``(height, width)``, ``empty_target``. The target is then
   loaded with the image and augmented with it. The loss of a row stays one number: a mean over
   its valid pixels.
8. Where its answers can name a side of the image, ``mirrored`` says what becomes of its labels
   when the image is mirrored (``mirroring.py`` helps); left out, ``data.mirror`` refuses to swap
   them.

Masks are not the subclass's business. ``loss`` and ``update`` are only ever shown rows (or, where
one image has many labels, cells) that carry a label; what lies in the others is overwritten
before anything reads it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchvision import tv_tensors

from mtl_lightning.models.features import FeatureSpec
from mtl_lightning.models.heads import HeadOptions, build_head
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.cells import looks_missing
from mtl_lightning.tasks.plot_data import PlotData


@dataclass(frozen=True)
class Encoded:
    """The labels of one task over all rows, as numbers.

    Attributes:
        targets: ``(N, ...)``, in the dtype that the task's loss wants; anything where not labelled.
            ``(N, 0)`` where targets are loaded with the images.
        labelled: bool, the shape of what ``Task.loss`` returns for ``N`` rows.
        bad: bool, the shape of the cells: there is one, but the task cannot read it.
    """

    targets: NDArray[np.generic]
    labelled: NDArray[np.bool_]
    bad: NDArray[np.bool_]

    def counts(self) -> NDArray[np.int64]:
        """Return how many labels each row has: ``(N,)``, at most 1 unless it is multi-label."""
        cells = tuple(range(1, self.labelled.ndim))
        counts: NDArray[np.int64] = self.labelled.sum(axis=cells, dtype=np.int64)
        return counts


def encode_files(cells: NDArray[np.object_]) -> Encoded:
    """Encode the cells ``(N,)`` of a task that loads its targets: which rows have one."""
    labelled = np.array([cell is not None for cell in cells], dtype=bool)
    return Encoded(np.empty((len(cells), 0), np.float32), labelled, np.zeros(len(cells), bool))


def if_missing(cell: str) -> str:
    """Return what to do about a cell that may mean that there is no label, or ``""``."""
    if not looks_missing(cell):
        return ""
    return '; if it means "not labelled", name it in the source\'s `missing`'


class Task(nn.Module, ABC):
    """One question asked of every image.

    Args:
        weight: What this task's loss is multiplied by in the sum over tasks.
        head: The task's own settings of its head; the others are the model's.
    """

    primary: ClassVar[str]
    """The metric that ``val/score`` averages over tasks; higher is better."""

    loads_targets: ClassVar[bool] = False
    """Whether a cell names a file, relative to the root of its source, that holds the target."""

    def __init__(self, weight: float = 1.0, head: HeadOptions | None = None) -> None:
        super().__init__()
        if not weight > 0:
            raise UserError(f"weight should be above 0. Found {weight}; drop the task instead.")
        self.weight = weight
        self.head_options = head or HeadOptions()

    @property
    def learns_classes(self) -> bool:
        """Whether the classes are taken from the training labels, as the config names none."""
        return False

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the task's columns, after its own; ``""`` is the task's own column.

        A task with one column gets its cells as ``(N,)``, one with several as ``(N, fields)``.
        """
        return ("",)

    def infer_classes(self, cells: NDArray[np.object_]) -> None:
        """Set the classes that the config left open, from the training labels alone.

        Args:
            cells: Those of the training split's rows that have any: ``(n,)`` or ``(n, fields)``.
        """

    def identity(self) -> dict[str, object]:
        """Return the constructor arguments that a config and a checkpoint must agree on.

        They say what the outputs stand for and are written into the saved config, where
        `infer_classes` has found them too; what is still open is left out.
        """
        return {}

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return what is read in a cell: equal for two cells that give the same label.

        Args:
            cell: Its text, see `cells.canonical`.
            field: The one of `fields` whose column it is in.
        """
        del field
        return cell

    def named_classes(self, cells: Sequence[str], field: str) -> list[Sequence[str]]:
        """Return the classes (or labels that apply) that each of some different cells names.

        A random split keeps them in train. The same whether classes are known yet or not, or two
        commands would divide the images in two ways.

        Args:
            cells: Their texts, see `cells.canonical`.
            field: The one of `fields` that the column is.

        Returns:
            As many as cells; or nothing, of a task without classes.
        """
        del cells, field
        return []

    def doubt(self, cells: Collection[str], field: str) -> tuple[str, str] | None:
        """Return a cell with two possible meanings, which the user must settle.

        Args:
            cells: The different ones of the column of one source.
            field: The one of `fields` that the column is.

        Returns:
            The cell, and the rest of the message about it; None if all is clear.
        """
        del cells, field
        return None

    @abstractmethod
    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Turn cells (str, or None where there is no label) into targets and masks."""

    def load_target(self, content: bytes) -> tv_tensors.Mask:
        """Decode the target of one row, of a task that ``loads_targets``.

        Masks are resampled to the nearest pixel and left alone by transforms of colour; one of
        floats may hold depth.

        Args:
            content: Of the file.

        Returns:
            ``(..., height, width)``, pixel by pixel of the image, upright as it is seen.

        Raises:
            Exception: Any, if the content is no target. The message becomes part of one line.
        """
        raise NotImplementedError(f"{type(self).__name__} loads no targets")

    def empty_target(self, size: tuple[int, int]) -> Tensor:
        """Return what stands in a batch for a target that is missing.

        Args:
            size: The (height, width) of the batch's images.

        Returns:
            ``(..., height, width)``, of the shape and dtype of any target of this size.
        """
        return torch.zeros(size, dtype=torch.int64)

    def strata(self, encoded: Encoded) -> NDArray[np.int64]:
        """Return the class of each row, which sampling may balance: ``(N,)``, -1 without a label.

        A task without classes has one, 0.
        """
        return np.where(encoded.counts() > 0, 0, -1)

    @abstractmethod
    def expected(self, cell: str) -> str:
        """Say in a few words what should have stood where ``cell`` stands."""

    @abstractmethod
    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Take statistics from the training labels into buffers.

        Args:
            targets: ``(n, ...)``, of the rows that carry any label; ``(n, 0)`` where targets are
                loaded with the images.
            labelled: bool, the shape of what ``loss`` returns for these rows.

        Raises:
            UserError: If nothing can be learned from these labels.
        """

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Return doubts about labels that can be learned, each with its fix.

        Args:
            targets: Those of the training rows that carry any label, as `encode` gives them.
            labelled: Their masks.
        """
        del targets, labelled
        return []

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """How many numbers the head gives for an image; 0 as long as `infer_classes` is to say."""

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        """Make the layers between the features and the task's outputs.

        See `mtl_lightning.models.heads.HeadFactory` for what a head may read.

        Args:
            features: What can be read.
            defaults: The model's settings, where the task has none of its own.
        """
        return build_head(features, self.num_outputs, self.head_options.over(defaults))

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row (or cell), unreduced.

        Args:
            outputs: ``(B, num_outputs)`` floating.
            targets: ``(B, ...)``, harmless values where there is no label.
        """

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Compute the answers, in tensor operations that can be exported with the network.

        Args:
            outputs: ``(B, num_outputs)`` floating, bfloat16 and float16 included.

        Returns:
            Name to ``(B, ...)``, in the label's own unit and in at least float32.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Make the task's metrics; their states must be sums, so that ranks can be added up.

        A metric that computes several values as a dict lists its keys as an attribute ``names``.
        """

    @abstractmethod
    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with what `predict` answers for rows that carry a label.

        Where a row has many labels, ``labelled`` says which of them may be read.
        """

    @abstractmethod
    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the columns of ``predictions.csv``, ``(B,)`` each, from what `predict` answers.

        The key ``""`` is the column ``<task>``, any other the column ``<task>:<key>``.
        """

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Return the labels that the rows have once their images are mirrored.

        A row keeps the number of its labels, and an unlabelled one stays so.

        Args:
            encoded: The labels of all rows.
            pairs: What the config says (``data.mirror.swap``) of this task: names that swap.

        Raises:
            UserError: If the names are wrong, or, as here, the task has none that could swap.
        """
        del encoded, pairs
        raise UserError(f"{type(self).__name__} has no classes or labels that could swap")

    def class_counts(
        self, encoded: Encoded, groups: NDArray[np.integer], number: int
    ) -> dict[str, NDArray[np.int64]]:
        """Count how often each class (or label that applies) occurs in groups of rows.

        Args:
            encoded: The labels of all rows.
            groups: ``(N,)``, the group of each row.
            number: Of groups.

        Returns:
            Class to its ``(number,)`` counts; nothing for a task without classes.
        """
        del encoded, groups, number
        return {}

    def plot_data(self) -> PlotData | None:
        """Make what collects a split's rows for a plot; ``None``: nothing is plotted."""
        return None

    def score(self, values: Mapping[str, float]) -> float:
        """Map the primary metric to 0..1, higher is better."""
        return min(max(values[self.primary], 0.0), 1.0)

    def masked_loss(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the *sum* of the loss over what is labelled, a scalar in at least float32.

        The unlabelled slots are overwritten before the loss reads them and their loss is replaced
        by 0 after, so that neither a value nor a gradient can come from them. With nothing
        labelled the result is 0 and still part of the graph, as DDP needs it.
        """
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        mask = labelled.view(labelled.shape + (1,) * (targets.ndim - labelled.ndim))
        losses = self.loss(outputs, torch.where(mask, targets, torch.zeros_like(targets)))
        return torch.where(labelled, losses, torch.zeros_like(losses)).sum()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Task":
        if not has_float64(fn):
            for name, buffer in self.named_buffers(recurse=False):
                if buffer.dtype == torch.float64:
                    setattr(self, name, buffer.float())
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        for name, before in kept.items():
            now = getattr(self, name)
            # `precision: bf16-true` casts the whole model; a mean of 1234.5 would become 1232.
            if torch.promote_types(before.dtype, now.dtype) != now.dtype:
                setattr(self, name, before.to(now.device))
        return self


def has_float64(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether what ``fn`` moves tensors to has float64; Apple's GPUs have not."""
    try:
        fn(torch.zeros((), dtype=torch.float64))
    except TypeError:
        return False
    return True
