"""``mtl-lightning export``: a trained network in a format that runs elsewhere."""

import sys
from pathlib import Path
from typing import Any

from mtl_lightning.system.errors import UserError

HELP = """usage: mtl-lightning export --ckpt_path best --name RUN --output FOLDER [options]

Writes a trained network into a new folder, with its preprocessing (it takes uint8 images, and
columns as they are in tables) and its answers (probabilities with their class names, numbers in the
label's own unit). The result is compared with PyTorch; if it differs, nothing is written.

options:
  --ckpt_path FILE    a checkpoint, or best or last of the run
  --name RUN          the name of the run
  --config FILE       instead of --name; needed for classes of your own
  --output FOLDER     the new folder
  --format FORMAT     onnx (default), safetensors, or torch (torch.export's .pt2)
  --tasks TASK...     export only these tasks
  --images FOLDER     also compare on up to 64 of these images: a folder, table, glob or file; for
                      a network that reads columns, on rows of a table
  -h, --help          print this
"""
OPTIONS = (
    *("--config", "--output", "--format", "--tasks", "--images", "--help", "--name"),
    "--ckpt_path",
)
MOST_IMAGES = 64


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If an option is wrong, or the network cannot be exported.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.commands import command_line
    from mtl_lightning.config import flags
    from mtl_lightning.inference.names import check_format

    tasks, rest = flags.pop_list(arguments, "--tasks")
    values: dict[str, str] = {}
    for option in ("--output", "--format", "--images"):
        found, rest = flags.pop_options(rest, (option,))
        if found:
            values[option] = found[-1]
    kind = values.get("--format", "onnx")
    check_format(kind)
    if "--output" not in values:
        raise UserError("export needs --output: the folder to write")
    command_line.check("export", rest, OPTIONS)
    return _export(rest, Path(values["--output"]), kind, tasks, values.get("--images"))


def _export(
    arguments: list[str], folder: Path, kind: str, tasks: list[str], spec: str | None
) -> int:
    # From here on torch is needed, which takes seconds to import.
    from rich import get_console

    from mtl_lightning.commands.command_line import CommandLine, find_checkpoint, root_folder
    from mtl_lightning.commands.common import set_up
    from mtl_lightning.config import import_path, untrusted
    from mtl_lightning.data.unlabelled import UnlabelledImages
    from mtl_lightning.inference.description import Description
    from mtl_lightning.inference.exporting import export
    from mtl_lightning.models.inputs import IMAGE

    set_up(arguments)
    line = CommandLine.parse("export", arguments)
    import_path.add_cwd_for(line.given)
    root = root_folder(line.given, line.overrides)
    checkpoint = find_checkpoint("export", line.given, root, line.run_name(line.given))
    assert checkpoint is not None  # it is an error otherwise
    trusted = untrusted.imported_modules(line.given)
    given: list[Any] = []
    if spec is not None:
        inputs = Description.of_checkpoint(checkpoint, trusted).built_inputs()
        found = UnlabelledImages.find(spec, inputs=inputs)
        given = list(found.paths[:MOST_IMAGES])
        if inputs:
            given = [
                {name: found.inputs[name][row] for name in inputs} | {IMAGE: path or None}
                for row, path in enumerate(given)
            ]
    result = export(checkpoint, folder, kind, tasks, given, trusted)
    get_console().print(
        f"written: {folder} ({kind}; largest difference from PyTorch {result.difference:.1e} on "
        f"{result.compared} inputs)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0
