"""Runs cases on two processes (gloo, CPU), all in one pair of them; a test's other half.

Each case is a function of this module's callers: its dotted name, with keyword arguments, called
on both ranks; what it returns on rank 0 comes back.
"""

import importlib
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

Case = tuple[str, dict[str, Any]]


def run(cases: list[Case], folder: Path) -> list[Any]:
    """Run the cases on two ranks and return what rank 0 gives for each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    (folder / "cases.pkl").write_bytes(pickle.dumps(cases))
    root = Path(__file__).resolve().parents[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", "-m", "tests.two_ranks", str(folder)],
            cwd=root,
            env=os.environ
            | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": port}
            | {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=400)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(outputs)
    results: list[Any] = pickle.loads((folder / "results.pkl").read_bytes())
    return results


def _main(folder: Path) -> None:
    from mtl_lightning.quiet import quieten

    quieten()
    results = []
    for name, arguments in pickle.loads((folder / "cases.pkl").read_bytes()):
        module, _, function = name.rpartition(".")
        results.append(getattr(importlib.import_module(module), function)(**arguments))
    if os.environ["LOCAL_RANK"] == "0":
        (folder / "results.pkl").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
