"""LightningCLI with our links, our run folder and short error messages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import CheckpointIO
from rich import get_console

from mtl_lightning.callbacks.bad_images import BadImagesFile
from mtl_lightning.callbacks.bar import Bar
from mtl_lightning.callbacks.bootstrap import Bootstrap
from mtl_lightning.callbacks.calibrate import Calibrate
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.callbacks.gallery import Gallery
from mtl_lightning.callbacks.importance import Importance
from mtl_lightning.callbacks.plots import Plots
from mtl_lightning.callbacks.predictions import PredictionsFile
from mtl_lightning.callbacks.report_page import ReportPage
from mtl_lightning.callbacks.results_file import ResultsFile
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.callbacks.saved_config import SavedConfig
from mtl_lightning.callbacks.signals import Signals
from mtl_lightning.callbacks.slices import Slices
from mtl_lightning.callbacks.tables import Tables
from mtl_lightning.callbacks.weights_file import WeightsFile
from mtl_lightning.commands.command_line import CommandLine, help_asked
from mtl_lightning.commands.common import build_data, set_up
from mtl_lightning.commands.library_errors import as_user_error, reason
from mtl_lightning.commands.parser import Parser
from mtl_lightning.commands.prepare import Prepared, prepare
from mtl_lightning.commands.schema import CalibrationOptions, CheckpointOptions
from mtl_lightning.config import yaml_io
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.inference.predictions.table import PredictionTable, check_output, digest
from mtl_lightning.runs import processes
from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO
from mtl_lightning.runs.claim import Claim, claim
from mtl_lightning.runs.loggers import EventsLogger, ResumableCSVLogger
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Task
from mtl_lightning.training.module import MultiTask


class MultiTaskCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of :class:`MultiTask`.

    Args:
        command: Its name.
        prepared: Its command line, see :func:`mtl_lightning.commands.prepare.prepare`.
        run: The folder to write to.
    """

    def __init__(self, command: str, prepared: Prepared, run: Path) -> None:
        self.command = command
        self.prepared = prepared
        self.run = run
        super().__init__(
            MultiTask,
            PartialLabels,
            save_config_callback=SavedConfig,
            save_config_kwargs={"run": self.run, "command": command},
            trainer_defaults={
                "use_distributed_sampler": False,  # our plan assigns rows to ranks
                "enable_model_summary": False,  # one line of ours instead of a page
                "log_every_n_steps": 10,
            },
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=[
                command,
                "--config",
                yaml_io.dump(prepared.config),
                *prepared.flags,
            ],
        )

    # It is static there, but always called on the instance.
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return only the command that is run: the options of each take 0.1 s to add."""
        return {self.command: super().subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys next to model, data and trainer, and link values that two sections need."""
        parser.add_argument(
            "--tasks", type=dict[str, Task], required=True, help="the tasks by name"
        )
        parser.add_argument("--name", type=str, help="the run's name, by default the config's")
        parser.add_argument(
            "--report",
            type=bool,
            default=True,
            help="write report.html, a page about the run, at the end of test",
        )
        parser.add_class_arguments(CheckpointOptions, "checkpoint")
        parser.add_class_arguments(CalibrationOptions, "calibration")
        parser.link_arguments("tasks", "model.tasks")
        parser.link_arguments("tasks", "data.tasks")
        parser.link_arguments("data.image_size", "model.image_size")
        parser.link_arguments("data.inputs", "model.inputs")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument("--images", type=str, help="a folder, a table, or a glob")
            parser.add_argument("--output", type=str, default="predictions.csv")
            parser.add_argument(
                "--resume",
                type=bool,
                default=False,
                help="go on where the same command has ended",
            )
            parser.add_argument(
                "--allow_outside_root",
                type=bool,
                default=False,
                help="images may be outside the given folder or the table's folder",
            )
            parser.add_argument(
                "--intensity",
                type=Intensity | None,
                help="the values of the image files that are black and white, as in a source; by "
                "default as in training",
            )
            parser.set_defaults({"return_predictions": False})  # they are written, not kept
        elif subcommand != "fit":
            parser.set_defaults({"verbose": False})  # our table is printed instead
            parser.add_argument(
                "--bootstrap",
                type=NonNegativeInt,
                default=0,
                help="write the metrics over so many bootstrap samples of the images",
            )
            parser.add_argument(
                "--importance",
                type=NonNegativeInt,
                default=0,
                help="shuffle each column that the network reads so many times, and record how far "
                "the primary metrics drop",
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about ``sys.argv``."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: the config has been merged into the checkpoint's.

        (Lightning's own lets the checkpoint override flags and config.)
        """

    def before_instantiate_classes(self) -> None:
        """Read the tables first: tasks and inputs are known before a network is built."""
        if self.subcommand != "fit":
            return
        config, data = self.config["fit"], build_data(self.prepared.config)
        for task, known in data.labels.infer_classes().items():
            for tasks in (config.tasks, config.model.tasks, config.data.tasks):
                for key, value in known.items():
                    tasks[task].init_args[key] = value
        for name, known in data.labels.learn_inputs().items():
            for inputs in (config.model.inputs, config.data.inputs):
                for key, value in known.items():
                    inputs[name].init_args[key] = value
        self._table = data.labels.table

    def instantiate_classes(self) -> None:
        """Build the objects, with an error of one line for one that cannot be built."""
        try:
            super().instantiate_classes()
        except UserError:
            raise
        except Exception as error:
            raise UserError(reason(error)) from error

    def after_instantiate_classes(self) -> None:
        """Pass on the data that was read, and the images to predict."""
        self.model.uses_calibration = self._get(self.config, "calibration").enabled
        if self.subcommand == "fit":
            self.datamodule.labels.reuse(self._table)
            if self.prepared.grow is not None:
                self.model.grow_from(self.prepared.grow)
        elif self.subcommand == "predict":
            config = self.config["predict"]
            if config.images is None:
                raise UserError(
                    "predict needs --images: a folder, a table with a column `image`, "
                    "or a glob such as 'photos/*.jpg'"
                )
            images = UnlabelledImages.find(
                config.images,
                config.allow_outside_root,
                self.datamodule.max_pixels,
                self.datamodule.inputs,
            )
            if self.trainer.is_global_zero:
                for note in images.notes:
                    get_console().print(
                        f"note: --images {config.images}: {note}", markup=False, highlight=False
                    )
            output = Path(config.output)
            check_output(output)
            intensity = self.config_init["predict"].intensity
            images = replace(images, intensity=intensity)
            self.datamodule.predict_on(images)
            callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            kind = "image" if images.has_image.any() else "row"
            of = {
                "cells": digest(images.cells()),
                "settings": f"{self.datamodule.size} {self.datamodule.resize} {intensity}",
            }
            table = PredictionTable(images.names, output, kind)
            callbacks.append(PredictionsFile(table, of, config.resume))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with our loggers and callbacks in addition to the config's."""
        trainer = self._get(self.config_init, "trainer")
        callbacks = trainer["callbacks"] or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        show = trainer["enable_progress_bar"]
        own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if show is None:
            # In a log file or a CI job, the tables are enough.
            show = own_bar or get_console().is_terminal
        if show and not own_bar:
            callbacks.append(Bar())
        try:
            return super().instantiate_trainer(
                **kwargs,
                callbacks=[*callbacks, *self._own_callbacks()],
                logger=self._loggers(trainer["logger"]),
                plugins=self._plugins(trainer["plugins"]),
                enable_progress_bar=show,
                default_root_dir=str(self.run),
            )
        except Exception as error:
            raise UserError(f"trainer: {reason(error)}") from error

    def after_fit(self) -> None:
        """Print a note if the run was over before it began."""
        trainer = self.trainer
        if "train/loss_step" not in trainer.callback_metrics and trainer.is_global_zero:
            get_console().print(
                f"[yellow]note:[/] nothing was trained: epoch {trainer.current_epoch} of "
                f"trainer.max_epochs {trainer.max_epochs}, step {trainer.global_step}",
                highlight=False,
            )

    def _own_callbacks(self) -> list[Callback]:
        checkpoints = None
        if (
            self.subcommand == "fit"
            and self._get(self.config, "trainer").enable_checkpointing is not False
        ):
            options = self._get(self.config, "checkpoint")
            checkpoints = Checkpoints(self.run / "checkpoints", **vars(options))
        evaluates = self.subcommand in ("validate", "test")
        importance = Importance(self._get(self.config, "importance")) if evaluates else None
        slices = Slices() if evaluates else None
        reports = self._get(self.config, "report")
        gallery = Gallery(enabled=reports) if evaluates else None
        recorder = RunRecorder(self.run, checkpoints, importance, slices, gallery)
        callbacks: list[Callback] = [
            *(each for each in (importance, slices, gallery) if each is not None),
            recorder,  # before those that show what it has recorded
            Tables(recorder),
            ResultsFile(self.run, slices),
            Plots(recorder),
            BadImagesFile(self.run),
        ]
        if evaluates:
            callbacks.append(Bootstrap(self.run, self._get(self.config, "bootstrap")))
        if evaluates and reports:
            callbacks.append(ReportPage(recorder))
        if self.subcommand != "fit":
            return callbacks
        calibration = self._get(self.config, "calibration")
        if calibration.enabled:
            callbacks.append(Calibrate(calibration.coverage))
        if checkpoints is not None:
            callbacks.append(checkpoints)
        if self.prepared.export_weights is not None:
            callbacks.append(WeightsFile(self.prepared.export_weights))
        return [Signals(self.run, checkpoints), *callbacks]

    def _plugins(self, given: Any) -> list[Any]:
        """Return the config's plugins, and ours for writing checkpoints unless there is one."""
        theirs = [] if given is None else given if isinstance(given, list) else [given]
        own = not any(isinstance(plugin, CheckpointIO) for plugin in theirs)
        return [*theirs, AtomicCheckpointIO()] if own else theirs

    def _loggers(self, given: Any) -> list[Logger] | Literal[False]:
        """Return the config's loggers and ours; only training writes curves."""
        if given is False or self.subcommand != "fit":
            return False
        version = self.run.name
        root, name = self.run.parent.parent, self.run.parent.name
        step = self.prepared.resumed_step
        own = [
            ResumableCSVLogger(root, name, version, step),
            EventsLogger(root, name, version, default_hp_metric=False, purge_step=step),
        ]
        theirs = [] if given in (None, True) else given if isinstance(given, list) else [given]
        return [*theirs, *own]


def run(command: str, arguments: list[str], line: CommandLine | None = None) -> None:
    """Run one command.

    Args:
        command: The command.
        arguments: Its arguments.
        line: What `command_line.check` returned for them, None if it has not been asked.

    Raises:
        UserError: For anything the user can fix.
    """
    set_up(arguments)
    asked = help_asked(arguments)
    if asked:
        prepared = Prepared({}, asked, "run", Path("runs"), None)
    else:
        prepared = prepare(command, arguments, line)
    claimed, failed = Claim(Path()), False  # a command that only prints needs no folder
    prints = asked or any(flag.startswith("--print_config") for flag in prepared.flags)
    try:
        if not prints:
            trains = command == "fit"
            claimed = claim(prepared.root, prepared.name, prepared.checkpoint, trains)
        processes.prepare(claimed.folder)
        MultiTaskCLI(command, prepared, claimed.folder)
    except Exception as error:
        failed = True
        final = processes.final_error(as_user_error(error, prepared.checkpoint))
        if final is error:
            raise
        raise final from error
    finally:
        claimed.end(failed)
