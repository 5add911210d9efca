"""Self-training: the answers of averaged weights teach the network where labels are missing."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.models import Network
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.system.strategy import check_whole_weights
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.unlabelled.base import UnlabelledLearning
from mtl_lightning.unlabelled.guesses import Guesses
from mtl_lightning.unlabelled.quality import Quality
from mtl_lightning.unlabelled.teacher import Teacher
from mtl_lightning.unlabelled.thresholds import Thresholds, over_ranks


class SelfTraining(UnlabelledLearning):
    """Learns from cells without a label what averaged weights believe about the plain image.

    For each training image and each task without a label, a moving average of the weights answers
    for the image without augmentation, and the network learns that answer from the augmented image.
    Classes, and yes or no of each label of a `MultiLabel`, are learned if the answer is confident
    (FixMatch, Sohn et al. 2020, with thresholds by class as in FlexMatch, Zhang et al. 2021; see
    `Thresholds`); numbers are learned in proportion to how far two views agree (see `Regression`).
    Images without any label take part, in the places of labelled ones. A step costs a forward pass
    more (two for numbers): the average's answers.

    The stronger ``data.augmentation`` is, the more the two views differ. Compare it with a run
    without it on val: it does not always help (docs/unlabelled.md).

    Guesses are not labels: no count, class weight, statistic or metric includes them.
    ``train/<task>/guessed`` is the share of unlabelled cells that were learned from, and
    ``val/<task>/guess_accuracy`` how many of the guesses for labelled validation cells that would
    be used are right. Where it falls by more than chance explains, the weight of the task's guesses
    is halved, with a note.

    Args:
        weight: Factor of the loss of guesses; 0 turns them off.
        threshold: The least probability of a class that is learned.
        adaptive: Lower it for classes of which guesses are less confident.
        targets: ``hard``: the most probable class; ``soft``: the probabilities.
        ramp_up: Epochs in which the weight rises from 0, as exp(-5 (1 - t)^2).
        decay: Share of the average that a step keeps.
        applies: Where the question of a task applies, by the classes of other tasks: ``{skin:
            {category: [People]}}``. There is no guess where those tasks' label, or confident guess,
            is another, or where there is neither. By default everywhere.
    """

    def __init__(
        self,
        weight: float = 1.0,
        threshold: float = 0.9,
        adaptive: bool = True,
        targets: Literal["hard", "soft"] = "hard",
        ramp_up: float = 1.0,
        decay: float = 0.99,
        applies: dict[str, dict[str, list[str]]] | None = None,
    ) -> None:
        for name, value, low, high in (
            ("weight", weight, 0.0, float("inf")),
            ("threshold", threshold, 0.0, 1.0),
            ("ramp_up", ramp_up, 0.0, float("inf")),
        ):
            if not low <= value <= high:
                limits = "0 or more" if high > 1 else "in 0..1"
                raise UserError(f"SelfTraining: {name} should be {limits}. Found {value}")
        if not 0 <= decay < 1:
            raise UserError(f"SelfTraining: decay should be in 0..1 (1 excluded). Found {decay}")
        self.weight = weight
        self.threshold = threshold
        self.adaptive = adaptive
        self.targets = targets
        self.ramp_up = ramp_up
        self.decay = decay
        self.applies = applies or {}
        self._saved: Mapping[str, Any] = {}
        self._used: dict[str, Tensor] = {}

    @property
    def active(self) -> bool:
        """Whether guesses have a weight."""
        return self.weight > 0

    def check(self, trainer: Trainer, tasks: Mapping[str, Task]) -> None:
        """Refuse strategies that divide the weights, and rules about unknown tasks or classes."""
        check_whole_weights(trainer, "model.unlabelled: SelfTraining")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        if data.cache_features is not None:
            raise UserError(
                f"data.cache_features should be null with model.unlabelled: SelfTraining, which "
                f"reads two views of each image. Found {data.cache_features}"
            )
        for task, conditions in self.applies.items():
            for name in (task, *conditions):
                if name not in tasks:
                    raise UserError(
                        f"SelfTraining: applies should name tasks of this run ({listed(tasks)}). "
                        f"Found {name}{did_you_mean(name, list(tasks))}"
                    )
            for name, classes in conditions.items():
                try:
                    tasks[name].class_numbers(classes)
                except UserError as error:
                    raise UserError(f"SelfTraining: applies: {task}: {name}: {error}") from None

    def begin(self, network: Network, tasks: Mapping[str, Task], first_rank: bool) -> None:
        """Start the average from the network's weights, or continue; see the base class."""
        device = next(network.parameters()).device
        classes = {name: task.num_class_numbers for name, task in tasks.items()}
        classes = {name: number for name, number in classes.items() if number}
        self._tasks = dict(tasks)
        self._compares_views = any(task.compares_views for task in tasks.values())
        self._teacher = Teacher(network, self.decay)
        self._thresholds = Thresholds(self.threshold, self.adaptive, classes, device)
        self._quality = Quality(tasks, device)
        # Task to how many of its unlabelled slots were learned from, and their number.
        self._used = {name: torch.zeros(2, dtype=torch.int64, device=device) for name in tasks}
        self._conditions = {
            task: {
                name: torch.tensor(tasks[name].class_numbers(names), device=device)
                for name, names in conditions.items()
            }
            for task, conditions in self.applies.items()
        }
        saved, self._saved = self._saved, {}
        if saved:
            self._teacher.load_state_dict(saved["teacher"])
            self._thresholds.load_state_dict(saved["thresholds"], first_rank)
            self._quality.load_state_dict(saved["quality"])
            if first_rank:
                for name, own in self._used.items():
                    own.copy_(saved["used"][name])

    # ----------------------------------------------------------------- training

    @torch.no_grad()
    def guess(self, batch: Batch, epochs: float) -> Guesses:
        """Guess targets where there is no label; see the base class."""
        guesses = self._guesses(batch)
        applies = self._applicable(batch, guesses)
        real = _real(batch)
        ramp = self._ramp(epochs)
        targets, weights = {}, {}
        for name, guess in guesses.items():
            labelled = batch.labelled[name]
            mask = ~labelled & _rows(real, labelled)
            if guess.classes is not None:
                self._thresholds.add(name, guess.classes, guess.confidence, mask)
            self._used[name][1] += mask.sum()
            if name in applies:
                mask = mask & _rows(applies[name], labelled)
            mask = mask & self._is_confident(name, guess)
            if batch.counts[name] == 0:  # the task takes no part in this step
                mask = torch.zeros_like(mask)
            self._used[name][0] += mask.sum()
            factor = ramp * self._quality.factors[name]
            own = guess.confidence if guess.classes is None else torch.ones_like(guess.confidence)
            targets[name] = guess.targets
            weights[name] = torch.where(mask, own * factor, 0.0)
        return Guesses(targets, weights)

    def _guesses(self, batch: Batch) -> dict[str, Guess]:
        """Return the guesses of all tasks for all images of a batch, by the averaged weights."""
        plain = batch.inputs if batch.plain_inputs is None else batch.plain_inputs
        outputs = self._teacher(plain)
        others: dict[str, Tensor] = {}
        if self._compares_views and batch.plain_inputs is not None:
            others = self._teacher(batch.inputs)
        guesses = {}
        for name, task in self._tasks.items():
            guess = task.guess(outputs[name], others.get(name), self.targets == "soft")
            if guess is not None:
                guesses[name] = guess
        return guesses

    def _is_confident(self, name: str, guess: Guess) -> Tensor:
        if guess.classes is None:
            return torch.ones_like(guess.confidence, dtype=torch.bool)
        return guess.confidence >= self._thresholds.of(name, guess.classes)

    def _applicable(self, batch: Batch, guesses: Mapping[str, Guess]) -> dict[str, Tensor]:
        """Return, for each task with a condition, the mask ``(B,)`` of rows where it applies."""
        masks = {}
        for task, conditions in self._conditions.items():
            mask = torch.ones(len(batch), dtype=torch.bool, device=batch.rows.device)
            for name, numbers in conditions.items():
                guess, labelled = guesses[name], batch.labelled[name]
                labels = self._tasks[name].label_classes(batch.targets[name])
                assert labels is not None  # `class_numbers` has found its classes
                assert guess.classes is not None
                classes = torch.where(labelled, labels, guess.classes)
                known = labelled | self._is_confident(name, guess)
                named = (torch.isin(classes, numbers) & known).reshape(len(batch), -1)
                mask = mask & named.any(1)
            masks[task] = mask
        return masks

    def _ramp(self, epochs: float) -> float:
        """Return the factor of the loss of guesses (Tarvainen and Valpola 2017, appendix B.1)."""
        t = min(epochs / self.ramp_up, 1.0) if self.ramp_up else 1.0
        return self.weight * float(torch.tensor(-5.0 * (1 - t) ** 2, dtype=torch.float64).exp())

    def after_step(self, network: Network) -> None:
        """Move the average towards the network's weights."""
        self._teacher.update(network)

    def end_epoch(self) -> dict[str, float]:
        """Set the thresholds of the next epoch; return the shares of cells that were used."""
        self._thresholds.end_epoch()
        values = {}
        for name, own in self._used.items():
            used, unlabelled = over_ranks(own).tolist()
            own.zero_()
            if unlabelled:
                values[f"train/{name}/guessed"] = used / unlabelled
        return values

    # ----------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self, batch: Batch) -> None:
        """Compare the guesses that would be used with labels."""
        real = _real(batch)
        for name, guess in self._guesses(batch).items():
            labels = self._tasks[name].label_classes(batch.targets[name])
            if labels is None or guess.classes is None:
                continue
            labelled = batch.labelled[name]
            mask = labelled & _rows(real, labelled) & self._is_confident(name, guess)
            self._quality.add(name, guess.classes == labels, mask)

    def end_validation(self) -> tuple[dict[str, float], list[str]]:
        """Return the accuracy of guesses, and a note on each task where it has fallen."""
        return self._quality.end()

    # ----------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the average, the thresholds, and what was counted in this epoch."""
        if not self._used:  # a checkpoint of a network that is not trained
            return {}
        return {
            "teacher": self._teacher.state_dict(),
            "thresholds": self._thresholds.state_dict(),
            "quality": self._quality.state_dict(),
            "used": {name: over_ranks(own).cpu() for name, own in self._used.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold a checkpoint's state until `begin`."""
        self._saved = state


def _real(batch: Batch) -> Tensor:
    """Return the mask ``(B,)`` of rows that have an image."""
    real = batch.rows != PADDING
    if batch.bad:
        real = real & ~torch.isin(batch.rows, torch.tensor(list(batch.bad), device=real.device))
    return real


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask ``(B,)`` in a shape that is broadcast to the slots of a task."""
    return mask.view((-1,) + (1,) * (like.ndim - 1))
