"""The average weights of a run with balancing, as a config with fixed weights."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import get_console

from mtl_lightning.config import yaml_io
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_write
from mtl_lightning.training.protocol import multi_task

SUFFIXES = (".yaml", ".yml")


class WeightsFile(Callback):
    """Writes the tasks' average weights at the end of training.

    The file is a config to pass after the run's own: ``fit --config run.yaml --config FILE``
    trains with these weights, fixed, and without a balancing. Each is the mean over the steps in
    which the task was active, times the task's own weight.

    Args:
        path: A ``.yaml`` file, which is replaced if it exists.

    Raises:
        UserError: If it cannot be written there; before training, if there are no weights.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"--export-weights should be a name that ends in .yaml. Found {path}")
        if path.is_dir():
            raise UserError(
                f"--export-weights should be a file. Found the folder {path}; add a file name"
            )
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a training that gives no weights."""
        if stage != "fit":
            return
        balancer = multi_task(pl_module).balancer
        if balancer is None or not balancer.gives_weights:
            found = "null" if balancer is None else f"{balancer.method.title}, which gives none"
            raise UserError(
                f"--export-weights: model.balancing should be a method that gives weights. Found "
                f"{found}; choose another method, or leave --export-weights out"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        module = multi_task(pl_module)
        trial: bool = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by Lightning
        if module.balancer is None or trial or not trainer.is_global_zero:
            return
        average = module.balancer.average_weights()
        weights = {task: mean * module.tasks[task].weight for task, mean in average.items()}
        unusable = [task for task, weight in weights.items() if not weight > 0]
        if unusable:
            get_console().print(
                f"[yellow]note:[/] --export-weights: the average weight of {unusable[0]} is "
                f"{weights[unusable[0]]:.4g}, which no plain run can have: nothing was written",
                highlight=False,
            )
            return
        plain = {"balancing": None, "gradients": "parameters", "balance_every_n_steps": 1}
        tasks = {t: {"init_args": {"weight": round(w, 6)}} for t, w in weights.items()}
        with atomic_write(self.path) as file:
            file.write(
                f"# Average weights of {module.balancer.method.title}; give this file after the\n"
            )
            file.write("# config of that run: fit --config RUN.yaml --config THIS.yaml\n")
            file.write(yaml_io.dump({"model": plain, "tasks": tasks}))
        get_console().print(f"written: {self.path}", highlight=False)
