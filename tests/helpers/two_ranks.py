"""Runs cases on two processes (gloo, CPU), all in one pair of them; a test's other half.

Each case is a function of this module's callers: its dotted name, with keyword arguments, called
on both ranks; what it returns on rank 0 comes back. To start the pair, which imports torch twice,
takes longer than most cases: it is kept for those of later tests.
"""

import atexit
import functools
import importlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

Case = tuple[str, dict[str, Any]]
PATIENCE = 400
"""Seconds that the cases of one call may take."""


class Pair:
    """Two processes that run cases until one of them fails."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        root = Path(__file__).resolve().parents[2]
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as they live
        self.ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "error::UserWarning", "-m", "tests.helpers.two_ranks"],
                cwd=root,
                env=os.environ
                | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
                | {"MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=self.output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        atexit.register(self.end)

    def run(self, cases: list[Case], folder: Path) -> list[Any]:
        """Run the cases, whose files go to an empty folder; see `run`."""
        (folder / "cases.pkl").write_bytes(pickle.dumps(cases))
        for rank in self.ranks:
            assert rank.stdin is not None
            print(folder, file=rank.stdin, flush=True)
        results = [folder / f"results_{rank}.pkl" for rank in range(2)]
        until = time.monotonic() + PATIENCE
        while not all(result.exists() for result in results):
            time.sleep(0.02)
            if any(rank.poll() is not None for rank in self.ranks) or time.monotonic() > until:
                self.end()
                self.output.seek(0)
                raise AssertionError(self.output.read()[-20_000:])
        found: list[Any] = pickle.loads(results[0].read_bytes())
        return found

    def end(self) -> None:
        """End both processes."""
        _pair.cache_clear()
        for rank in self.ranks:
            rank.kill()


@functools.cache
def _pair() -> Pair:
    return Pair()


def run(cases: list[Case], folder: Path) -> list[Any]:
    """Run the cases on two ranks and return what rank 0 gives for each."""
    return _pair().run(cases, folder)


def _main() -> None:
    from mtl_lightning.commands.quiet import quieten

    quieten()
    for line in sys.stdin:
        folder, rank = Path(line.rstrip("\n")), os.environ["LOCAL_RANK"]
        results = []
        for name, arguments in pickle.loads((folder / "cases.pkl").read_bytes()):
            module, _, function = name.rpartition(".")
            try:
                results.append(getattr(importlib.import_module(module), function)(**arguments))
            except BaseException:
                traceback.print_exc()
                sys.stdout.flush()
                os._exit(1)  # without waiting for the other
        part = folder / f"results_{rank}.part"
        part.write_bytes(pickle.dumps(results if rank == "0" else None))
        part.rename(folder / f"results_{rank}.pkl")


if __name__ == "__main__":
    _main()
