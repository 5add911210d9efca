"""The LightningModule: one shared step, metrics, logging, the optimizer. It knows no files."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from mtl_lightning.balancing.build import Method, steps_of
from mtl_lightning.balancing.gradient_steps import Of
from mtl_lightning.balancing.steps import Steps, statistics_kept
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.images import image_shape
from mtl_lightning.errors import UserError
from mtl_lightning.hparams import built_from_config, global_seed
from mtl_lightning.models import VGG16, Backbone, Hard, NamedModules, Network, Sharing
from mtl_lightning.results import Results
from mtl_lightning.schedule import check_length, configure_scheduler
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics

EVALUATED = ("train", "val", "test")


def _adamw(parameters: Iterable[Any]) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-4)


class MultiTask(LightningModule):
    """One image network for many tasks, trained where labels are and nowhere else.

    Args:
        tasks: The questions, by name.
        backbone: Images to features. Left out: ``VGG16`` with ImageNet weights, max pooling.
        dropout: Share of the features that each head drops while training.
        head_hidden: Units of a hidden layer in each head; ``null``: heads are linear.
        sharing: How the tasks share the backbone. Left out: ``Hard``, one for all.
        balancing: How the tasks' losses or gradients become one update. Left out: the sum of the
            losses, each times its task's weight. See `mtl_lightning.balancing`.
        gradients: Where the balancing reads gradients: those of the ``parameters`` that tasks
            share, or of the ``features`` that these make, at the price of a plain step.
        balance_every_n_steps: Where it reads gradients: weigh anew only each so many steps.
        loss_reduction: ``labelled``: the loss of a task is the mean over its labelled rows in the
            step. ``batch``: the sum is divided by all rows of the step, as a mean over zero-filled
            labels does (the Keras recipe); rare tasks then weigh less. In a task of many labels
            rows are cells, image by label.
        optimizer: From parameter groups to an optimizer. Left out: AdamW, 1e-4.
        lr_scheduler: A torch scheduler; ``total_steps`` or ``T_max`` may be left out, it is then
            the whole run and the rate changes each step. Given lengths are in epochs.
        backbone_lr_scale: The backbone's learning rate against the heads'.
        image_size: Height and width in pixels, or one number for both.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        backbone: Backbone | None = None,
        dropout: float = 0.5,
        head_hidden: int | None = None,
        sharing: Sharing | None = None,
        balancing: Method | None = None,
        gradients: Of = "parameters",
        balance_every_n_steps: int = 1,
        loss_reduction: Literal["labelled", "batch"] = "labelled",
        optimizer: OptimizerCallable = _adamw,
        lr_scheduler: LRSchedulerCallable | None = None,
        backbone_lr_scale: float = 1.0,
        image_size: int | list[int] = 128,
    ) -> None:
        super().__init__()
        if built_from_config():
            self.save_hyperparameters(logger=False)
        if not tasks:
            raise UserError("tasks is empty: name at least one")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout should be in 0..1 (1 excluded). Found {dropout}")
        if not backbone_lr_scale > 0:
            raise UserError(
                f"backbone_lr_scale should be above 0. Found {backbone_lr_scale}; to freeze the "
                f"backbone use its trainable_from: heads"
            )
        self.tasks = NamedModules(tasks)
        self.network = Network(
            sharing or Hard(),
            backbone or VGG16(),
            outputs={name: task.num_outputs for name, task in tasks.items()},
            image_size=image_shape(image_size),
            dropout=dropout,
            head_hidden=head_hidden,
        )
        self.measured = NamedModules(
            {
                split: NamedModules(
                    {n: TaskMetrics(task, split == "train") for n, task in tasks.items()}
                )
                for split in EVALUATED
            }
        )
        self.balance: Steps | None = None
        if balancing is not None:
            self.balance = steps_of(balancing, list(tasks), gradients, balance_every_n_steps)
        elif gradients != "parameters" or balance_every_n_steps != 1:
            raise UserError("gradients and balance_every_n_steps are for a balancing: name one")
        self.loss_reduction = loss_reduction
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.backbone_lr_scale = backbone_lr_scale
        self.results: dict[str, Results] = {}
        self.step_counts: dict[str, int] = {}
        self._begun = False
        self.shares: dict[str, Tensor] = {}
        """This rank's and micro-batch's share of each task's loss, until the backward pass."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{task: (B, num_outputs)}`` for ``(B, 3, H, W)`` uint8 images."""
        outputs: dict[str, Tensor] = self.network(images)
        return outputs

    def setup(self, stage: str) -> None:
        """Take label statistics and pretrained weights, once, unless a checkpoint brings both."""
        if stage != "fit":
            return
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
            raise UserError(
                "GradientAccumulationScheduler changes what a step is after its labels were "
                "counted; set trainer.accumulate_grad_batches instead"
            )
        if self.balance is not None:
            self.balance.check(self.trainer, self.network)
        if self._begun or self.trainer.ckpt_path is not None:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        for name, task in self.tasks.items():
            try:
                task.fit(*data.training_labels(name))
            except UserError as error:
                raise UserError(f"task {name}: {error}") from None
        report = self.network.load_pretrained()
        if report is not None and self.trainer.is_global_zero:
            self.print(report)
        self._begun = True

    def on_train_start(self) -> None:
        """Find out before the first step whether a resumed schedule fits the training."""
        check_length(self.trainer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw dropout from (seed, epoch, micro-batch, rank), not from what was drawn before.

        So a resumed training drops what the uninterrupted one drops, and ranks, which all have the
        same seed, do not drop the same units.
        """
        counters = (global_seed(), self.current_epoch, batch_idx, self.global_rank)
        state = np.random.SeedSequence(counters).generate_state(1, np.uint64)
        # Not torch.manual_seed: without a GPU it queues a call, with its stack, at every step.
        torch.default_generator.manual_seed(int(state[0]))
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(int(state[0]))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Know that weights and statistics are there already."""
        self._begun = True
        trainer: Any = self._trainer  # None in load_from_checkpoint, where `self.trainer` raises
        if trainer is None or trainer.state.fn != "fit":
            return
        if self.balance is not None:
            self.balance.load_state_dict(checkpoint.get("balancing", {}))
        if "training_weights" not in checkpoint:
            return
        if not any(callback.state_key == "EMA" for callback in trainer.callbacks):
            raise UserError(
                "the checkpoint holds averaged weights: resume with the callback EMA that it was "
                "trained with, or training would go on from the average"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the balancing remembers of each task."""
        if self.balance is not None:
            checkpoint["balancing"] = self.balance.state_dict()

    # ----------------------------------------------------------------- the one step

    def _step(self, batch: Batch, split: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the network and measure.

        Returns:
            Each task's outputs ``(B, num_outputs)``, and its loss summed over labelled rows.
        """
        if split == "train" and self.balance is not None:
            outputs = self.balance.forward(self.network, batch, self.trainer.global_step)
        else:
            outputs = self.network(batch.images, batch.labelled)
        sums = {}
        for name, task in self.tasks.items():
            labelled, targets = batch.labelled[name], batch.targets[name]
            sums[name] = task.masked_loss(outputs[name], targets, labelled)
            with torch.no_grad():
                self.measured[split][name].update(
                    task, outputs[name].detach(), targets, labelled, sums[name]
                )
        return outputs, sums

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this rank's and micro-batch's share of the loss of the whole step."""
        _, sums = self._step(batch, "train")
        self.step_counts = batch.counts
        shares = self.shares = self._shares(sums, batch)
        if self.balance is None:
            loss = torch.stack(list(shares.values())).sum()
        else:
            loss = self.balance.loss(shares, batch.counts, self.trainer.global_step)
        penalty = self.network.penalty()
        if penalty is not None and batch_idx % self.trainer.accumulate_grad_batches == 0:
            # Once a step, on every rank: the trainer divides by the micro-batches of a step, and
            # DDP takes the mean over ranks.
            loss = loss + self.trainer.accumulate_grad_batches * penalty
            self.log("train/penalty", penalty.detach(), batch_size=1)
        # The exact losses of the epoch come from `measured`; this is for the eye.
        self.log("train/loss_step", loss, batch_size=1, prog_bar=True)
        return loss

    def _shares(self, sums: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return this rank's and micro-batch's share of each task's loss in the whole step."""
        shares = {}
        for name, task in self.tasks.items():
            if self.loss_reduction == "labelled":
                rows = batch.counts[name]
            else:  # of cells, in a task of many labels
                rows = batch.step_rows * batch.labelled[name].shape[1:].numel()
            shares[name] = sums[name] * (task.weight * batch.parts / max(rows, 1))
        return shares

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Fill the gradients: as usual, or as the balancing does."""
        if self.balance is None:
            super().backward(loss, *args, **kwargs)
        else:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            self.balance.backward(loss, 1.0 if scaler is None else scaler.get_scale())
        self.shares = {}  # and with them what is left of the graph

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let the balancing see what the update did, if it wants to."""
        if self.balance is not None:
            self.balance.after_update(lambda: self._seen_again(batch, batch_idx), batch.counts)

    @torch.no_grad()
    def _seen_again(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the shares of a batch's losses as they are now, with the same dropout."""
        restore = statistics_kept(self.network)
        self.on_train_batch_start(batch, batch_idx)
        with self.trainer.precision_plugin.forward_context():
            outputs = self.network(batch.images, batch.labelled)
            sums = {
                name: task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
                for name, task in self.tasks.items()
            }
        restore()
        return self._shares(sums, batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure; return the outputs, for callbacks that draw them."""
        return self._step(batch, "val")[0]

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure; return the outputs, for callbacks that draw them."""
        return self._step(batch, "test")[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the rows and, per task, the columns of the answer."""
        outputs = self(batch.images)
        answers = {name: task.decode(outputs[name]) for name, task in self.tasks.items()}
        return {"rows": batch.rows.cpu().numpy(), "answers": answers}

    # ----------------------------------------------------------------- results

    def on_train_epoch_start(self) -> None:
        """Begin to measure anew."""
        self._reset("train")

    def on_validation_epoch_start(self) -> None:
        """Begin to measure anew."""
        self._reset("val")

    def on_test_epoch_start(self) -> None:
        """Begin to measure anew."""
        self._reset("test")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's exact losses and metrics."""
        self._report("train")
        if self.balance is not None:
            self.balance.method.epoch_end(self.results["train"].scores(dict(self.tasks.items())))

    def on_validation_epoch_end(self) -> None:
        """Log the split's exact losses and metrics."""
        if not self.trainer.sanity_checking:
            self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the split's exact losses and metrics."""
        self._report("test")

    def _reset(self, split: str) -> None:
        for metrics in self.measured[split].values():
            metrics.reset()

    def _report(self, split: str) -> None:
        values = {name: m.compute() for name, m in self.measured[split].items()}
        self.results[split] = Results.of(split, dict(self.tasks.items()), values)
        for name, value in self.results[split].flat().items():
            # Every rank holds the same number already: torchmetrics has added up the ranks.
            self.log(name, value, batch_size=1, prog_bar=name == "val/score")

    # ----------------------------------------------------------------- optimizer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Give the optimizer what is not frozen, heads and backbone at their own rates."""
        groups: list[dict[str, Any]] = [
            {"name": name, "params": [p for p in parameters if p.requires_grad]}
            for name, parameters in (
                ("heads", self.network.head_parameters()),
                ("backbone", self.network.backbone_parameters()),
            )
        ]
        if self.balance is not None:
            self.balance.begin(self.device, next(self.network.parameters()).dtype)
            learned = [p for own in self.balance.method.parameters().values() for p in own]
            # Without decay: it would pull the weights of the tasks to where they began.
            groups.append({"name": "balancing", "params": learned, "weight_decay": 0.0})
        optimizer = self.make_optimizer([group for group in groups if group["params"]])
        for group in optimizer.param_groups:
            if group["name"] == "backbone":
                group["lr"] *= self.backbone_lr_scale
        if self.make_lr_scheduler is None:
            return optimizer
        scheduler = configure_scheduler(self.make_lr_scheduler, optimizer, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave alone what belongs to a task without a label in the whole step.

        Its gradient is 0, but weight decay and momentum would move it; without a gradient the
        optimizer passes it by, its state included.
        """
        del optimizer
        for name in self.tasks:
            if not self.step_counts[name]:
                for parameter in self.network.own_parameters(name):
                    parameter.grad = None
