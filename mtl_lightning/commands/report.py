"""``mtl-lightning report``: a run as one page, to look at and to show."""

import os
import sys
from pathlib import Path

from mtl_lightning.system.errors import UserError, did_you_mean, listed

HELP = """usage: mtl-lightning report RUN [OTHER_RUN] [--output FILE.html]

Writes one page about a run: results of each task with plots, metrics and classes, the course of the
training, what was merged, how it was made. It needs no network and can be sent to anyone. With
another run, its results and the differences are shown, too. `test` writes the page unless
`report: false`.

arguments:
  RUN                 a run's folder, or its name: the newest of runs/RUN
  OTHER_RUN           a run to compare it with
  --output FILE.html  the page (default: report.html in the run's folder)
  -h, --help          print this

exit status: 0 if the page was written, 2 if not
"""
ROOT = Path("runs")


def run(arguments: list[str]) -> int:
    """Run the command and return the exit status.

    Raises:
        UserError: If there is no such run, or the file cannot be written.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    from mtl_lightning.config import flags

    outputs, rest = flags.pop_options(arguments, ("--output",))
    unknown = [argument for argument in rest if argument.startswith("-")]
    if unknown:
        raise UserError(f"{unknown[0]}: no such option of report; it has --output and --help")
    if len(rest) not in (1, 2):
        raise UserError(
            f"report needs the folder or name of a run, and at most one other. Found "
            f"{listed(rest) or 'none'}"
        )
    folders = [_folder(name) for name in rest]
    output = Path(outputs[-1]) if outputs else folders[0] / "report.html"
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise UserError(f"--output should be a name that ends in .html. Found {output}")
    return _write(folders, output)


def _folder(name: str) -> Path:
    """Return the folder of a run."""
    from mtl_lightning.runs.folder import versions
    from mtl_lightning.runs.run_file import FILE

    path = Path(name)
    if (path / FILE).is_file():
        return path
    below = versions(path.parent, path.name) or versions(ROOT, name)
    found = [folder for folder in below if (folder / FILE).is_file()]
    if found:
        return found[0]
    if path.is_dir():
        raise UserError(
            f"{name} should be a run's folder, which has a {FILE}. Found none; `fit` writes it"
        )
    known = sorted(each.name for each in ROOT.glob("*") if versions(ROOT, each.name))
    raise UserError(
        f"{name}: no such run{did_you_mean(os.path.basename(name), known)}; runs in {ROOT}: "
        f"{listed(known) or 'none'}"
    )


def _write(folders: list[Path], output: Path) -> int:
    # From here on torch is needed, which takes seconds to import.
    from mtl_lightning.reports.run_page import write_page
    from mtl_lightning.runs import run_file

    facts = [run_file.read(folder) for folder in folders]
    own = facts[0]
    assert own is not None  # `_folder` found its file
    write_page(output, folders[0], own, facts[1] if len(facts) > 1 else None)
    sys.stdout.write(f"written: {output} ({output.stat().st_size / 1e6:.1f} MB)\n")
    return 0
