"""The names that a training logs, which checkpoints and early stopping may monitor."""

from collections.abc import Iterable

from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.training.protocol import MultiTaskModule


def monitored_names(module: MultiTaskModule) -> list[str]:
    """Return the names that a validation and an epoch of training log."""
    names = []
    for split in ("val", "train"):
        names += [f"{split}/loss", f"{split}/score"]
        for task, metrics in module.measured[split].items():
            own = [n for name, m in metrics.metrics.items() for n in getattr(m, "names", [name])]
            names += [f"{split}/{task}/{metric}" for metric in ("loss", "n_labelled", *own)]
    return names


def check_monitor(key: str, name: str, known: Iterable[str]) -> None:
    """Raise a ``UserError`` if nothing is logged under this name."""
    known = list(known)
    if name not in known:
        raise UserError(
            f'{key}: nothing is logged as "{name}"{did_you_mean(name, known)}; '
            f"there is {listed(known)}"
        )
