"""Configs that are prepared, and those that are refused."""

import pytest

from mtl_lightning.commands.prepare import Prepared, prepare
from mtl_lightning.system.errors import UserError


def prepare_fit(*arguments: str) -> Prepared:
    """Prepare what was typed for ``fit``."""
    return prepare("fit", list(arguments))


def refused(command: str, *arguments: str) -> str:
    """Return the one line with which a command line is refused."""
    with pytest.raises(UserError) as error:
        prepare(command, list(arguments))
    assert "\n" not in str(error.value)
    return str(error.value)
