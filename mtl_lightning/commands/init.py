"""``mtl-lightning init``: a config proposed from tables and folders."""

import os
import shlex
import sys
import tempfile
from pathlib import Path

from mtl_lightning.system.errors import UserError, did_you_mean, one_line

HELP = """usage: mtl-lightning init TABLE_OR_FOLDER... [--task COLUMN] [--tasks COLUMN...]
                          [--output FILE.yaml]

Looks at tables (CSV, TSV, JSON Lines, Parquet) and folders (a folder a class; train, val and test
with a folder a class in each; a folder of tables) and proposes a config: tasks with their classes,
sources, splits, image size, weights for rare classes. The config runs as it is, and its comments
name alternatives. Columns that are not a task are left out, and listed.

options:
  --task COLUMN       make a task of a column that would be left out, or be taken for groups; may be
                      given several times
  --tasks COLUMN...   the same for several columns. For a table without images, these are the tasks,
                      and its other columns become inputs of the network
  --output FILE.yaml  write the config there; an existing file is never overwritten. Without it
                      the config is printed
  -h, --help          print this

exit status: 0 if a config was proposed, 2 if not
"""
OPTIONS = ("--output", "--task", "--tasks", "--help")
SUFFIXES = (".yaml", ".yml")


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If nothing can be proposed, or the output file exists.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.config import flags
    from mtl_lightning.system.files import check_exists

    outputs, rest = flags.pop_options(arguments, ("--output",))
    as_tasks, rest = flags.pop_options(rest, ("--task",))
    several, paths = _several(rest)
    as_tasks += several
    output = Path(outputs[-1]) if outputs else None
    if output is not None:
        _check(output)
    for path in paths:
        if path.startswith("-"):
            option = path.partition("=")[0]
            raise UserError(f"{option}: no such option of init{did_you_mean(option, OPTIONS)}")
    if not paths:
        raise UserError("init needs a table or a folder: mtl-lightning init types.csv photos/")
    for path in paths:
        check_exists(os.path.expanduser(path))
    return _propose(paths, as_tasks, output)


def _several(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the columns of ``--tasks``, and the other arguments."""
    columns: list[str] = []
    others: list[str] = []
    taking = False
    for argument in arguments:
        if argument == "--tasks":
            taking = True
        elif argument.startswith("-"):
            taking = False
            others.append(argument)
        else:
            (columns if taking else others).append(argument)
    return columns, others


def _check(output: Path) -> None:
    if output.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output should be a name that ends in {SUFFIXES[0]}. Found {output}")
    if os.path.lexists(output):
        raise UserError(
            f"--output should be a file that does not exist yet. Found {output}, which is never "
            "overwritten; give another name"
        )


def _propose(paths: list[str], as_tasks: list[str], output: Path | None) -> int:
    # From here on torch is needed, which takes seconds to import.
    from mtl_lightning.commands.common import set_up
    from mtl_lightning.commands.proposal.propose import propose
    from mtl_lightning.commands.proposal.writing import render

    set_up([])
    proposal = propose(paths, as_tasks)
    chosen = [text for name in as_tasks for text in ("--task", name)]
    typed = ["mtl-lightning", "init", *paths, *chosen]
    text = render(proposal, shlex.join(typed), str(output or "config.yaml"))
    messages = [f"left out: {where}: {why}" for where, why in proposal.left_out]
    messages += [f"note: {note}" for note in proposal.notes]
    refused = _refusal(text)
    if refused:
        messages.append(f"note: `fit` will refuse the data as they are: {refused}")
    if output is None:
        sys.stdout.write(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
        tasks = ", ".join(plan.name for plan in proposal.tasks)
        kind = "rows" if proposal.inputs else "images"
        sys.stdout.write(f"written: {output} ({proposal.images:,} {kind}; tasks {tasks})\n")
    for line in messages:
        sys.stderr.write(f"{one_line(line)}\n")
    return 0


def _refusal(text: str) -> str:
    """Return the error of ``fit`` about the data of a config, empty if there is none."""
    from mtl_lightning.commands.common import build_data
    from mtl_lightning.commands.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            build_data(prepare("fit", ["--config", str(path)]).config).setup("fit")
        except UserError as error:
            return str(error)
    return ""
