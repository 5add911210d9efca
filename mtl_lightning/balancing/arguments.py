"""The arguments of methods in a config: numbers by task, sizes that are filled in, extras.

Importing this module teaches jsonargparse that a tensor is written as a list of numbers.
"""

import inspect
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from jsonargparse.typing import register_type
from torch import Tensor

from mtl_lightning.balancing.build import Method, make_balancer
from mtl_lightning.config.annotations import argument_hints, component_classes, takes_tensor
from mtl_lightning.config.classes import resolve_class
from mtl_lightning.config.values import display, plain_values
from mtl_lightning.system.errors import UserError

SIZES = ("shape", "n_tasks")
"""The arguments of TorchJD's methods that are the number of tasks."""

EXTRA = "balancing"
"""The extra of this package with the solvers that some methods need."""

_OF_THE_EXTRA = ("clarabel", "cvxpy", "ecos", "qpsolvers", "quadprog", "scipy")


def _tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


register_type(Tensor, serializer=lambda tensor: tensor.tolist(), deserializer=_tensor)


def fill_sizes(entry: Any, tasks: Sequence[str]) -> Any:
    """Return the entry of a method, with the number of tasks filled in if its class takes it.

    Raises:
        UserError: If there is no such class, or the config gives another number.
    """
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
        return entry  # an error that is reported when the whole config is checked
    bases = component_classes(Method)
    path = "model.balancing.class_path"
    target = resolve_class(entry["class_path"], bases, path)
    arguments = entry.get("init_args")
    if not isinstance(arguments or {}, Mapping):
        return entry
    filled = dict(arguments or {})
    for size in SIZES:
        if size not in inspect.signature(target).parameters:
            continue
        if plain_values(filled.get(size)) not in (None, len(tasks), [len(tasks)]):
            raise UserError(
                f"model.balancing.init_args.{size} should be {len(tasks)}, the number of tasks. "
                f"Found {display(filled[size])}; leave it out, and it is filled in"
            )
        filled[size] = len(tasks)
    return {**entry, "init_args": filled} if filled else dict(entry)


def check_method(model: Mapping[str, Any], tasks: Sequence[str]) -> None:
    """Build the method of a config, which is cheap, to check its settings.

    Args:
        model: The section ``model`` of the config.
        tasks: The names of the tasks.

    Raises:
        UserError: If it cannot be built, or does not fit the tasks.
    """
    try:
        make_balancer(
            _built(Method, model["balancing"]),
            tasks,
            model.get("gradients", "parameters"),
            model.get("balance_every_n_steps", 1),
        )
    except UserError:
        raise
    except Exception as error:
        missing = [name for name in _OF_THE_EXTRA if find_spec(name) is None]
        # Without cvxpy, TorchJD's NashMTL uses a name that it could not import.
        if missing and isinstance(error, ImportError | NameError):
            raise UserError(
                f"model.balancing: {model['balancing']['class_path']} needs packages that are not "
                f"installed ({', '.join(missing)}): pip install 'mtl-lightning[{EXTRA}]'"
            ) from error
        raise UserError(f"model.balancing: {error}") from error


def _built(hint: Any, entry: Any) -> Any:
    """Return the object that a checked entry of a config describes."""
    bases = component_classes(hint)
    if isinstance(entry, str) and bases:
        entry = {"class_path": entry}
    if isinstance(entry, Mapping) and bases:
        target = resolve_class(entry["class_path"], bases, "class_path")
        arguments = entry.get("init_args") or {}
        hints = argument_hints(target)
        built = {k: _built(hints.get(k, Any), v) for k, v in arguments.items()}
        return target(**built)
    return _tensor(entry) if takes_tensor(hint) and isinstance(entry, list) else entry
