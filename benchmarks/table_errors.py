"""Time and memory until an error in the last of a million rows is reported.

    python benchmarks/table_errors.py [--rows 1000000] [--only 3] [--folder FOLDER]

A CSV file of a million rows (image, type, price, tags, split, group) about a million files in a
thousand folders; the files are empty, since none is opened. Each kind of error is put into the last
row, one after the other, and the table is read as by `fit` before training: rows, files, splits and
labels of all tasks. MiB is the peak memory of a separate process, above that of its imports and the
size of the file. Making the files takes about a minute and a million inodes in the system's folder
of temporary files; `--folder` keeps them for the next time. Exits with 1 if an error is not
reported with its row, or a target is missed: under 10 s, and under 1 GiB above the table. Linux
only.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import runs
from rich.console import Console
from rich.table import Table

from mtl_lightning import (
    Classification,
    MultiLabel,
    PartialLabels,
    Regression,
    TableSource,
)
from mtl_lightning.system.errors import UserError, short

MOST_SECONDS, MOST_MIB = 10, 1024
FOLDERS = 1000
HEADER = "image,type,price,tags,split,group\n"
TYPES = ("Dress", "Shirt", "Shoes", "")
TAGS = ("hat", "hat;bag", "none", "")
SPLITS = ("train", "train", "val", "test", "")

KINDS: dict[str, str | bytes] = {
    "none": "{last},Dress,1,,train,",
    "unknown class": "{last},Hat,1,,train,",
    "NaN for a number": "{last},Dress,NaN,,train,",
    "text for a number": "{last},Dress,cheap,,train,",
    "unknown tag": "{last},Dress,1,hat;bgas,train,",
    "two labels of one image": "{first},Hat,1,,train,",
    "two splits of one image": "{first},,,,test,",
    "group in two splits": "{last},Dress,1,,test,g0",
    "unknown split": "{last},Dress,1,,trian,",
    "no such file": "none.jpg,Dress,1,,train,",
    "outside of the root": "../table.csv,Dress,1,,train,",
    "absolute path": "/etc/passwd,Dress,1,,train,",
    "link to elsewhere": "link,Dress,1,,train,",
    "URL": "https://example.com/a.jpg,Dress,1,,train,",
    "no path": ",Dress,1,,train,",
    "longer row": "{last},Dress,1,,train,,more",
    "unclosed quote": '{last},"Dress,1,,train,',
    "quote amid a cell": '{last},"Dress"x,1,,train,',
    "Latin-1": "{last},caf\xe9,1,,train,".encode("latin-1"),
    "NUL": "{last},\0,1,,train,",
    "million characters": "{last}," + "x" * 1_000_000 + ",1,,train,",
}
"""The last row by kind of error; all other rows are valid."""


def image(row: int) -> str:
    """Return the path of a row's image."""
    return f"{row % FOLDERS:03}/{row:07}.jpg"


def make_images(folder: Path, rows: int) -> None:
    """Make the files, and a link that leads out of the folder, unless they are there."""
    if (folder / "link").is_symlink() and (folder / image(rows - 1)).exists():
        return
    for number in range(FOLDERS):
        (folder / f"{number:03}").mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        os.close(os.open(folder / image(row), os.O_CREAT | os.O_WRONLY))
    (folder / "link").symlink_to("/etc/passwd")


def write(path: Path, rows: int, last: str | bytes) -> None:
    """Write the table, in which only the last row is wrong."""
    with path.open("wb") as file:
        file.write(HEADER.encode())
        for row in range(rows - 1):
            # A group is in one split, and an image has one label.
            unit = row // 5
            cells = (
                image(row),
                TYPES[row % 4],
                "" if row % 3 else f"{row % 9973 / 7:.2f}",
                TAGS[row * 7 // 3 % 4],
                SPLITS[unit % 5],
                f"g{unit}",
            )
            file.write(f"{','.join(cells)}\n".encode())
        line = last.encode() if isinstance(last, str) else last
        names = {b"{last}": image(rows - 1), b"{first}": image(0)}
        for name, meant in names.items():
            line = line.replace(name, meant.encode())
        file.write(line + b"\n")


def read(path: Path) -> str:
    """Read the table as `fit` does before training; return the message."""
    data = PartialLabels(
        {
            "type": Classification(["Dress", "Shirt", "Shoes"]),
            "price": Regression(),
            "tags": MultiLabel(["hat", "bag"]),
        },
        {"shop": TableSource(path)},
    )
    try:
        data.setup("fit")
    except UserError as error:
        return str(error)
    return "nothing is wrong"


def measured(work: Callable[[], str], answer: Connection) -> None:
    """Do the work; send its message, elapsed and CPU seconds, and peak MiB."""
    before, start, cpu = runs.peak_mib(), time.perf_counter(), time.process_time()
    message = work()
    now = time.perf_counter()
    answer.send((message, now - start, time.process_time() - cpu, runs.peak_mib() - before))


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", type=int, help="the number of one kind of error, from 0")
    parser.add_argument("--folder", help="for the files, which are kept")
    given = parser.parse_args()
    fork = multiprocessing.get_context("fork")
    chosen = list(KINDS) if given.only is None else [list(KINDS)[given.only]]
    table = Table("error in the last row", "s", "cpu s", "MiB", "message")
    worst_time = worst_memory = 0.0
    reported = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(given.folder or folder, "images", "table.csv")
        make_images(path.parent, given.rows)
        for kind in chosen:
            write(path, given.rows, KINDS[kind])
            size = path.stat().st_size / 2**20
            receive, send = fork.Pipe(duplex=False)
            process = fork.Process(target=measured, args=(lambda: read(path), send))
            process.start()
            message, seconds, cpu, peak = receive.recv()
            process.join()
            reported &= kind == "none" or f"row {given.rows + 1}" in message
            worst_time, worst_memory = max(worst_time, seconds), max(worst_memory, peak - size)
            message = message.replace(f"{path.parent}/", "").replace(f"{path.parent}", "its folder")
            numbers = (f"{seconds:.1f}", f"{cpu:.1f}", f"{peak - size:.0f}")
            table.add_row(kind, *numbers, short(message, 90))
    console = Console(width=140)
    console.print(table)
    reached = reported and worst_time < MOST_SECONDS and worst_memory < MOST_MIB
    outcome = "reached" if reached else "MISSED"
    console.print(
        f"{len(chosen)} kinds in {given.rows:,} rows of {size:.0f} MiB: at most {worst_time:.1f} s "
        f"and {worst_memory:.0f} MiB above the table; targets {outcome}: "
        f"under {MOST_SECONDS} s and {MOST_MIB} MiB, each reported with its row ({runs.load()})"
    )
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
