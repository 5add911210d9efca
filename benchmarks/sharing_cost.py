"""Cost of soft sharing of VGG16 relative to hard sharing: parameters, step time, peak memory.

    python benchmarks/sharing_cost.py [--threads 1 --clock cpu] [--rounds 2] [--steps 2]

64 px, batches of 32, 2 and 8 tasks of 10 classes, float32, AdamW; each image with a label of one
task, and each with labels of all. Every case is trained by `fit` (MultiTask and Trainer) in its
own process, hard and soft alternating, on prebuilt batches; the first step is not timed. The output
is medians over all steps, and their ratios soft / hard.

"peak" is the peak memory of the process (``ru_maxrss``), about 900 MB of which is Python, torch and
Lightning; "network" is the increase since just before the network was built: weights, gradients,
moments and activations.

If every image is labelled for one task, soft sharing runs as many images through backbones as hard
sharing, in smaller groups; with all labels, K times as many. K separate networks (`--only`) would
cost the same without the penalty.

If other programs run on the machine: ``--threads 1 --clock cpu`` counts CPU time of one thread,
which they disturb least.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import runs
import torch
from noise import built_before, tasks_of
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from step_overhead import CLOCKS

from mtl_lightning import VGG16, MultiTask
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.models import Hard, Soft

SIZE, BATCH_SIZE, NUM_CLASSES = 64, 32, 10
NUM_TASKS = (2, 8)
LABELS = {"one": False, "all": True}


@dataclass(frozen=True)
class Cost:
    """The cost of a case.

    Attributes:
        parameters: Number of parameters.
        seconds: Seconds of each step.
        peak: Peak memory of the process in MB.
        network: Its increase since before the network was built, in MB.
    """

    parameters: int
    seconds: list[float]
    peak: float
    network: float


class Times(Callback):
    """Times each step but the first.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.ends: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note the time."""
        self.ends.append(self.clock())

    def seconds(self) -> list[float]:
        """Return the seconds of each step."""
        return [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]


def train(sharing: str, num_tasks: int, every: bool, given: argparse.Namespace) -> Cost:
    """Train one case, in this process."""
    classes = {f"task{i}": NUM_CLASSES for i in range(num_tasks)}
    data = built_before(classes, given.steps + 1, BATCH_SIZE, SIZE, every)
    before = peak_memory()
    module = MultiTask(
        dict(tasks_of(classes)),
        VGG16(weights=None),
        sharing=Hard() if sharing == "hard" else Soft(strength=1.0),
        image_size=SIZE,
    )
    times = Times(CLOCKS[given.clock])
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            callbacks=[times],
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            default_root_dir=folder,
        ).fit(module, data)
    after = peak_memory()
    parameters = sum(p.numel() for p in module.parameters())
    return Cost(parameters, times.seconds(), after, after - before)


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, on macOS in bytes
    return most / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def in_own_process(sharing: str, num_tasks: int, labels: str, arguments: list[str]) -> Cost:
    """Train one case in a new process."""
    case = ["--case", sharing, str(num_tasks), labels]
    done = subprocess.run(
        [sys.executable, __file__, *case, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(case)} failed:\n{done.stderr[-3000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def both(num_tasks: int, labels: str, given: argparse.Namespace) -> dict[str, Cost]:
    """Train hard and soft alternately; return the median of the memory and all steps of each."""
    costs: dict[str, list[Cost]] = {"hard": [], "soft": []}
    for _ in range(given.rounds):
        for sharing, found in costs.items():
            found.append(in_own_process(sharing, num_tasks, labels, sys.argv[1:]))
    return {
        sharing: Cost(
            found[0].parameters,
            [seconds for cost in found for seconds in cost.seconds],
            median(cost.peak for cost in found),
            median(cost.network for cost in found),
        )
        for sharing, found in costs.items()
    }


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes per case")
    parser.add_argument("--steps", type=int, default=2, help="timed steps in each")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    quieten()
    if given.case is not None:
        sharing, num_tasks, labels = given.case
        cost = train(sharing, int(num_tasks), LABELS[labels], given)
        print(json.dumps(asdict(cost)))
        return 0
    columns = ("million parameters", "step s", "peak MB", "network MB")
    table = Table("tasks", "labels", "", *columns)
    for num_tasks in NUM_TASKS:
        for labels in LABELS:
            values = {
                sharing: (cost.parameters / 1e6, median(cost.seconds), cost.peak, cost.network)
                for sharing, cost in both(num_tasks, labels, given).items()
            }
            ratios = [s / h for h, s in zip(values["hard"], values["soft"], strict=True)]
            for sharing, found in values.items():
                texts = (f"{found[0]:.1f}", f"{found[1]:.2f}", f"{found[2]:.0f}", f"{found[3]:.0f}")
                table.add_row(str(num_tasks), labels, sharing, *texts)
            table.add_row("", "", "ratio", *(f"{ratio:.2f}" for ratio in ratios))
            table.add_section()
    console = Console(width=100)
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads, {given.clock} clock; {runs.load()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
