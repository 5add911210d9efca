"""The start of a command: arguments to a checked config, and the data of a config alone."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser, set_dumper

from mtl_lightning.commands.command_line import CommandLine
from mtl_lightning.commands.prepare import Prepared, prepare
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.config import import_path, yaml_io
from mtl_lightning.data.datamodule import PartialLabels


def set_up(arguments: list[str]) -> None:
    """Set up what every command needs before a config is read.

    Args:
        arguments: The command's arguments, which may name modules of the current folder.
    """
    quieten()
    set_dumper("yaml", yaml_io.dump)  # jsonargparse's own writes the text 1e3 as a number
    import_path.remove_cwd()
    import_path.add_cwd_for(arguments)


def build_data(config: Mapping[str, Any]) -> PartialLabels:
    """Build only the data module, from a prepared config."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PartialLabels, "data")
    plain = {**config.get("data", {}), "tasks": config["tasks"]}
    data: PartialLabels = parser.instantiate_classes(parser.parse_object({"data": plain})).data
    return data


def prepare_data(
    command: str, arguments: list[str], line: CommandLine
) -> tuple[Prepared, PartialLabels]:
    """Prepare a command that reads the data of a config, and trains nothing.

    Args:
        command: Its name.
        arguments: Its arguments, without its own options.
        line: What `command_line.check` returned for them.

    Raises:
        UserError: If the config is wrong.
    """
    set_up(arguments)
    prepared = prepare(command, arguments, line)
    return prepared, build_data(prepared.config)
