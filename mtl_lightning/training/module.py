"""The LightningModule: one shared step, metrics, logging, the optimizer. It knows no files."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from mtl_lightning.balancing.balancer import Balancer, snapshot_buffers
from mtl_lightning.balancing.build import Method, make_balancer
from mtl_lightning.balancing.gradients.gradient_balancer import GradientsWrt
from mtl_lightning.config.restore import check_hyper_parameters
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.images import image_shape
from mtl_lightning.models import (
    VGG16,
    Backbone,
    Hard,
    HeadOptions,
    NamedModules,
    Network,
    Sharing,
)
from mtl_lightning.models.inputs import IMAGE, image_input
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.lightning_internals import class_method, is_built_by_cli, trainer_of
from mtl_lightning.system.seeding import global_seed
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.predictor import Predictor
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.finite import (
    MicroBatchResult,
    explain,
    has_finite_gradients,
    is_finite,
)
from mtl_lightning.training.schedule import check_length, configure_scheduler

EVALUATED = ("train", "val", "test")


def _adamw(parameters: Iterable[Any]) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-4)


class MultiTask(LightningModule):
    """One image network for many tasks, trained where labels are and nowhere else.

    Args:
        tasks: The questions, by name.
        backbone: Images to features. Left out: ``VGG16`` with ImageNet weights, max pooling.
        dropout: Share of the features that each head drops while training, unless its task says
            otherwise (``head``).
        head_hidden: Units of a hidden layer in each head, likewise; ``null``: heads are linear.
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
        on_non_finite: What happens when a loss or gradient is infinite or no number. ``stop``: an
            error that names task and images. ``skip_step``: the step is not made, nor measured.
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
        gradients: GradientsWrt = "parameters",
        balance_every_n_steps: int = 1,
        loss_reduction: Literal["labelled", "batch"] = "labelled",
        optimizer: OptimizerCallable = _adamw,
        lr_scheduler: LRSchedulerCallable | None = None,
        backbone_lr_scale: float = 1.0,
        on_non_finite: Literal["stop", "skip_step"] = "stop",
        image_size: int | list[int] = 128,
    ) -> None:
        super().__init__()
        if is_built_by_cli():
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
        if head_hidden is not None and head_hidden < 1:
            raise UserError(
                f"head_hidden should be 1 or more, or null for linear heads. Found {head_hidden}"
            )
        defaults = HeadOptions(dropout=dropout, hidden=head_hidden)
        self.tasks = NamedModules(tasks)
        self.network = Network(
            sharing or Hard(),
            backbone or VGG16(),
            heads={name: partial(task.head, defaults=defaults) for name, task in tasks.items()},
            inputs=image_input(image_shape(image_size)),
        )
        self.measured = NamedModules(
            {
                split: NamedModules(
                    {n: TaskMetrics(task, split == "train") for n, task in tasks.items()}
                )
                for split in EVALUATED
            }
        )
        self.balancer: Balancer | None = None
        if balancing is not None:
            self.balancer = make_balancer(balancing, list(tasks), gradients, balance_every_n_steps)
        elif gradients != "parameters" or balance_every_n_steps != 1:
            raise UserError("gradients and balance_every_n_steps are for a balancing: name one")
        self.loss_reduction = loss_reduction
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.backbone_lr_scale = backbone_lr_scale
        self.on_non_finite = on_non_finite
        self.skipped_steps = 0
        self.results: dict[str, Results] = {}
        self.step_counts: dict[str, int] = {}
        self._micro_batches: list[MicroBatchResult] = []
        self._batch: Batch
        self._begun = False
        self.shares: dict[str, Tensor] = {}
        """This rank's and micro-batch's share of each task's loss, until the backward pass."""

    @class_method
    def load_from_checkpoint(
        cls,  # noqa: N805 - this is a class method
        checkpoint_path: Any,
        *args: Any,
        **options: Any,
    ) -> "MultiTask":
        """Build the module that a checkpoint of the command line describes, as Lightning does.

        It is read as plain values, and builds only what :func:`check_hyper_parameters` lets pass.

        Raises:
            UserError: If it names classes that this program knows nothing of.
        """
        check_hyper_parameters(cls, checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY, options)
        options["weights_only"] = True
        return super().load_from_checkpoint(checkpoint_path, *args, **options)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{task: (B, num_outputs)}`` for ``(B, 3, H, W)`` uint8 images."""
        outputs: dict[str, Tensor] = self.network({IMAGE: images})
        return outputs

    def predictor(self) -> Predictor:
        """Return the network with the tasks' answers as its last layer, on the same weights."""
        return Predictor(self.network, dict(self.tasks.items()))

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
        if self.balancer is not None:
            self.balancer.check(self.trainer, self.network)
        if self._begun or self.trainer.ckpt_path is not None:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        for name, task in self.tasks.items():
            try:
                task.fit_statistics(*data.labels.training_labels(name))
            except UserError as error:
                raise UserError(f"task {name}: {error}") from None
        report = self.network.load_pretrained()
        if report is not None and self.trainer.is_global_zero:
            self.print(report)
        self._begun = True

    def configure_callbacks(self) -> list[Callback]:
        """Bring along what resumes a training exactly, and what computes features once."""
        from mtl_lightning.training.feature_cache import FeatureCache  # they know this class
        from mtl_lightning.training.resume import Resume

        return [Resume(), FeatureCache()]

    def on_fit_start(self) -> None:
        """Begin to measure."""
        self._reset("train")
        self._micro_batches, self.skipped_steps = [], 0

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
        trainer: Any = trainer_of(self)  # none in load_from_checkpoint
        if trainer is None or trainer.state.fn != "fit":
            return
        if self.balancer is not None:
            self.balancer.load_state_dict(checkpoint.get("balancing", {}))
        if "training_weights" not in checkpoint:
            return
        if not any(callback.state_key == "EMA" for callback in trainer.callbacks):
            raise UserError(
                "the checkpoint holds averaged weights: resume with the callback EMA that it was "
                "trained with, or training would go on from the average"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the balancing remembers of each task."""
        if self.balancer is not None:
            checkpoint["balancing"] = self.balancer.state_dict()

    # ----------------------------------------------------------------- the one step

    def _step(
        self, batch: Batch, train: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the network.

        Returns:
            Each task's outputs ``(B, num_outputs)``, and its loss summed over labelled rows.
        """
        if batch.features is not None:
            network = self.network
            features = network.feature_spec.unpack(batch.features, network.all_reads)
            outputs = network.forward_heads(dict.fromkeys(self.tasks, features))
        elif train and self.balancer is not None:
            outputs = self.balancer.forward(self.network, batch, self.trainer.global_step)
        else:
            outputs = self.network(batch.inputs, batch.labelled)
        return outputs, self._sums(outputs, batch)

    def _sums(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        return {
            name: task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
            for name, task in self.tasks.items()
        }

    @torch.no_grad()
    def _measure(self, result: MicroBatchResult, split: str) -> None:
        for name, task in self.tasks.items():
            self.measured[split][name].update(
                task,
                result.outputs[name].detach(),
                result.batch.targets[name],
                result.batch.labelled[name],
                result.sums[name],
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this rank's and micro-batch's share of the loss of the whole step."""
        outputs, sums = self._step(batch, train=True)
        # They are measured when the step is made: see on_before_optimizer_step.
        detached = {name: value.detach() for name, value in outputs.items()}
        self._micro_batches.append(
            MicroBatchResult(batch, detached, {n: value.detach() for n, value in sums.items()})
        )
        self.step_counts, self._batch = batch.counts, batch
        shares = self.shares = self._shares(sums, batch)
        if self.balancer is None:
            loss = torch.stack(list(shares.values())).sum()
        else:
            loss = self.balancer.loss(shares, batch.counts, self.trainer.global_step)
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
            shares[name] = sums[name] * (task.weight * batch.gradient_divisor / max(rows, 1))
        return shares

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Fill the gradients: as usual, or as the balancing does."""
        if self.balancer is None:
            super().backward(loss, *args, **kwargs)
        else:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            self.balancer.backward(loss, 1.0 if scaler is None else scaler.get_scale())
        self.shares = {}  # and with them what is left of the graph

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Make the step, and let the balancing see what it did, if it wants to.

        (At once: a callback may write a checkpoint at the end of the batch.)
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.balancer is not None:
            batch = self._batch
            self.balancer.after_update(lambda: self._reevaluate(batch, batch_idx), batch.counts)

    @torch.no_grad()
    def _reevaluate(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the shares of a batch's losses as they are now, with the same dropout."""
        restore = snapshot_buffers(self.network)
        self.on_train_batch_start(batch, batch_idx)
        with self.trainer.precision_plugin.forward_context():
            sums = self._step(batch)[1]
        restore()
        return self._shares(sums, batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure; return the outputs, for callbacks that draw them."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure; return the outputs, for callbacks that draw them."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, split: str) -> dict[str, Tensor]:
        outputs, sums = self._step(batch)
        self._measure(MicroBatchResult(batch, outputs, sums), split)
        return outputs

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the rows and, per task, the columns of the answer."""
        outputs = self.network(batch.inputs)
        columns = {}
        for name, task in self.tasks.items():
            answers = task.predict(outputs[name])
            columns[name] = task.columns({key: a.cpu().numpy() for key, a in answers.items()})
        return {"rows": batch.rows.cpu().numpy(), "answers": columns}

    # ----------------------------------------------------------------- results

    def on_validation_epoch_start(self) -> None:
        """Begin to measure anew."""
        self._reset("val")

    def on_test_epoch_start(self) -> None:
        """Begin to measure anew."""
        self._reset("test")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's exact losses and metrics, and begin to measure the next."""
        self._report("train")
        self._reset("train")
        if self.skipped_steps:
            self.log("train/skipped_steps", float(self.skipped_steps), batch_size=1)
        if self.balancer is not None:
            self.balancer.method.epoch_end(self.results["train"].scores(dict(self.tasks.items())))

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
        if self.balancer is not None:
            self.balancer.begin(self.device, next(self.network.parameters()).dtype)
            learned = [p for own in self.balancer.method.parameters().values() for p in own]
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
        """Make only steps that are finite, and leave alone what no label in the step is about.

        The gradient of an absent task is 0, but weight decay and momentum would move it; without a
        gradient the optimizer passes it by, its state included. So it is with the whole network in
        a step whose images were all bad (`data.on_bad_image: skip`).
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        results, self._micro_batches = self._micro_batches, []
        if not is_finite(results, parameters, scaled, self.trainer):
            if self.balancer is not None:
                self.balancer.rollback()
            self._not_finite(results)
            for parameter in parameters:
                parameter.grad = None
            return
        if self.balancer is not None and scaled and not has_finite_gradients(parameters):
            self.balancer.rollback()  # the scaler will leave this step out
        for micro in results:
            self._measure(micro, "train")
        absent = [name for name in self.tasks if not self.step_counts[name]]
        if len(absent) == len(self.tasks):
            for parameter in parameters:
                parameter.grad = None
            return
        for name in absent:
            for parameter in self.network.own_parameters(name):
                parameter.grad = None
        if absent:
            groups = optimizer.param_groups
            self.network.update_absent(absent, {p: g["lr"] for g in groups for p in g["params"]})

    def _not_finite(self, results: list[MicroBatchResult]) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        tasks = dict(self.tasks.items())
        said = explain(results, tasks, self.network, data.labels.image_name)
        where = f"epoch {self.current_epoch}, step {self.global_step}: {said}"
        if self.on_non_finite == "stop":
            raise UserError(
                f"{where}; the weights are those from before this step. Look at these images and "
                f"labels, lower the learning rate, set trainer.gradient_clip_val, or "
                f"model.on_non_finite: skip_step"
            )
        self.skipped_steps += 1
        self.print(f"step skipped: {where}")
