"""A container of modules by names that users chose freely."""

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)

_PREFIX = "task_"  # no attribute of nn.Module starts with it: `type`, `train` and `keys` are free


def module_key(name: str) -> str:
    """Return the name under which a module of the user's ``name`` is registered.

    Letters, digits, ``_`` and ``-`` stay as they are; everything else (dots, spaces, ``%``) is
    percent-encoded byte by byte, so that two names never share a key: ``a.b`` is ``task_a%2Eb``.
    """
    return _PREFIX + re.sub(
        r"[^\w-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name
    )


class NamedModules(nn.Module, Generic[M]):
    """Like ``nn.ModuleDict``, but takes every name: ``type``, ``keys``, ``forward``, ``a.b``.

    State-dict keys stay readable: in a module's attribute ``heads``, the weight of task ``type``
    is ``heads.task_type.weight``. Names keep the order in which they were given.

    Args:
        modules: The modules by the user's names.
    """

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        self._keys: dict[str, str] = {}
        for name, module in modules.items():
            self.add(name, module)

    def add(self, name: str, module: M) -> None:
        """Add a module, after all others."""
        self._keys[name] = module_key(name)
        self.add_module(self._keys[name], module)

    def __getitem__(self, name: str) -> M:
        return cast("M", self._modules[self._keys[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def _view(self) -> dict[str, M]:
        return {name: self[name] for name in self._keys}

    def keys(self) -> KeysView[str]:
        """Return the user's names in order."""
        return self._keys.keys()

    def values(self) -> ValuesView[M]:
        """Return the modules in the order of their names."""
        return self._view().values()

    def items(self) -> ItemsView[str, M]:
        """Return pairs of the user's name and the module."""
        return self._view().items()
