"""Members of a comparison as processes of ``fit`` and of an evaluation."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from mtl_lightning.commands.comparison.members import Member
from mtl_lightning.runs.folder import versions
from mtl_lightning.system.errors import UserError

DRAWS = 1000
"""Bootstrap samples of the images."""
COMMANDS = {"val": "validate", "test": "test"}
"""The command that measures a split."""


class Runner:
    """Trains and measures members that are not done yet.

    Args:
        output: The folder of the comparison.
        split: The split that is measured.
        say: Called with a line when a member is done.
    """

    def __init__(self, output: Path, split: str, say: Callable[[str], None]) -> None:
        self.output = output
        self.split = split
        self.say = say
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def results_file(self, member: Member) -> Path | None:
        """Return the file of a member's results, None if it is not done."""
        for run in versions(self.output / "runs", member.name):
            path = run / f"{self.split}_bootstrap.json"
            if path.is_file():
                return path
        return None

    def run(self, members: Sequence[Member], jobs: int) -> dict[Member, dict[str, Any]]:
        """Run what is left and return the results of each member.

        Raises:
            UserError: If one fails; others that are running are stopped.
        """
        self.say(f"{len(members)} trainings; their output is in {self.output / 'logs'}")
        left = [member for member in members if self.results_file(member) is None]
        done = len(members) - len(left)
        if done:
            self.say(f"{done} of them are done already")
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._train, member): member for member in left}
            try:
                for number, future in enumerate(as_completed(futures), done + 1):
                    minutes = future.result() / 60
                    self.say(
                        f"{number} of {len(members)}: {futures[future].name}, {minutes:.1f} min"
                    )
            except BaseException:
                self.stop()
                raise
        found = {}
        for member in members:
            path = self.results_file(member)
            assert path is not None
            found[member] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def stop(self) -> None:
        """Start nothing more, and stop what is running; its training continues in the next call."""
        self._stopped = True
        for process in list(self._processes):
            process.terminate()

    def _train(self, member: Member) -> float:
        """Train and measure a member and return the seconds that it took."""
        start = time.monotonic()
        last = [
            path
            for run in versions(self.output / "runs", member.name)
            if (path := run / "checkpoints" / "last.ckpt").is_file()
        ]
        resume = ["--ckpt_path", str(last[0])] if last else []
        self._process(member, ["fit", *member.arguments, *resume])
        root = str(self.output / "runs")
        trained = versions(self.output / "runs", member.name)[0] / "checkpoints"
        kept = "best" if (trained / "best.ckpt").is_file() else "last"  # without val, the last
        self._process(
            member,
            [
                *(COMMANDS[self.split], "--ckpt_path", kept, "--name", member.name),
                *("--trainer.default_root_dir", root, "--bootstrap", str(DRAWS)),
                *("--report", "false"),
            ],
        )
        return time.monotonic() - start

    def _process(self, member: Member, arguments: Sequence[str]) -> None:
        log = self.output / "logs" / f"{member.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._stopped:
            raise UserError(f"{member.name} was not started")
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "mtl_lightning", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "COLUMNS": "120"},
            )
            self._processes.add(process)
            try:
                status = process.wait()
            finally:
                self._processes.discard(process)
        if status:
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
            self._stopped = True
            raise UserError(
                f"{member.name}: {arguments[0]} ended with status {status} after "
                f"`{lines[-1] if lines else ''}`; all of it is in {log}"
            )
