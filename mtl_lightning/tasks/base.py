"""The base class of every kind of task, and how to add one.

A task owns everything that depends on what its labels mean: how a cell of a table becomes a
target, the number of outputs of its head, its loss, its metrics, and how an output is read.

Adding a kind of task is one file here, one line in ``__init__.pyi`` and one test file:

1. Subclass :class:`Task`. Every constructor argument is a key of the config: annotate it, give
   it a default if possible, and never take ``**kwargs``. Pass ``weight`` and ``head`` on to the
   base class.
2. Implement ``encode``, ``num_outputs``, ``loss``, ``predict``, ``metrics``, ``update`` and
   ``columns``. The head is one or two linear layers on the pooled vector; for another one, which
   may read feature maps, override ``head``.
3. Statistics of the training labels go into buffers that ``fit_statistics`` fills, so that they
   are in the checkpoint.
4. If outputs have names (classes, labels), ``identity`` returns those that a checkpoint must agree
   on.
5. ``plot_data`` may collect the data of a plot after an evaluation; see ``plot_data.py``.
6. If cells name classes, ``named_classes`` returns them. If different texts give the same label
   (``5`` and ``5e0``), ``meaning`` makes them equal; if a label is doubtful, ``doubt`` asks the
   user, ``remarks`` warns before training, or ``hint`` suggests another kind of task.
7. If a cell names a file that holds the target (a segmentation, a depth map), set
   ``loads_targets``, let ``encode`` return ``encode_files(cells)``, and implement ``load_target``
   and, unless targets are integer masks ``(height, width)``, ``empty_target``. The target is then
   loaded with the image and augmented with it. The loss of a row stays one number: a mean over
   its valid pixels. ``has_label`` says whether there are any, and ``encode_answers`` returns the
   answers as files. `DenseTask` has what such tasks have in common.
8. If the network's own answers can be targets, ``guess`` returns them, and a task with classes has
   ``num_class_numbers``, ``class_numbers`` and ``label_classes``; without ``guess``, the task
   learns from labels alone.
9. If it answers with probabilities, derive it from `ProbabilityTask`, whose answers a temperature
   calibrates; any other task may implement `calibrate` (see ``calibratable.py``).
10. If its labels can name a side of the image, ``mirrored`` returns the labels of mirrored images
    (``mirroring.py`` helps); without it, ``data.mirror`` refuses to swap them.
11. The gallery of a report shows the rows with the highest loss; ``mistakes`` and ``doubts`` may
    choose better (see ``reviewable.py``).

Masks are not the subclass's business. ``loss`` and ``update`` only get rows (or, if one image has
many labels, cells) that carry a label; all others are overwritten before anything reads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchvision import tv_tensors

from mtl_lightning.models.features import FeatureSpec
from mtl_lightning.models.heads import HeadOptions, build_head
from mtl_lightning.models.members import Average, mean
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.calibratable import Calibratable
from mtl_lightning.tasks.cells import looks_missing
from mtl_lightning.tasks.float64 import has_float64
from mtl_lightning.tasks.growth import Growable
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.tasks.plot_data import PlotData
from mtl_lightning.tasks.reviewable import Reviewable


@dataclass(frozen=True)
class Encoded:
    """The labels of one task over all rows, as numbers.

    Attributes:
        targets: ``(N, ...)``, in the dtype of the task's loss; undefined where not labelled.
            ``(N, 0)`` if targets are loaded with the images.
        labelled: bool, the shape of what ``Task.loss`` returns for ``N`` rows.
        bad: bool, the shape of the cells: cells that the task cannot read.
        assumed: Whether the training loss also has a term for each cell without a label, in rows
            with one.
    """

    targets: NDArray[np.generic]
    labelled: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    assumed: bool = False

    def counts(self) -> NDArray[np.int64]:
        """Return the number of labels of each row: ``(N,)``, at most 1 unless it is multi-label."""
        cells = tuple(range(1, self.labelled.ndim))
        counts: NDArray[np.int64] = self.labelled.sum(axis=cells, dtype=np.int64)
        return counts

    def terms(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of terms that each of some rows has in the training loss.

        They are its labels, and the cells that are `assumed`.
        """
        counts = replace(self, labelled=self.labelled[rows]).counts()
        cells = int(np.prod(self.labelled.shape[1:]))
        return np.where(counts > 0, cells, 0) if self.assumed else counts


def encode_files(cells: NDArray[np.object_]) -> Encoded:
    """Encode the cells ``(N,)`` of a task that loads its targets: whether rows have one."""
    labelled = np.array([cell is not None for cell in cells], dtype=bool)
    return Encoded(np.empty((len(cells), 0), np.float32), labelled, np.zeros(len(cells), bool))


def if_missing(cell: str) -> str:
    """Return advice about a cell that may stand for a missing label, or ``""``."""
    if not looks_missing(cell):
        return ""
    return '; if it means "not labelled", name it in the source\'s `missing`'


class Task(Growable, Calibratable, Reviewable, nn.Module, ABC):
    """One question about every image.

    Args:
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str]
    """The metric that ``val/score`` averages over tasks; higher is better."""

    loads_targets: ClassVar[bool] = False
    """Whether a cell names a file, relative to the root of its source, that holds the target."""

    target_type: ClassVar[type[tv_tensors.Mask]] = tv_tensors.Mask
    """The class of loaded targets, which decides how torchvision's v2 transforms change them."""

    compares_views: ClassVar[bool] = False
    """Whether `guess` needs the outputs for a second view of the images."""

    def __init__(self, weight: float = 1.0, head: HeadOptions | None = None) -> None:
        super().__init__()
        if not weight > 0:
            raise UserError(f"weight should be above 0. Found {weight}; drop the task instead.")
        self.weight = weight
        self.head_options = head or HeadOptions()

    @property
    def assumes_labels(self) -> bool:
        """Whether the training loss assumes something about cells without a label."""
        return False

    @property
    def learns_classes(self) -> bool:
        """Whether classes are inferred from the training labels, since the config names none."""
        return False

    @property
    def fields(self) -> tuple[str, ...]:
        """Suffixes of the names of the task's columns; ``""`` is the column named like the task.

        A task with one column gets its cells as ``(N,)``, one with several as ``(N, fields)``.
        """
        return ("",)

    def infer_classes(self, cells: NDArray[np.object_]) -> None:
        """Set the classes that the config left open from the training labels.

        Args:
            cells: The cells of training rows that have any: ``(n,)`` or ``(n, fields)``.
        """

    def identity(self) -> dict[str, object]:
        """Return the constructor arguments that a config and a checkpoint must agree on.

        They define the outputs and are written into the saved config, also if `infer_classes` has
        set them; what is still open is left out.
        """
        return {}

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return the meaning of a cell, which is equal for two cells with the same label.

        Args:
            cell: Its text, see `cells.canonical`.
            field: The field (see `fields`) of its column.
        """
        del field
        return cell

    def named_classes(self, cells: Sequence[str], field: str) -> list[Sequence[str]]:
        """Return the classes (or labels that apply) named by each of some distinct cells.

        A random split keeps them in train. The result must not depend on whether classes are known
        yet, or two commands would split the images differently.

        Args:
            cells: Their texts, see `cells.canonical`.
            field: The one of `fields` that the column is.

        Returns:
            One entry per cell; nothing for a task without classes.
        """
        del cells, field
        return []

    def doubt(self, cells: Collection[str], field: str) -> tuple[str, str] | None:
        """Return a cell with two possible meanings, between which the user must decide.

        Args:
            cells: The distinct cells of the column of one source.
            field: The one of `fields` that the column is.

        Returns:
            The cell, and the rest of the message about it; None if there is none.
        """
        del cells, field
        return None

    @abstractmethod
    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Turn cells (str, or None where there is no label) into targets and masks."""

    def load_target(self, content: bytes) -> tv_tensors.Mask:
        """Decode the target of one row, for a task that ``loads_targets``.

        Masks are resampled to the nearest pixel and not changed by transforms of colour; one of
        floats may hold depth.

        Args:
            content: The content of the file.

        Returns:
            ``(..., height, width)``, for each pixel of the upright image, a `target_type`.

        Raises:
            Exception: Any, if the content is not a target. Its text becomes part of a message.
        """
        raise NotImplementedError(f"{type(self).__name__} loads no targets")

    def has_label(self, target: Tensor) -> bool:
        """Whether a loaded target has a label; a row whose target has none is unlabelled.

        Args:
            target: What `load_target` returned, at the size of the image before augmentation.
        """
        del target
        return True

    def empty_target(self, size: tuple[int, int]) -> Tensor:
        """Return the placeholder of a missing target in a batch.

        Args:
            size: The (height, width) of the batch's images.

        Returns:
            ``(..., height, width)``, with the shape and dtype of targets of this size.
        """
        return torch.zeros(size, dtype=torch.int64)

    def strata(self, encoded: Encoded) -> NDArray[np.int64]:
        """Return the class of each row, for sampling: ``(N,)``, -1 without a label.

        A task without classes has only class 0.
        """
        return np.where(encoded.counts() > 0, 0, -1)

    @abstractmethod
    def expected(self, cell: str) -> str:
        """Describe in a few words what was expected instead of ``cell``."""

    def fit_targets(self, targets: Sequence[Tensor]) -> None:
        """Compute statistics of loaded training targets and store them in buffers.

        Called after `fit_statistics`, for a task that ``loads_targets``; by default nothing.

        Args:
            targets: Those of up to `data.loaders.SAMPLED_TARGETS` rows, of any size.

        Raises:
            UserError: If nothing can be learned from them.
        """

    def summary(self, targets: Sequence[Tensor]) -> list[str]:
        """Describe loaded targets in a few words, for ``inspect``; by default nothing.

        Args:
            targets: What `load_target` returned, of any size; each holds a label.
        """
        del targets
        return []

    @abstractmethod
    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute statistics of the training labels and store them in buffers.

        Args:
            targets: ``(n, ...)``, the rows with any label; ``(n, 0)`` if targets are loaded with
                the images.
            labelled: bool, the shape of what ``loss`` returns for these rows.

        Raises:
            UserError: If nothing can be learned from these labels.
        """

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Return doubts about labels that can be learned, each with its fix.

        Args:
            targets: The targets of training rows with any label, as returned by `encode`.
            labelled: Their masks.
        """
        del targets, labelled
        return []

    def hint(self) -> tuple[str, str] | None:
        """Return what ``inspect`` may suggest about the classes, and how to follow it."""
        return None

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """The number of outputs of the head per image; 0 before `infer_classes` has set it."""

    @property
    def average(self) -> Average:
        """The function that makes one output of those of several members of an ensemble."""
        return mean

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        """Make the layers between the features and the task's outputs.

        See `mtl_lightning.models.heads.HeadFactory` for what a head may read.

        Args:
            features: The features of the backbone.
            defaults: The model's settings, for those that the task does not set.
        """
        options = self.head_options.over(defaults)
        return build_head(features, self.num_outputs, options, self.average)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row (or cell), unreduced.

        Args:
            outputs: ``(B, num_outputs)`` floating.
            targets: ``(B, ...)``, finite values where there is no label.
        """

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Compute the answers, with tensor operations that can be exported with the network.

        Args:
            outputs: ``(B, num_outputs)`` floating, including bfloat16 and float16.

        Returns:
            Name to ``(B, ...)``, in the label's own unit; numbers in at least float32, ranks int64.
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
        """Update the metrics with the answers of `predict` for labelled rows.

        If a row has many labels, ``labelled`` is the mask of those that may be read.
        """

    @abstractmethod
    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the columns of ``predictions.csv``, ``(B,)`` each, from the answers of `predict`.

        The key ``""`` is the column ``<task>``, any other the column ``<task>:<key>``.
        """

    def guess(self, outputs: Tensor, others: Tensor | None, soft: bool) -> Guess | None:
        """Turn outputs into targets for cells without a label; None if the task has no such.

        Args:
            outputs: ``(B, num_outputs)`` floating, for the images without augmentation.
            others: The same for another view of them, if the task `compares_views`.
            soft: Whether targets are probabilities and not the most probable class.
        """
        del outputs, others, soft
        return None

    @property
    def num_class_numbers(self) -> int:
        """The number of classes that a `Guess` can name; 0 for a task without classes."""
        return 0

    def class_numbers(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of classes (or of labels that apply), as in `Guess.classes`.

        Raises:
            UserError: If there is no such class, or the task has none.
        """
        raise UserError(f"{type(self).__name__} has no classes. Found {listed(names)}")

    def label_classes(self, targets: Tensor) -> Tensor | None:
        """Return the numbers of the classes of labels, as in `Guess.classes`; None without any.

        Args:
            targets: ``(B, ...)``; where nothing is labelled, the result has no meaning.
        """
        del targets
        return None

    def encode_answers(self, answers: Mapping[str, NDArray[Any]]) -> list[bytes]:
        """Return the answers as contents of files, as `load_target` reads them.

        ``predict`` writes a file for each image. By default there are none.

        Args:
            answers: The answers of `predict`, ``(B, ...)``.

        Returns:
            One content for each of the B rows, or nothing.
        """
        del answers
        return []

    @property
    def answer_suffix(self) -> str:
        """The suffix of the files of `encode_answers`."""
        return ".png"

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Return the labels of the rows after their images are mirrored.

        A row keeps the number of its labels, and an unlabelled one stays unlabelled.

        Args:
            encoded: The labels of all rows.
            pairs: Names that swap, from the config (``data.mirror.swap``).

        Raises:
            UserError: If the names are wrong, or (by default) the task has none that could swap.
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
            number: The number of groups.

        Returns:
            Class to its ``(number,)`` counts; nothing for a task without classes.
        """
        del encoded, groups, number
        return {}

    def plot_data(self) -> PlotData | None:
        """Return the collector of a split's rows for a plot; ``None`` for no plot."""
        return None

    def score(self, values: Mapping[str, float]) -> float:
        """Map the primary metric to 0..1, higher is better."""
        return min(max(values[self.primary], 0.0), 1.0)

    def masked_loss(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the *sum* of `slot_losses`, a scalar in at least float32.

        Without any label it is 0 and still part of the graph, as DDP requires.
        """
        return self.slot_losses(outputs, targets, labelled).sum()

    def slot_losses(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the loss of each labelled row (or cell), 0 for the others.

        Unlabelled slots are overwritten before the loss reads them, and their loss is replaced by 0
        afterwards, so that neither a value nor a gradient can come from them.

        Args:
            outputs: ``(B, num_outputs)`` floating.
            targets: ``(B, ...)``, undefined where nothing is labelled.
            labelled: bool, the shape of the losses.
        """
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        mask = labelled.view(labelled.shape + (1,) * (targets.ndim - labelled.ndim))
        losses = self.loss(outputs, torch.where(mask, targets, torch.zeros_like(targets)))
        return torch.where(labelled, losses, torch.zeros_like(losses))

    def step_loss(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the sum of the loss over all its terms: see `masked_loss`, and `loss_terms`.

        A task may assume something about cells without a label, in rows with one, while it is in
        training mode. Their targets are not read.
        """
        return self.masked_loss(outputs, targets, labelled)

    def loss_terms(self, labelled: Tensor) -> Tensor:
        """Return the number of terms of `step_loss`, a scalar: by default that of labels."""
        return labelled.sum()

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
