"""LightningCLI's parser with short error messages."""

from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import torch
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from mtl_lightning.commands.library_errors import short_message
from mtl_lightning.system.errors import UserError

# Lightning has arguments of this type, and without this their default cannot be saved.
register_type(torch.device)


def integers_first(hint: Any) -> Any:
    """Return a union with ``int`` right before ``float``, and anything else as it is.

    jsonargparse takes the first type that fits, and `typing` caches ``Union[int, float]`` and
    ``Union[float, int]`` as one within other unions: what was imported before Lightning would
    decide whether its ``limit_val_batches: 1`` is one batch or, as 1.0, all.
    """
    options = list(get_args(hint))
    if get_origin(hint) not in (Union, UnionType) or not {int, float} <= set(options):
        return hint
    options.remove(int)
    options.insert(options.index(float), int)
    return reduce(or_, options)


class Parser(LightningArgumentParser):
    """A parser without abbreviations, with errors of one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add arguments without ``sub_configs``, which Lightning sets: a value is never a file.

        For a list of classes, jsonargparse would read a file called ``default`` in the
        current folder instead of the text ``default``, and import what it names.
        """
        added: list[str] = super().add_class_arguments(*args, **{**kwargs, "sub_configs": False})
        for action in self._actions:
            if action.dest in added and hasattr(action, "_typehint"):
                action._typehint = integers_first(action._typehint)
        return added

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return a config as text, by default without checking again what parsing has checked."""
        return str(super().dump(*args, **{"skip_validation": True, **kwargs}))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a one-line error instead of printing all usage."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(short_message(message, self._option_string_actions)) from ex
