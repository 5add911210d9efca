"""The average weights of a balancing run, as the config of a plain one."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import get_console

from mtl_lightning.config import yaml_io
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_write
from mtl_lightning.training.module import MultiTask

SUFFIXES = (".yaml", ".yml")


class WeightsFile(Callback):
    """Writes, at the end of training, the tasks' average weights.

    The file is a config to be laid over the run's own: ``fit --config run.yaml --config FILE``
    trains with these weights, fixed, and without a balancing. Each is the mean over the steps in
    which the task was present, times the weight that the task had.

    Args:
        path: A ``.yaml`` file; replaced if it is there.

    Raises:
        UserError: If it cannot be written there; before training, if there are no weights.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"--export-weights should be a name that ends in .yaml. Found {path}")
        if path.is_dir():
            raise UserError(
                f"--export-weights {path}: this is a folder; give the name of a file in it"
            )
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse where there will be no weights."""
        if stage != "fit" or not isinstance(pl_module, MultiTask):
            return
        if pl_module.balancer is None:
            raise UserError(
                "--export-weights: there is no model.balancing whose weights it could write"
            )
        if getattr(pl_module.balancer.method, "needs_jacobian", False):
            raise UserError(
                f"--export-weights: {pl_module.balancer.method.title} has no weights; it makes one "
                f"gradient of all, number by number"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        if not isinstance(pl_module, MultiTask) or pl_module.balancer is None:
            return
        trial: bool = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by Lightning
        if trial or not trainer.is_global_zero:
            return
        average = pl_module.balancer.average_weights()
        weights = {t: w * pl_module.tasks[t].weight for t, w in average.items()}
        below = [task for task, weight in weights.items() if not weight > 0]
        if below:
            get_console().print(
                f"[yellow]note:[/] --export-weights: the average weight of {below[0]} is "
                f"{weights[below[0]]:.4g}, which no plain run can have: nothing was written",
                highlight=False,
            )
            return
        plain = {"balancing": None, "gradients": "parameters", "balance_every_n_steps": 1}
        tasks = {t: {"init_args": {"weight": round(w, 6)}} for t, w in weights.items()}
        with atomic_write(self.path) as file:
            file.write(
                f"# Average weights of {pl_module.balancer.method.title}; lay this over the\n"
            )
            file.write("# config of that run: fit --config RUN.yaml --config THIS.yaml\n")
            file.write(yaml_io.dump({"model": plain, "tasks": tasks}))
        get_console().print(f"written: {self.path}", highlight=False)
