"""The arguments of a command by kind, and what can be checked of them without importing torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mtl_lightning.commands import first_checks
from mtl_lightning.commands.keys import OF_COMMANDS, SECTIONS, TOP_LEVEL, check_names
from mtl_lightning.config import flags, yaml_io
from mtl_lightning.config.flags import deep_merge
from mtl_lightning.config.values import PlainScalar
from mtl_lightning.runs.folder import check_name, is_alias, requeued_checkpoint, resolve_checkpoint
from mtl_lightning.system.errors import UserError, did_you_mean

OTHERS = ("print_config", "help")
"""Options that LightningCLI adds."""


@dataclass(frozen=True)
class CommandLine:
    """The arguments of a command, by kind.

    Attributes:
        files: The configs.
        given: The merged configs, with top-level keys from flags.
        named: Whether a flag gives the name of the run.
        only: The tasks to keep.
        overrides: Options that change a section of the config, with their values.
        rest: Other options, which LightningCLI handles.
        export_weights: The file for a balancing's average weights.
        grow: Whether the network of the checkpoint takes on tasks or classes.
    """

    files: list[str]
    given: dict[str, Any]
    named: bool
    only: list[str]
    overrides: list[tuple[str, str]]
    rest: list[str]
    export_weights: Path | None
    grow: bool = False

    @classmethod
    def parse(cls, command: str, arguments: list[str]) -> "CommandLine":
        """Read the configs and divide the arguments.

        Raises:
            UserError: If a config cannot be read, or an option has no value.
        """
        files, rest = flags.pop_options(arguments, ("-c", "--config"))
        given: dict[str, Any] = {}
        for file in files:
            given = deep_merge(given, yaml_io.load(Path(file)))
        only, rest = flags.pop_list(rest, "--only")
        exports, rest = flags.pop_options(rest, ("--export-weights",))
        if exports and command != "fit":
            raise UserError(f"--export-weights: {command} balances nothing; it is for fit")
        grow, rest = "--grow" in rest, [argument for argument in rest if argument != "--grow"]
        typed: dict[str, Any] = {}
        for key in ("name", "ckpt_path", "weights_only"):
            values, rest = flags.pop_options(rest, (f"--{key}",))
            if values:
                typed[key] = values[-1]
        if grow and (command != "fit" or "ckpt_path" not in given | typed):
            raise UserError(
                "--grow: it is for fit with --ckpt_path: the checkpoint of the network to grow"
            )
        if command == "predict":
            rest = _with_value(rest, "--resume")
            values, rest = flags.pop_options(rest, ("--intensity",))
            typed |= {"intensity": yaml_io.parse(values[-1])} if values else {}
        slices: list[str] = []
        if command in ("test", "validate"):
            slices, rest = flags.pop_list(rest, "--slices")
        overrides, rest = flags.pop_overrides(rest, SECTIONS)
        if slices:
            overrides.append(("--data.slices", yaml_io.dump(slices)))
        export = Path(exports[-1]) if exports else None
        return cls(files, given | typed, "name" in typed, only, overrides, rest, export, grow)

    def run_name(self, given: Mapping[str, Any]) -> str:
        """Return the name of the run, empty if nothing gives one.

        Args:
            given: The merged configs, checked or not.

        Raises:
            UserError: If it is not that of one folder.
        """
        name = str(given.get("name") or (Path(self.files[0]).stem if self.files else ""))
        check_name(name)
        if self.only and name and not self.named:
            return "-".join([name, "only", *self.only])  # separate from the run of all tasks
        return name


def check(command: str, arguments: list[str], options: Iterable[str] = ()) -> CommandLine:
    """Find mistakes that need no imports to be found, by rules that hold later, too.

    Args:
        command: The command.
        arguments: Its arguments, without its own options.
        options: The names of the own options of a command without a Trainer.

    Returns:
        The arguments by kind, whose configs need not be read again.

    Raises:
        UserError: For the first of them.
    """
    line = CommandLine.parse(command, arguments)
    given = line.given
    check_names(command, given)
    check_weights_only(given)
    check_options(command, line.rest, options)
    scalars = (str, PlainScalar, type(None))
    if all(isinstance(given.get(key), scalars) for key in ("name", "ckpt_path")):
        root = root_folder(given, line.overrides)
        checkpoint = find_checkpoint(command, given, root, line.run_name(given))
        typed = any(option.startswith("--tasks") for option, _ in line.overrides)
        if checkpoint is None and not typed:
            check_has_tasks(given)
    whole = first_checks.overridden(given, line.overrides)
    if whole is not None:
        first_checks.check_class_names(whole, command)
        prints = any(argument.startswith("--print_config") for argument in line.rest)
        # Predict and export read no sources, and inspect lists what it finds.
        if command not in ("predict", "export", "inspect") and not prints:
            first_checks.check_files(whole)
    return line


def help_asked(arguments: list[str]) -> list[str]:
    """Return only the arguments for help: ``--help``, or ``--model.backbone.help VGG16``."""
    for number, argument in enumerate(arguments):
        if argument in ("-h", "--help"):
            return [argument]
        if argument.partition("=")[0].endswith(".help"):
            return arguments[number : number + 2]
    return []


def check_options(command: str, rest: list[str], options: Iterable[str]) -> None:
    """Check the names of the options that are left once those of the config are taken.

    Raises:
        UserError: For the first that no command has; LightningCLI checks those of sections.
    """
    names = (*SECTIONS, *TOP_LEVEL, *OF_COMMANDS[command], *OTHERS)
    for argument in rest:
        option = argument.partition("=")[0]
        if options:
            if not option.startswith("-"):
                raise UserError(f'"{option}": not expected here; options start with --')
            known = (*options, *(f"--{section}" for section in SECTIONS))
            raise UserError(f"{option}: no such option of {command}{did_you_mean(option, known)}")
        name, dot, below = option.removeprefix("--").partition(".")
        if option.startswith("--") and name.removesuffix("+") not in names:
            near = did_you_mean(option, [f"--{each}{dot}{below}" for each in names])
            raise UserError(f"{option}: no such option{near}")


def check_has_tasks(config: Mapping[str, Any]) -> None:
    """Raise a UserError if a config names no tasks."""
    if "tasks" not in config:
        raise UserError(
            "tasks are missing: give --config FILE that names them "
            "(configs/quickstart.yaml is one to start from)"
        )


def check_weights_only(given: Mapping[str, Any]) -> None:
    """Raise a UserError if a checkpoint may run code when it is read."""
    if str(given.get("weights_only")).lower() not in ("none", "null", "true"):
        raise UserError(
            f"weights_only should be true: a checkpoint is only read as plain values, so that it "
            f"cannot run code. Found {given['weights_only']}; leave it out"
        )


def root_folder(config: Mapping[str, Any], overrides: list[tuple[str, str]]) -> Path:
    """Return the folder of all runs."""
    typed = [text for option, text in overrides if option == "--trainer.default_root_dir"]
    folder = typed[-1] if typed else (config.get("trainer") or {}).get("default_root_dir")
    return Path(str(folder or "runs"))


def find_checkpoint(command: str, given: Mapping[str, Any], root: Path, name: str) -> Path | None:
    """Return the checkpoint that a command starts from: ``ckpt_path``, or a requeued job's."""
    spec = given.get("ckpt_path")
    if spec is not None:
        if not name and is_alias(str(spec)):
            raise UserError(f"ckpt_path {spec}: of which run? Give --name, or --config")
        return resolve_checkpoint(str(spec), root, name)
    if command == "fit":
        return requeued_checkpoint(root, name)
    if command in ("compare", "inspect", "pack"):
        return None
    raise UserError(f"{command} needs --ckpt_path: a checkpoint file, best or last")


def _with_value(arguments: Sequence[str], flag: str) -> list[str]:
    """Return the arguments, where a flag that has no value is true."""
    return [
        f"{flag}=true" if argument == flag and after not in ("true", "false") else argument
        for argument, after in zip_longest(arguments, arguments[1:])
    ]
