"""``mtl-lightning compare``: is one network for all tasks better than one for each?"""

import sys
from pathlib import Path
from typing import Any

from mtl_lightning.system.errors import UserError
from mtl_lightning.system.stopping import stoppable

HELP = """usage: mtl-lightning compare --config FILE [--KEY VALUE ...] --output FOLDER [options]

Trains the network of a config, a network for each of its tasks alone, and variants of the config,
each with every seed on the same images, splits and masks; measures all of them; and says which
differences exceed the noise of seeds and images. Killed, it continues when called again.

options:
  --config FILE       the config that `fit` takes; several are merged
  --KEY VALUE         changes a key of it, as for `fit`: --trainer.max_epochs 10
  --output FOLDER     where runs, logs and tables are kept
  --seeds N...        the seeds (default 1 2 3); more may be added later
  --variants FILE     YAML of named changes of the config: `uw: {model: {balancing: UW}}`; without
                      --single-tasks they are compared with the config itself
  --single-tasks      also train a network for each task (the default without --variants)
  --split NAME        val or test (default test); make choices on val
  --metrics NAMES     primary or all (default primary)
  --jobs N            trainings at a time (default 1)
  -h, --help          print this

written to FOLDER: comparison.csv, comparison.md, comparison.tex; runs/ with every run

exit status: 0 if all was compared, 2 if not
"""
OPTIONS = (
    "--config",
    "--output",
    "--seeds",
    "--variants",
    "--single-tasks",
    "--split",
    "--metrics",
    "--jobs",
    "--help",
)


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If the config or an option is wrong, or a training fails.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.commands.comparison.members import check_seeds, read_variants
    from mtl_lightning.config import flags

    seeds, rest = flags.pop_list(arguments, "--seeds")
    output, rest = _option(rest, "--output", "")
    variants, rest = _option(rest, "--variants", "")
    split, rest = _option(rest, "--split", "test", ("val", "test"))
    metrics, rest = _option(rest, "--metrics", "primary", ("primary", "all"))
    jobs, rest = _option(rest, "--jobs", "1")
    if not output:
        raise UserError("compare needs --output: the folder for its runs and tables")
    if not jobs.isdecimal() or not int(jobs):
        raise UserError(f"--jobs should be a whole number above 0. Found {jobs}")
    if any(option.partition("=")[0] == "--only" for option in rest):
        raise UserError("--only: compare trains each task alone by itself; leave it out")
    numbers = check_seeds(seeds or ["1", "2", "3"])
    changes = read_variants(Path(variants)) if variants else {}
    single = "--single-tasks" in rest or not changes
    rest = [argument for argument in rest if argument != "--single-tasks"]
    with stoppable("stopped; the same command continues"):
        return _compare(
            rest, Path(output), numbers, changes, single, split, metrics == "all", int(jobs)
        )


def _option(
    arguments: list[str], name: str, default: str, allowed: tuple[str, ...] = ()
) -> tuple[str, list[str]]:
    from mtl_lightning.config import flags

    values, rest = flags.pop_options(arguments, (name,))
    value = values[-1] if values else default
    if allowed and value not in allowed:
        raise UserError(f"{name} should be {' or '.join(allowed)}. Found {value}")
    return value, rest


def _compare(
    arguments: list[str],
    output: Path,
    seeds: list[int],
    variants: dict[str, dict[str, Any]],
    single_tasks: bool,
    split: str,
    all_metrics: bool,
    jobs: int,
) -> int:
    from rich.console import Console

    from mtl_lightning.commands import command_line
    from mtl_lightning.commands.common import set_up
    from mtl_lightning.commands.comparison.members import members
    from mtl_lightning.commands.comparison.running import DRAWS, Runner
    from mtl_lightning.commands.prepare import prepare
    from mtl_lightning.reports import comparison as views
    from mtl_lightning.runs.comparison import Comparison
    from mtl_lightning.system.files import atomic_write

    set_up(arguments)
    for name in ("name", "ckpt_path"):
        if any(option.partition("=")[0] == f"--{name}" for option in arguments):
            raise UserError(
                f"--{name}: compare names and begins its trainings itself; leave it out"
            )
    line = command_line.check("compare", arguments, OPTIONS)
    tasks = list(prepare("fit", arguments, line).config["tasks"])
    trainings = members(arguments, tasks, seeds, variants, single_tasks, output)
    for member in trainings[: len(trainings) // len(seeds)]:  # the variants, with the first seed
        try:
            prepare("fit", list(member.arguments))
        except UserError as error:
            raise UserError(f"{member.variant}: {error}") from error
    progress = Console(stderr=True, highlight=False)
    runner = Runner(output, split, progress.print)
    results: dict[str, list[dict[str, Any]]] = {}
    for member, found in runner.run(trainings, jobs).items():
        results.setdefault(member.variant, []).append(found)
    rows = Comparison(results, single_tasks).rows(all_metrics)
    caption = views.caption(split, seeds, DRAWS)
    files = {
        "csv": views.csv(rows),
        "md": f"{views.markdown(rows)}\n{caption}\n",
        "tex": views.latex(rows),
    }
    for suffix, text in files.items():
        with atomic_write(output / f"comparison.{suffix}") as file:
            file.write(text)
    console = Console(highlight=False)
    console.print(views.table(rows))
    console.print(caption, markup=False)
    console.print(f"written: {output}/comparison.csv, .md, .tex", markup=False)
    return 0
