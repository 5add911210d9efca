"""The LightningModule: what it is built from, its setup, its checkpoints and its optimizer."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.build import Method, make_balancer
from mtl_lightning.balancing.gradients.gradient_balancer import GradientsWrt
from mtl_lightning.config.restore import FromCheckpoint
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.resizing import image_shape
from mtl_lightning.inputs import Input
from mtl_lightning.inputs.base import specs_of, transformed
from mtl_lightning.models import (
    VGG16,
    Backbone,
    HeadOptions,
    NamedModules,
    Sharing,
)
from mtl_lightning.models.inputs import IMAGE, check_images
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.lightning_internals import (
    is_built_by_cli,
    load_checkpoint,
    trainer_of,
)
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.calibration import CALIBRATION, Calibration, read_calibrations
from mtl_lightning.tasks.network import build_network
from mtl_lightning.tasks.predictor import Predictor
from mtl_lightning.training.agreement import (
    check_checkpoint,
    check_data,
    check_inputs,
    check_known,
    described,
    described_inputs,
)
from mtl_lightning.training.feature_cache import FeatureCache
from mtl_lightning.training.growing import OUTPUTS, Growth
from mtl_lightning.training.losses import LossReduction
from mtl_lightning.training.measuring import EVALUATED, Measurements
from mtl_lightning.training.monitored import check_monitors, check_plateau_frequency
from mtl_lightning.training.parameters import parameter_groups
from mtl_lightning.training.protocol import Averages, LateTraining, multi_task
from mtl_lightning.training.refused_callbacks import check_callbacks
from mtl_lightning.training.resume import Resume
from mtl_lightning.training.schedule import check_length, configure_scheduler, given_arguments
from mtl_lightning.training.settings import (
    SETTINGS,
    changes_of_trainer,
    check_balancing,
    class_name,
    keep_settings,
    keep_settings_of_trainer,
    settings_of,
    settings_of_trainer,
)
from mtl_lightning.training.single_images import check_single_images
from mtl_lightning.training.steps import TrainingSteps, check_batch
from mtl_lightning.unlabelled import UnlabelledLearning

TASKS = "tasks"
"""The key of a checkpoint for the meaning of each task's outputs."""
INPUTS = "inputs"
"""The key of a checkpoint for the statistics and vocabularies of columns."""


def _adamw(parameters: Iterable[Any]) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-4)


def _check_assumptions(tasks: Mapping[str, Task]) -> None:
    assuming = [name for name, task in tasks.items() if task.assumes_labels]
    if assuming:
        raise UserError(
            f"unobserved should be ignore for task {assuming[0]}, since model.unlabelled guesses "
            f"the cells that it assumes; choose one of the two"
        )


class MultiTask(FromCheckpoint, TrainingSteps):
    """One network for many tasks, trained wherever there are labels.

    Args:
        tasks: The tasks by name.
        backbone: Maps inputs to features. Default: ``VGG16`` with ImageNet weights, max pooling.
        dropout: Share of the features that each head drops in training, unless its task sets
            another (``head``).
        head_hidden: Units of a hidden layer in each head, likewise; ``null`` for linear heads.
        sharing: How the tasks share the backbone. Default: ``Hard``, one for all.
        balancing: How the tasks' losses or gradients become one update. Default: the sum of the
            losses, each times its task's weight. See `mtl_lightning.balancing`.
        gradients: If the balancing reads gradients: with respect to the ``parameters`` that tasks
            share, or to the ``features`` they compute, at the price of a plain step.
        balance_every_n_steps: If it reads gradients: compute weights once in this many steps.
        unlabelled: How cells without a label are learned from. Default: not at all. See
            `mtl_lightning.unlabelled`.
        loss_reduction: ``labelled``: the loss of a task is the mean over its labelled rows in the
            step. ``batch``: the sum is divided by all rows of the step, as a mean over zero-filled
            labels does (the Keras recipe); rare tasks then weigh less. In a multi-label task, rows
            are cells, image by label.
        optimizer: Makes an optimizer from parameter groups. Default: AdamW, 1e-4.
        lr_scheduler: A torch scheduler; if ``total_steps`` or ``T_max`` is left out, it is the
            whole run and the rate changes each step. Given lengths are in epochs.
        backbone_lr_scale: The backbone's learning rate relative to the heads'.
        on_non_finite: What happens if a loss or gradient is infinite or NaN. ``stop``: an
            error that names task and images. ``skip_step``: the step is neither made nor measured.
        image_size: Height and width in pixels, or one number for both.
        inputs: The columns that the backbone reads, by name; those of the data.
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
        unlabelled: UnlabelledLearning | None = None,
        loss_reduction: LossReduction = "labelled",
        optimizer: OptimizerCallable = _adamw,
        lr_scheduler: LRSchedulerCallable | None = None,
        backbone_lr_scale: float = 1.0,
        on_non_finite: Literal["stop", "skip_step"] = "stop",
        image_size: int | list[int] = 128,
        inputs: dict[str, Input] | None = None,
    ) -> None:
        super().__init__()
        if is_built_by_cli():
            self.save_hyperparameters(logger=False)
        if not tasks:
            raise UserError("tasks should name at least one task. Found none")
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
        check_known(tasks)
        self.unlabelled = unlabelled if unlabelled is not None and unlabelled.active else None
        if self.unlabelled is not None:
            _check_assumptions(tasks)
        self.tasks = NamedModules(tasks)
        self.inputs = inputs or {}
        self.network = build_network(
            tasks,
            backbone or VGG16(),
            sharing,
            HeadOptions(dropout=dropout, hidden=head_hidden),
            image_shape(image_size),
            specs_of(self.inputs),
        )
        self.measured = Measurements(tasks, ())
        self.balancer: Balancer | None = None
        if balancing is not None:
            self.balancer = make_balancer(balancing, list(tasks), gradients, balance_every_n_steps)
        elif gradients != "parameters" or balance_every_n_steps != 1:
            raise UserError("gradients and balance_every_n_steps need a balancing; set one")
        self.loss_reduction = loss_reduction
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.backbone_lr_scale = backbone_lr_scale
        self._added_groups: dict[str, tuple[list[nn.Parameter], float]] = {}
        self.on_non_finite = on_non_finite
        self.uses_calibration = True
        """Whether the answers with a checkpoint are calibrated as it says."""
        self._begun = False
        self._growth: Growth | None = None  # until the training begins
        self._settings: dict[str, Any] = {}  # initial settings of optimizer and schedule
        self._loaded: dict[str, Any] = {}  # the checkpoint, until the optimizer is made

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``{task: (B, num_outputs)}``.

        Args:
            inputs: ``(B, 3, H, W)`` uint8 images, or all that the network reads, by name.

        Raises:
            UserError: See `check_images`.
        """
        inputs = {IMAGE: inputs} if isinstance(inputs, Tensor) else inputs
        if IMAGE in inputs:
            check_images(inputs[IMAGE])
        outputs: dict[str, Tensor] = self.network(inputs)
        return outputs

    def predictor(self) -> Predictor:
        """Return the network with the tasks' answers as its last layer, on the same weights."""
        return Predictor(self.network, self._tasks, partial(transformed, self.inputs))

    def set_calibration(self, found: Mapping[str, Calibration]) -> None:
        """Have the answers of these tasks calibrated, and measured as such; no others.

        Args:
            found: Task to its calibration.
        """
        before = {name: task.calibration for name, task in self.tasks.items()}
        for name, task in self.tasks.items():
            task.calibration = found.get(name)
        if any(task.calibration != before[name] for name, task in self.tasks.items()):
            self.measured = Measurements(self._tasks, self.measured).to(self.device)

    def setup(self, stage: str) -> None:
        """Check that the data have the same tasks.

        Before training, load pretrained weights and compute label statistics, unless a checkpoint
        has both.

        Raises:
            UserError: If the data have other tasks, or nothing can be learned from them.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        if isinstance(data, PartialLabels):
            check_data(self._tasks, data.tasks, stage == "predict")
            check_inputs(self.inputs, described_inputs(data.inputs), "data")
            data.provide_inputs(self.network.input_specs)
        elif stage == "fit":
            raise UserError(
                f"MultiTask should be trained with datamodule=PartialLabels(...), which counts the "
                f"labels of each step. Found {'none' if data is None else type(data).__name__}"
            )
        self.measured.include(self._tasks, EVALUATED.get(stage, ()))
        if stage != "fit":
            return
        if self.balancer is not None:
            self.balancer.check(self.trainer, self.network)
        if self.unlabelled is not None:
            self.unlabelled.check(self.trainer, self._tasks)
            data.include_unlabelled()
        if self._begun or self.trainer.ckpt_path is not None:
            return
        for name, task in self.tasks.items():
            targets = data.sample_targets(name) if task.loads_targets else []
            try:
                task.fit_statistics(*data.labels.training_labels(name))
                if task.loads_targets:
                    task.fit_targets(targets)
            except UserError as error:
                raise UserError(f"task {name}: {error}") from None
        if self._growth is None or self._growth.needs_pretrained(self.network):
            report = self.network.load_pretrained()
            if report is not None and self.trainer.is_global_zero:
                self.print(report)
        if self._growth is not None:
            self._grow(self._growth)
        self._begun = True

    def grow_from(self, path: str | Path) -> None:
        """Start the next training from a checkpoint whose tasks, or their classes, are fewer.

        Heads are copied by the names of their outputs; what is new starts afresh, as do optimizer
        and epochs. See `training.growing.Growth`. Columns that the network reads stay as they were.

        Args:
            path: The checkpoint.

        Raises:
            UserError: If it cannot be read, a task or class of it is missing or changed, it reads
                other columns, or nothing is new.
        """
        path = Path(path)
        checkpoint = load_checkpoint(path, map_location="cpu", weights_only=True)
        try:
            check_inputs(self.inputs, checkpoint.get(INPUTS, {}), "checkpoint")
        except UserError as error:
            raise UserError(
                f"--grow: {error}; a network grows by tasks and classes alone"
            ) from None
        own = {name: described(task) for name, task in self.tasks.items()}
        self._growth = Growth(self._tasks, own, checkpoint, str(path))

    def _grow(self, growth: Growth) -> None:
        """Load what is kept, and tell a callback that averages weights."""
        trainer: Any = self.trainer
        averaging = [each for each in trainer.callbacks if isinstance(each, Averages)]
        average = growth.load(self.network, averaged=bool(averaging))
        for each in averaging if average else ():
            each.continue_from(average, growth.updates)
        if trainer.is_global_zero:
            self.print(growth.line(bool(average)))
        self._growth = None

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that resume a training exactly and that cache features.

        Raises:
            UserError: If the trainer has a callback that cannot be used, before it does anything.
        """
        trainer: Any = self.trainer
        check_callbacks(trainer.callbacks)
        return [Resume(), FeatureCache()]

    def on_fit_start(self) -> None:
        """Start measuring, uncalibrated, and check that what is monitored is measured."""
        self.set_calibration({})
        super().on_fit_start()
        if self.unlabelled is not None:
            self.unlabelled.begin(self.network, self._tasks, self.trainer.is_global_zero)
        check_monitors(multi_task(self), self.trainer)

    def on_train_start(self) -> None:
        """Check before the first step whether schedule and batches fit the training."""
        check_length(self.trainer)
        check_plateau_frequency(self.trainer)
        trainer: Any = self.trainer
        unfreezes = any(isinstance(callback, LateTraining) for callback in trainer.callbacks)
        epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        check_single_images(self.network, trainer.datamodule.train_plan, unfreezes, epochs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note that weights and statistics are loaded."""
        self._begun = True
        if TASKS in checkpoint:
            check_checkpoint(self._tasks, checkpoint[TASKS])
        check_inputs(self.inputs, checkpoint.get(INPUTS, {}), "checkpoint")
        trainer: Any = trainer_of(self)  # none in load_from_checkpoint
        if trainer is None or trainer.state.fn != "fit":
            if self.uses_calibration:
                self.set_calibration(read_calibrations(checkpoint.get(CALIBRATION, {})))
            return
        self._loaded = checkpoint
        keep_settings_of_trainer(checkpoint, trainer)
        check_balancing(checkpoint, None if self.balancer is None else self.balancer.method.title)
        if self.balancer is not None:
            self.balancer.load_state_dict(checkpoint.get("balancing", {}))
        if self.unlabelled is not None:
            self.unlabelled.load_state_dict(checkpoint.get("unlabelled", {}))
        if "training_weights" not in checkpoint:
            return
        if not any(callback.state_key == "EMA" for callback in trainer.callbacks):
            raise UserError(
                "the checkpoint holds averaged weights: resume with the callback EMA that it was "
                "trained with, or training would continue from the average"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the meaning of outputs, the settings, and the state of balancing and guesses."""
        if self._settings:
            checkpoint[SETTINGS] = self._settings
        checkpoint[TASKS] = {name: described(task) for name, task in self.tasks.items()}
        checkpoint[OUTPUTS] = {name: list(t.output_names) for name, t in self.tasks.items()}
        if self.inputs:
            checkpoint[INPUTS] = described_inputs(self.inputs)
        if self.balancer is not None:
            checkpoint["balancing"] = self.balancer.state_dict()
        if self.unlabelled is not None:
            checkpoint["unlabelled"] = self.unlabelled.state_dict()
        calibrated = {n: t.calibration.plain() for n, t in self.tasks.items() if t.calibration}
        if calibrated:  # never in training, see `mtl_lightning.callbacks.calibrate`
            checkpoint[CALIBRATION] = calibrated

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the rows and, per task, the columns of its answers and the files of its maps."""
        check_batch(batch)
        outputs = self.network(batch.inputs)
        columns, files = {}, {}
        for name, task in self.tasks.items():
            answers = {k: a.cpu().numpy() for k, a in task.predict(outputs[name]).items()}
            columns[name] = task.columns(answers)
            files[name] = task.answer_suffix, task.encode_answers(answers)
        return {"rows": batch.rows.cpu().numpy(), "answers": columns, "files": files}

    def add_parameter_group(
        self, name: str, parameters: Sequence[nn.Parameter], lr_scale: float
    ) -> None:
        """Add a group to the optimizer that will be made.

        Args:
            name: The name of the group.
            parameters: Frozen parameters, which it would not get otherwise.
            lr_scale: Their learning rate relative to the backbone's.
        """
        others = {other: group for other, group in self._added_groups.items() if other != name}
        own = list(parameters), self.backbone_lr_scale * lr_scale
        self._added_groups = {name: own, **others}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer for trained parameters, heads and backbone with their own rates."""
        learned: list[nn.Parameter] = []
        if self.balancer is not None:
            self.balancer.begin(self.device, next(self.network.parameters()).dtype)
            learned = [p for own in self.balancer.method.parameters().values() for p in own]
        groups = parameter_groups(self.network, learned)
        lr_scales = {"backbone": self.backbone_lr_scale}
        for name, (parameters, lr_scale) in self._added_groups.items():
            groups.append({"name": name, "params": parameters})
            lr_scales[name] = lr_scale
        self._added_groups = {}
        optimizer = self.make_optimizer(groups)
        for group in optimizer.param_groups:
            if group["name"] in lr_scales:
                group["lr"] *= lr_scales[group["name"]]
        if self.make_lr_scheduler is None:
            self._keep_settings(settings_of(optimizer, None, {}))
            return optimizer
        scheduler = configure_scheduler(self.make_lr_scheduler, optimizer, self.trainer)
        given = given_arguments(self.make_lr_scheduler)
        self._keep_settings(settings_of(optimizer, class_name(scheduler["scheduler"]), given))
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _keep_settings(self, settings: dict[str, Any]) -> None:
        """Record the settings of this training, and apply them if one is resumed."""
        trainer: Any = trainer_of(self)  # none where the optimizer is made in Python
        settings["trainer"] = {} if trainer is None else settings_of_trainer(trainer)
        self._settings, loaded = settings, self._loaded
        self._loaded = {}
        changed = {
            "model.optimizer": keep_settings(loaded, settings),
            "trainer": changes_of_trainer(loaded, settings),
        }
        for owner, changes in changed.items():
            if changes and self.trainer.is_global_zero:
                self.print(
                    f"note: {owner}: {', '.join(changes)}, from this step on; the first is what "
                    f"the checkpoint was trained with"
                )
