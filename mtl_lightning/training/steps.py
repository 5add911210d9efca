"""The step that training and evaluation share, and its metrics."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from mtl_lightning.balancing.balancer import Balancer, snapshot_buffers
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import NamedModules, Network
from mtl_lightning.models.members import averaged
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.finite import (
    MicroBatchResult,
    explain,
    has_finite_gradients,
    is_finite,
)
from mtl_lightning.training.losses import LossReduction, loss_shares, summed_losses
from mtl_lightning.training.measuring import Measurements
from mtl_lightning.training.parameters import drop_gradients, leave_absent
from mtl_lightning.unlabelled import UnlabelledLearning
from mtl_lightning.unlabelled.guesses import Guesses


class TrainingSteps(LightningModule):
    """The steps of `mtl_lightning.training.module.MultiTask`, which builds their parts.

    Attributes:
        tasks: The tasks by name.
        network: Maps inputs to the raw outputs of every task.
        measured: The metrics of every split.
        balancer: Turns the tasks' losses or gradients into one update; None for their sum.
        unlabelled: Guesses targets where there is no label; None to learn from labels alone.
        loss_reduction: See `mtl_lightning.training.losses.LossReduction`.
        on_non_finite: What happens if a loss or gradient is not finite.
        results: The last results of each split.
        shares: This rank's and micro-batch's share of each task's loss, until the backward pass.
        step_counts: Task to the number of its labels in the step.
        skipped_steps: Steps of this training that were not finite.
    """

    tasks: NamedModules[Task]
    network: Network
    measured: Measurements
    balancer: Balancer | None
    unlabelled: UnlabelledLearning | None
    loss_reduction: LossReduction
    on_non_finite: Literal["stop", "skip_step"]

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Results] = {}
        self.shares: dict[str, Tensor] = {}
        self.step_counts: dict[str, int] = {}
        self.skipped_steps = 0
        self._micro_batches: list[MicroBatchResult] = []
        self._batch: Batch
        self._guesses: Guesses | None = None

    @property
    def _tasks(self) -> dict[str, Task]:
        return dict(self.tasks.items())

    def on_fit_start(self) -> None:
        """Start to measure."""
        self.measured.reset("train")
        self._micro_batches, self.skipped_steps = [], 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by (seed, epoch, micro-batch, rank), independently of earlier draws.

        So a resumed training drops the same units as an uninterrupted one, and ranks, which all
        have the same seed, drop different units.
        """
        counters = (global_seed(), self.current_epoch, batch_idx, self.global_rank)
        state = np.random.SeedSequence(counters).generate_state(1, np.uint64)
        # Not torch.manual_seed: without a GPU it queues a call, with its stack, in every step.
        torch.default_generator.manual_seed(int(state[0]))
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(int(state[0]))

    # ----------------------------------------------------------------- a step

    def _step(
        self, batch: Batch, train: bool = False, guesses: Guesses | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the network.

        Args:
            batch: The micro-batch.
            train: Whether a backward pass follows.
            guesses: Guessed targets, whose rows need outputs as well.

        Returns:
            Each task's outputs ``(B, num_outputs)``, and its loss summed over labelled rows.
        """
        check_batch(batch)
        needed = batch if guesses is None else batch.replace(labelled=guesses.masks(batch))
        if batch.features is not None:
            network = self.network
            features = network.feature_spec.unpack(batch.features, network.all_reads)
            outputs = network.forward_heads(dict.fromkeys(self.tasks, features))
        elif train and self.balancer is not None:
            outputs = self.balancer.forward(self.network, needed, self.trainer.global_step)
        else:
            outputs = self.network(batch.inputs, needed.labelled)
        return outputs, summed_losses(self._tasks, outputs, batch)

    def _shares(
        self, outputs: dict[str, Tensor], sums: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return each task's share of the loss of the step, that of the guesses included."""
        shares = loss_shares(self._tasks, sums, batch, self.loss_reduction)
        if self._guesses is not None:
            for name, share in self._guesses.shares(self._tasks, outputs, batch).items():
                shares[name] = shares[name] + share
        return shares

    def _epochs(self, batch_idx: int) -> float:
        """Return the epochs of training before a step, the same for all its micro-batches."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        plan, epoch = data.train_plan, self.current_epoch
        rows = plan.rows_before(epoch, plan.step_start(epoch, batch_idx))
        return float(epoch + rows / len(plan.rows))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this rank's and micro-batch's share of the loss of the whole step."""
        if self.unlabelled is not None:
            self._guesses = self.unlabelled.guess(batch, self._epochs(batch_idx))
        outputs, sums = self._step(batch, True, self._guesses)
        # They are measured when the step is made: see on_before_optimizer_step.
        rows = len(batch.rows)
        detached = {
            name: averaged(value.detach(), rows, self._tasks[name].average)
            for name, value in outputs.items()
        }
        self._micro_batches.append(
            MicroBatchResult(batch, detached, {n: value.detach() for n, value in sums.items()})
        )
        self.step_counts, self._batch = batch.counts, batch
        shares = self.shares = self._shares(outputs, sums, batch)
        if self.balancer is None:
            loss = torch.stack(list(shares.values())).sum()
        else:
            loss = self.balancer.loss(shares, batch.counts, self.trainer.global_step)
        penalty = self.network.penalty()
        if penalty is not None and batch_idx % self.trainer.accumulate_grad_batches == 0:
            # Once per step, on every rank: the trainer divides by the micro-batches of a step, and
            # DDP averages over ranks.
            loss = loss + self.trainer.accumulate_grad_batches * penalty
            self.log("train/penalty", penalty.detach(), batch_size=1)
        # Shown during training; the exact losses of the epoch come from `measured`.
        self.log("train/loss_step", loss, batch_size=1, prog_bar=True)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, in the balancing's way if there is one."""
        if self.balancer is None:
            super().backward(loss, *args, **kwargs)
        else:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            self.balancer.backward(loss, 1.0 if scaler is None else scaler.get_scale())
        self.shares = {}  # frees the rest of the graph

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Make the step, and let the balancing evaluate the batch again if it needs to.

        (Immediately, since a callback may write a checkpoint at the end of the batch.)
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.unlabelled is not None:
            self.unlabelled.after_step(self.network)
        if self.balancer is not None:
            batch = self._batch
            self.balancer.after_update(lambda: self._reevaluate(batch, batch_idx), batch.counts)

    @torch.no_grad()
    def _reevaluate(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the current shares of a batch's losses, with the same dropout."""
        restore = snapshot_buffers(self.network)
        self.on_train_batch_start(batch, batch_idx)
        with self.trainer.precision_plugin.forward_context():
            outputs, sums = self._step(batch, guesses=self._guesses)
        restore()
        return self._shares(outputs, sums, batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure a batch; return the outputs, for callbacks that plot them."""
        if (method := self._measured_method()) is not None:
            method.validate(batch)
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure a batch; return the outputs, for callbacks that plot them."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, split: str) -> dict[str, Tensor]:
        outputs, sums = self._step(batch)
        self.measured.update(split, self._tasks, MicroBatchResult(batch, outputs, sums))
        return outputs

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Skip steps that are not finite, and keep parameters that no label in the step concerns.

        That is the whole network if all images of the step were bad (`data.on_bad_image: skip`).
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        results, self._micro_batches = self._micro_batches, []
        if not is_finite(results, parameters, scaled, self.trainer):
            if self.balancer is not None:
                self.balancer.rollback()
            self._not_finite(results)
            drop_gradients(parameters)
            return
        if self.balancer is not None and scaled and not has_finite_gradients(parameters):
            self.balancer.rollback()  # the scaler will skip this step
        for micro in results:
            self.measured.update("train", self._tasks, micro)
        absent = [name for name in self.tasks if not self.step_counts[name]]
        if len(absent) == len(self.tasks):
            drop_gradients(parameters)
        else:
            leave_absent(self.network, absent, optimizer)

    def _not_finite(self, results: list[MicroBatchResult]) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        reason = explain(results, self._tasks, self.network, data.labels.image_name)
        where = f"epoch {self.current_epoch}, step {self.global_step}: {reason}"
        if self.on_non_finite == "stop":
            raise UserError(
                f"{where}; the weights are those from before this step. Check these images and "
                f"labels, lower the learning rate, set trainer.gradient_clip_val, or "
                f"model.on_non_finite: skip_step"
            )
        self.skipped_steps += 1
        self.print(f"step skipped: {where}")

    def resume_counting(self, skipped_steps: int) -> None:
        """Continue counting from the skipped steps of a checkpoint; called after training starts.

        Args:
            skipped_steps: Number of steps before the checkpoint that were not finite.
        """
        self.skipped_steps = skipped_steps

    # ----------------------------------------------------------------- results

    def on_validation_epoch_start(self) -> None:
        """Start to measure."""
        self.measured.reset("val")

    def on_test_epoch_start(self) -> None:
        """Start to measure."""
        self.measured.reset("test")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's exact losses and metrics, and reset them for the next."""
        self._report("train")
        self.measured.reset("train")
        if self.skipped_steps:
            self.log("train/skipped_steps", float(self.skipped_steps), batch_size=1)
        if self.balancer is not None:
            self.balancer.method.epoch_end(self.results["train"].scores(self._tasks))
        if self.unlabelled is not None:
            self._log_values(self.unlabelled.end_epoch())

    def on_validation_epoch_end(self) -> None:
        """Log the split's exact losses and metrics."""
        if not self.trainer.sanity_checking:
            self._report("val")
        if (method := self._measured_method()) is not None:
            values, notes = method.end_validation()
            self._log_values(values)
            for note in notes:
                self.print(f"note: {note}")

    def on_test_epoch_end(self) -> None:
        """Log the split's exact losses and metrics."""
        self._report("test")

    def _report(self, split: str) -> None:
        self.results[split] = self.measured.results(split, self._tasks)
        for name, value in self.results[split].flat().items():
            # Every rank has the same number already: torchmetrics has added up the ranks.
            self.log(name, value, batch_size=1, prog_bar=name == "val/score")

    def _measured_method(self) -> UnlabelledLearning | None:
        """Return what guesses, in a validation that is part of a training."""
        trains = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        return self.unlabelled if trains else None

    def _log_values(self, values: Mapping[str, float]) -> None:
        """Log values that are the same on every rank."""
        for name, value in values.items():
            self.log(name, value, batch_size=1)


def check_batch(batch: object) -> None:
    """Refuse batches of other data.

    Raises:
        UserError: If it is not a `Batch`.
    """
    if not isinstance(batch, Batch):
        raise UserError(
            f"MultiTask should be given the batches of PartialLabels (trainer.predict(model, "
            f"datamodule=data)). Found {type(batch).__name__}; for a tensor of images there is "
            f"model.predictor()(images)"
        )
