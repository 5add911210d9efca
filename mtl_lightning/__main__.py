"""The entry point: lists and dispatches commands, importing nothing heavy before it is needed."""

import importlib
import os
import sys

from mtl_lightning._version import __version__
from mtl_lightning.system.errors import (
    Stopped,
    UserError,
    did_you_mean,
    listed,
    one_line,
    os_errors_named,
)

COMMANDS = {
    "fit": "train a network:            mtl-lightning fit --config FILE",
    "validate": "measure it on val:          mtl-lightning validate --ckpt_path best --name RUN",
    "test": "measure it on test:         mtl-lightning test --ckpt_path best --name RUN",
    "predict": "answer for new images:      mtl-lightning predict --ckpt_path best --name RUN "
    "--images FOLDER",
    "inspect": "audit the data, untrained:  mtl-lightning inspect --config FILE --output FILE.html",
    "init": "propose a config:           mtl-lightning init TABLE_OR_FOLDER... --output FILE.yaml",
    "export": "write it for elsewhere:     mtl-lightning export --ckpt_path best --name RUN "
    "--output FOLDER",
    "compare": "one network or several:     mtl-lightning compare --config FILE --output FOLDER",
    "report": "a page about a run:         mtl-lightning report RUN --output FILE.html",
    "pack": "write data as shards:       mtl-lightning pack --config FILE --output FOLDER",
}
PLAIN_COMMANDS = ("compare", "export", "inspect", "init", "pack", "report")
"""Commands without a Trainer: one module of `commands` each."""
HELP = f"""mtl-lightning {__version__}: one network for many tasks, trained on partial labels

usage: mtl-lightning COMMAND [--config FILE] [--KEY VALUE ...]

commands:
{chr(10).join(f"  {name:<10}{text}" for name, text in COMMANDS.items())}

`mtl-lightning COMMAND --help` lists every option of a command, `--print_config` prints its config.
Any config key is an option too: --trainer.max_epochs 5 --data.batch_size 64 --tasks.TASK.weight 2
--debug (or MTL_LIGHTNING_DEBUG=1) shows the whole traceback of an error.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or os.environ.get("MTL_LIGHTNING_DEBUG", "0") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if command in ("-V", "--version"):
        sys.stdout.write(f"mtl-lightning {__version__}\n")
        return 0
    try:
        if command not in COMMANDS:
            raise UserError(
                f"no command {command}{did_you_mean(command, COMMANDS)}; known: {listed(COMMANDS)}"
            )
        if command in PLAIN_COMMANDS:
            module = importlib.import_module(f"mtl_lightning.commands.{command}")
            with os_errors_named():
                return int(module.run(arguments[1:]))
        from mtl_lightning.commands import command_line, predict_exported

        if command == "predict" and predict_exported.is_asked(arguments[1:]):
            with os_errors_named():
                return predict_exported.run(arguments[1:])
        line = None
        if not command_line.help_asked(arguments[1:]):
            with os_errors_named():
                line = command_line.check(command, arguments[1:])
        # From here on torch is needed, which takes seconds to import.
        from mtl_lightning.commands.trainer import run

        run(command, arguments[1:], line)
    except UserError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        return 2
    except Stopped as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # it is the same on every rank
            sys.stderr.write(f"{stop}\n")
        return 128 + stop.number
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning finishes the step, closes its files and exits from where it was interrupted.
        if not isinstance(error.__context__, KeyboardInterrupt) and isinstance(error, SystemExit):
            raise
        sys.stderr.write("interrupted\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
