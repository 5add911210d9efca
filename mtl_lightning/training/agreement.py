"""Checks that model, data and checkpoint have the same tasks, and the same inputs."""

from collections.abc import Mapping
from typing import Any

from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError, listed, short
from mtl_lightning.tasks import Task


def check_known(tasks: Mapping[str, Task]) -> None:
    """Refuse tasks whose outputs are still open, for which no head can be built.

    Raises:
        UserError: For the first of them.
    """
    for name, task in tasks.items():
        if task.num_outputs < 1:
            raise UserError(
                f"task {name}: {type(task).__name__} should know its classes before a model is "
                f"built. Found none; give them ({type(task).__name__}(classes=[...])), or let the "
                f'data find them in the training labels first: data.setup("fit"), with the same '
                f"task objects"
            )


def check_data(model: Mapping[str, Task], data: Mapping[str, Task], predicts: bool) -> None:
    """Refuse data whose tasks are not those of the model.

    Otherwise outputs would silently be compared with the labels of other classes.

    Args:
        model: The tasks of the model, by name.
        data: The tasks of the data.
        predicts: Whether no label is read, so that classes unknown to the data do not matter.

    Raises:
        UserError: For the first difference.
    """
    missing = [] if predicts else [name for name in model if name not in data]
    if missing or not set(data) <= set(model):
        raise UserError(
            f"the tasks of the data should be those of the model ({listed(model)}). Found "
            f"{listed(data) or 'none'}; give both the same tasks (left_out takes those that the "
            f"run leaves out)"
        )
    for name, theirs in data.items():
        own = model[name]
        if own is theirs:
            continue
        if predicts and theirs.num_outputs < 1:
            continue
        _compare(name, described(own), described(theirs), "of the data", "of the model", "data")


def check_checkpoint(model: Mapping[str, Task], saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a checkpoint whose outputs mean something else than those of the model.

    Args:
        model: The tasks of the model, by name.
        saved: The result of `described` for the trained tasks, by name.

    Raises:
        UserError: For the first difference.
    """
    if set(model) != set(saved):
        raise UserError(
            f"the tasks of the model should be those of the checkpoint ({listed(saved)}). Found "
            f"{listed(model)}"
        )
    for name, trained in saved.items():
        own = described(model[name])
        _compare(name, trained, own, "of the model", "of the checkpoint", "model")


def check_inputs(
    model: Mapping[str, Input], other: Mapping[str, Mapping[str, Any]], owner: str
) -> None:
    """Refuse columns that mean something else than those of the model.

    Args:
        model: The inputs of the model, by name, in their order.
        other: The result of `described_inputs` for those of the data, or the checkpoint.
        owner: The owner of ``other``, for the message.

    Raises:
        UserError: For the first difference.
    """
    own = described_inputs(model)
    if list(own) != list(other):
        raise UserError(
            f"the inputs of the {owner} should be those of the model, in this order "
            f"({listed(own) or 'none'}). Found {listed(other) or 'none'}"
        )
    for name, theirs in other.items():
        for key, value in own[name].items():
            if theirs.get(key) != value:
                raise UserError(
                    f"input {name}: the {key} of the {owner} should be that of the model: "
                    f"{_shown(value)}. Found {_shown(theirs.get(key))}; build both with the same "
                    f"input"
                )


def described_inputs(inputs: Mapping[str, Input]) -> dict[str, dict[str, Any]]:
    """Return what must agree as plain values: class and `Input.identity`."""
    return {
        name: {"kind": type(column).__name__, **column.identity()}
        for name, column in inputs.items()
    }


def described(task: Task) -> dict[str, Any]:
    """Return what must agree as plain values: class, `Task.identity` and number of outputs."""
    return {"kind": type(task).__name__, **task.identity(), "outputs": task.num_outputs}


def _compare(
    name: str, wanted: Mapping[str, Any], found: Mapping[str, Any], of: str, than: str, owner: str
) -> None:
    """Raise a ``UserError`` for the first difference, in the order of `described`."""
    for key in wanted:
        if key in found and found[key] != wanted[key]:
            many = key == "outputs" or isinstance(wanted[key], list)
            order = ", in this order" if isinstance(wanted[key], list) else ""
            raise UserError(
                f"task {name}: the {key} {of} should be {'those' if many else 'that'} {than}: "
                f"{_shown(wanted[key])}{order}. Found {_shown(found[key])}; build the {owner} with "
                f"the same task"
            )


def _shown(value: object) -> str:
    return listed(map(str, value)) if isinstance(value, list) else short(str(value))
