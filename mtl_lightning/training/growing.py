"""Growing: a trained network takes on classes and tasks, and keeps what it has learned."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_lightning.models.named import module_key
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.cells import canonical

OUTPUTS = "outputs"
"""The key of a checkpoint for the name of each output of each task."""

_NETWORK, _TASKS = "network.", "tasks."


class Growth:
    """What a network takes over from a checkpoint whose tasks, or their classes, are fewer.

    Rows of a head's last layer are copied by the names of the outputs, everything else as it is.
    Rows of new outputs, and what belongs to new tasks alone, stay as they were initialised.

    Args:
        tasks: The tasks of the network, whose classes are known.
        described: The result of `agreement.described` for these.
        checkpoint: The content of the checkpoint.
        origin: Its name for messages.

    Raises:
        UserError: If a task or class of the checkpoint is missing or changed, or nothing is new.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        described: Mapping[str, Mapping[str, Any]],
        checkpoint: Mapping[str, Any],
        origin: str,
    ) -> None:
        if OUTPUTS not in checkpoint:
            raise UserError(
                f"--grow: {origin} does not name the outputs of its tasks, as `fit` writes them"
            )
        self.tasks = tasks
        self.origin = origin
        self.old: Mapping[str, Tensor] = checkpoint["state_dict"]
        self.trained: Mapping[str, Tensor] = checkpoint.get("training_weights", {})
        self.updates = checkpoint.get("callbacks", {}).get("EMA", {}).get("updates", 0)
        self.rows: Mapping[str, Sequence[str]] = checkpoint[OUTPUTS]
        self.new_tasks = [name for name in tasks if name not in self.rows]
        for name in self.rows:
            if name not in tasks:
                raise UserError(
                    f"--grow: the task {name} of the checkpoint is not among the tasks "
                    f"({listed(tasks)}){did_you_mean(name, tasks)}; keep it under its name, or "
                    f"start a new training"
                )
            _check_kept(name, tasks[name], checkpoint["tasks"][name], described[name])
        self.new_outputs = {name: self._new_outputs(name) for name in self.rows}
        if not self.new_tasks and not any(self.new_outputs.values()):
            raise UserError(
                f"--grow: neither a task nor a class is new to {origin}; add one to the config, or "
                f"leave --grow out to continue its training"
            )

    def _new_outputs(self, name: str) -> list[str]:
        known = set(map(canonical, self.rows[name]))
        return [each for each in self.tasks[name].output_names if canonical(each) not in known]

    def is_fresh(self, key: str) -> bool:
        """Whether an entry of the network's state belongs to a new task alone."""
        return any(f".{module_key(name)}." in f".{key}." for name in self.new_tasks)

    def needs_pretrained(self, network: nn.Module) -> bool:
        """Whether a new task has a backbone of its own, which starts from pretrained weights."""
        return any(k.startswith("sharing.") and self.is_fresh(k) for k in network.state_dict())

    @torch.no_grad()
    def load(self, network: nn.Module, averaged: bool) -> dict[str, Tensor]:
        """Load what is kept into the network, and its statistics into the tasks.

        Args:
            network: The network, with initial weights.
            averaged: Whether the training averages weights. It then continues with those that the
                checkpoint's training had, otherwise with their average.

        Returns:
            The average that the training starts from, by name of the parameter; empty if there is
            none.

        Raises:
            UserError: If the checkpoint has other weights.
        """
        fresh = {key: value.clone() for key, value in network.state_dict().items()}
        average = self._merged(network, fresh, self.old)
        resumed = averaged and bool(self.trained)
        own = self._merged(network, fresh, {**self.old, **self.trained}) if resumed else average
        network.load_state_dict(own)
        for name in self.rows:
            prefix = f"{_TASKS}{module_key(name)}."
            saved = {k.removeprefix(prefix): v for k, v in self.old.items() if k.startswith(prefix)}
            self.tasks[name].keep_statistics(saved, self.rows[name])
        return {_NETWORK + key: value for key, value in average.items()} if resumed else {}

    def _merged(
        self, network: nn.Module, fresh: Mapping[str, Tensor], old: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        last = {key: name for name in self.rows for key in _last_layer(network, name)}
        merged = {}
        for key, value in fresh.items():
            saved = old.get(_NETWORK + key)
            if self.is_fresh(key):
                merged[key] = value
            elif saved is not None and key in last:
                merged[key] = self._by_name(last[key], value, saved)
            elif saved is not None and saved.shape == value.shape:
                merged[key] = saved
            else:
                found = "none" if saved is None else tuple(saved.shape)
                raise UserError(
                    f"--grow: {self.origin} should have {key} of the shape {tuple(value.shape)}. "
                    f"Found {found}; keep backbone, sharing and heads as they were"
                )
        return merged

    def _by_name(self, task: str, fresh: Tensor, saved: Tensor) -> Tensor:
        """Return the rows of the last layer of a head, of which each kept output has its own."""
        names, before = self.tasks[task].output_names, self.rows[task]
        if saved.shape == fresh.shape and list(names) == list(before):
            return saved
        if len(fresh) != len(names) or len(saved) != len(before):
            raise UserError(
                f"--grow: task {task}: its head has no row for each of its outputs "
                f"({listed(names)}), so that none can be added"
            )
        if fresh.shape[1:] != saved.shape[1:]:
            raise UserError(
                f"--grow: task {task}: its head should read {tuple(saved.shape[1:])} numbers, as "
                f"in {self.origin}. Found {tuple(fresh.shape[1:])}; keep its settings"
            )
        places = {canonical(name): place for place, name in enumerate(before)}
        were = [places.get(canonical(name)) for name in names]
        return self.tasks[task].grown_rows(fresh, saved, were)

    def line(self, average: bool) -> str:
        """Say in one line what is kept and what is new."""
        whole = [name for name, new in self.new_outputs.items() if not new]
        parts = ["kept the shared weights" + (" and their average" if average else "")]
        if whole:
            parts[0] += f" and the heads of {listed(whole)}"
        for name, new in self.new_outputs.items():
            if new:
                kept = len(self.tasks[name].output_names) - len(new)
                parts.append(f"task {name}: {kept} outputs kept, new: {listed(new)}")
        if self.new_tasks:
            parts.append(f"new tasks: {listed(self.new_tasks)}")
        return f"grown from {self.origin}: {'; '.join(parts)}; optimizer and epochs start afresh"


def _last_layer(network: nn.Module, task: str) -> list[str]:
    """Return the keys of the last module of a task's head that has parameters of its own."""
    prefix = f"heads.{module_key(task)}"
    head = network.get_submodule(prefix)
    found = [n for n, m in head.named_modules() if list(m.parameters(recurse=False))]
    if not found:
        return []
    inner = f"{found[-1]}." if found[-1] else ""
    layer = head.get_submodule(found[-1])
    return [f"{prefix}.{inner}{name}" for name, _ in layer.named_parameters(recurse=False)]


def _check_kept(name: str, task: Task, trained: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a task of the checkpoint that has lost a class, or means something else.

    Raises:
        UserError: For the first difference.
    """
    for key, value in trained.items():
        if key in task.growing:
            lost = task.lost(key, value)
            if lost is not None:
                raise UserError(
                    f"--grow: task {name}: the checkpoint knows {lost}; what is removed or "
                    f"renamed cannot be kept: name it in {key}, or start a new training"
                )
        elif key != "outputs" and own.get(key) != value:
            raise UserError(
                f"--grow: task {name}: the {key} should be that of the checkpoint: {value}. Found "
                f"{own.get(key)}"
            )
