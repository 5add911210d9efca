"""Tables of a comparison: for the terminal, CSV, Markdown and LaTeX."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from mtl_lightning.runs.comparison import Row

COLUMNS = ("task", "metric", "variant", "value", "interval", "change", "noise", "verdict")
MEAN = "mean change"
COLOURS = {"better": "green", "worse": "red"}


def cells(row: Row) -> tuple[str, ...]:
    """Return the texts of a row, in the order of `COLUMNS`; empty where nothing is known."""
    value = "" if math.isnan(row.mean) else f"{row.mean:.4f}"
    if not math.isnan(row.spread):
        value += f" ± {row.spread:.4f}"
    change = noise = verdict = ""
    if row.change is not None:
        low, high = row.change.interval
        change = f"{row.change.percent:+.2f} % [{low:+.2f}, {high:+.2f}]"
        noise = "" if math.isnan(row.change.seeds) else f"± {row.change.seeds:.2f} %"
        verdict = row.change.verdict
    low, high = row.interval
    interval = "" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
    return (row.task or MEAN, row.metric, row.variant, value, interval, change, noise, verdict)


def caption(split: str, seeds: Sequence[int], draws: int) -> str:
    """Return what the columns mean, in a few sentences."""
    named = ", ".join(map(str, seeds))
    several = f"mean ± standard deviation over seeds {named}" if len(seeds) > 1 else f"seed {named}"
    return (
        f"On {split}. Value: {several}. Interval: 95 %, over {draws:,} bootstrap samples of the "
        "images. Change: in percent of the baseline (the first row of each task), above 0 is "
        "better; its interval is over the same samples in both. Noise: half the 95 % interval of "
        "the change over seeds (Welch's t). Better, worse: beyond both."
    )


def table(rows: Iterable[Row]) -> Table:
    """Return the table for the terminal: without columns that would not fit into 80 characters."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("variant", overflow="fold")
    for column in ("value", "change", "95 %"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold")
    before: Row | None = None
    for row in rows:
        if before is None or (before.task, before.metric) != (row.task, row.metric):
            if before is not None:
                shown.add_section()
            shown.add_row(f"[bold]{escape(row.task or MEAN)}[/]", f"[bold]{row.metric}[/]")
        _, _, variant, value, _, change, _, verdict = map(escape, cells(row))
        number, unit, interval = change.partition(" % ")
        style = COLOURS.get(verdict, "dim")
        shown.add_row(variant, value, number + unit, interval, f"[{style}]{verdict}[/]")
        before = row
    return shown


def csv(rows: Iterable[Row]) -> str:
    """Return all numbers, unrounded, as CSV."""
    plain = []
    for row in rows:
        entry = {
            "task": row.task,
            "metric": row.metric,
            "variant": row.variant,
            "mean": row.mean,
            "std_over_seeds": row.spread,
            "low": row.interval[0],
            "high": row.interval[1],
        }
        if row.change is not None:
            entry |= {
                "change_percent": row.change.percent,
                "change_low": row.change.interval[0],
                "change_high": row.change.interval[1],
                "noise_of_seeds_percent": row.change.seeds,
                "verdict": row.change.verdict,
            }
        plain.append(entry)
    text: str = pd.DataFrame(plain).to_csv(index=False)
    return text


def markdown(rows: Iterable[Row]) -> str:
    """Return the table in Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(cells(row) for row in rows)]
    return "".join(
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |\n" for line in lines
    )


def latex(rows: Iterable[Row]) -> str:
    """Return the table in LaTeX, with the rules of booktabs."""
    frame = pd.DataFrame([cells(row) for row in rows], columns=list(COLUMNS))
    style = frame.style.hide(axis="index").format(escape="latex")
    text: str = style.to_latex(hrules=True, column_format="lll" + "r" * 4 + "l")
    return text.replace("±", r"$\pm$")
