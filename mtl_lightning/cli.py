"""LightningCLI with our links, our run folder and short error messages."""

import os
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar, RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich import get_console

from mtl_lightning import config as configs
from mtl_lightning import reading
from mtl_lightning.callbacks.checkpoints import Best, Last
from mtl_lightning.callbacks.predictions import PredictionsFile, check_output
from mtl_lightning.callbacks.results_file import ResultsFile
from mtl_lightning.callbacks.saved_config import SavedConfig
from mtl_lightning.callbacks.tables import Tables
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.errors import UserError
from mtl_lightning.loggers import AppendingCSVLogger, EventsLogger
from mtl_lightning.messages import short_message
from mtl_lightning.module import MultiTask
from mtl_lightning.quiet import quieten
from mtl_lightning.runs import run_folder
from mtl_lightning.tasks import Task


class Parser(LightningArgumentParser):
    """A parser that takes no abbreviations and says what is wrong in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a one-line error instead of printing all usage."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(short_message(message, self._option_string_actions)) from ex


class MultiTaskCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of :class:`MultiTask`.

    Args:
        command: Which of them.
        prepared: What :func:`mtl_lightning.config.prepare` made of the command line.
    """

    def __init__(self, command: str, prepared: configs.Prepared) -> None:
        self.prepared = prepared
        self.run = run_folder(prepared.root, prepared.name, prepared.checkpoint)
        super().__init__(
            MultiTask,
            PartialLabels,
            save_config_callback=SavedConfig,
            save_config_kwargs={"run": self.run, "command": command},
            trainer_defaults={
                "use_distributed_sampler": False,  # our plan deals the rows out to ranks
                "enable_model_summary": False,  # one line of ours instead of a page
                "log_every_n_steps": 10,
            },
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=[
                command,
                "--config",
                reading.dump(prepared.config),
                *prepared.flags,
            ],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what stands beside model, data and trainer, and link what two of them need."""
        parser.add_argument("--tasks", type=dict[str, Task], required=True, help="the questions")
        parser.add_argument("--name", type=str, help="the run's name, by default the config's")
        parser.add_class_arguments(configs.CheckpointOptions, "checkpoint")
        parser.link_arguments("tasks", "model.tasks")
        parser.link_arguments("tasks", "data.tasks")
        parser.link_arguments("data.image_size", "model.image_size")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument("--images", type=str, help="a folder, a table, or a glob")
            parser.add_argument("--output", type=str, default="predictions.csv")
            parser.set_defaults({"return_predictions": False})  # they are written, not kept
        elif subcommand != "fit":
            parser.set_defaults({"verbose": False})  # our table is printed instead
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without Lightning's warning that ``sys.argv`` is there too."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: what the checkpoint remembers lies beneath the config already.

        (Lightning's own would let the checkpoint beat flags and config.)
        """

    def before_instantiate_classes(self) -> None:
        """Read the tables first, so that tasks know their classes before a head is built."""
        if self.subcommand != "fit":
            return
        config = self.config["fit"]
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(PartialLabels, "data")
        plain = yaml.safe_load(self._parser("fit").dump(config, skip_link_targets=False))
        data = parser.instantiate_classes(parser.parse_object({"data": plain["data"]})).data
        for task, known in data.complete_tasks().items():
            for tasks in (config.tasks, config.model.tasks, config.data.tasks):
                for key, value in known.items():
                    tasks[task].init_args[key] = value
        self._table = data.table

    def after_instantiate_classes(self) -> None:
        """Hand over what was read already, and the images to predict."""
        if self.subcommand == "fit":
            self.datamodule.table = self._table
        elif self.subcommand == "predict":
            config = self.config["predict"]
            if config.images is None:
                raise UserError(
                    "predict needs --images: a folder, a table with a column `image`, "
                    "or a glob such as 'photos/*.jpg'"
                )
            images = UnlabelledImages.find(config.images)
            output = Path(config.output)
            check_output(output)
            self.datamodule.to_predict = images
            callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            callbacks.append(PredictionsFile(images.names, output))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with our loggers and callbacks beside the config's own."""
        trainer = self._get(self.config_init, "trainer")
        callbacks = trainer["callbacks"] or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        show = trainer["enable_progress_bar"]
        if show is None:
            # Where nobody watches (a log file, a CI job) the tables say it better.
            show = get_console().is_terminal
        if show and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(RichProgressBar())
        return super().instantiate_trainer(
            **kwargs,
            callbacks=[*callbacks, *self._own_callbacks()],
            logger=self._loggers(trainer["logger"]),
            enable_progress_bar=show,
            default_root_dir=str(self.run),
        )

    def _own_callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = [Tables(self.run), ResultsFile(self.run)]
        if (
            self.subcommand == "fit"
            and self._get(self.config, "trainer").enable_checkpointing is not False
        ):
            options = self._get(self.config, "checkpoint")
            folder = self.run / "checkpoints"
            callbacks += [Best(folder, options.monitor, options.mode), Last(folder)]
        return callbacks

    def _loggers(self, given: Any) -> list[Logger] | Literal[False]:
        """Return the config's loggers and ours; only training writes curves."""
        if given is False or self.subcommand != "fit":
            return False
        version = self.run.name
        root, name = self.run.parent.parent, self.run.parent.name
        own = [
            AppendingCSVLogger(root, name, version),
            EventsLogger(root, name, version, default_hp_metric=False),
        ]
        theirs = [] if given in (None, True) else given if isinstance(given, list) else [given]
        return [*theirs, *own]


def run(command: str, arguments: list[str]) -> None:
    """Run one command.

    Raises:
        UserError: For anything the user can mend.
    """
    quieten()
    sys.path.insert(0, os.getcwd())  # own tasks and sources, from the current folder
    if {"-h", "--help"} & set(arguments):
        prepared = configs.Prepared({}, ["--help"], "run", Path("runs"), None)
    else:
        prepared = configs.prepare(command, arguments)
    try:
        MultiTaskCLI(command, prepared)
    except MisconfigurationException as error:
        raise UserError(" ".join(str(error).split())) from error
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        lines = [" ".join(line.split()) for line in str(error).splitlines()]
        raise UserError(
            f"checkpoint {prepared.checkpoint}: does not fit this network: {lines[1][:300]}"
        ) from error
