"""What of a run's settings is remembered: hyper-parameters, and the seed."""

import sys
from collections.abc import Iterable
from typing import Any

from mtl_lightning.config import checks, untrusted
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.lightning_internals import is_built_by_cli, load_checkpoint

_ALSO_READ = ("hparams", "module_arguments")
"""Where Lightning looks for hyper-parameters besides, as 0.7 wrote them."""


def built_from_config() -> bool:
    """Whether LightningCLI is building the object, and so knows its arguments as plain values.

    Objects given in Python (a backbone, a task) are not saved as hyper-parameters: a checkpoint
    holds plain values only, so that it loads with ``weights_only=True``.
    """
    return is_built_by_cli()


def check_remembered(cls: type, file: Any, key: str, given: Iterable[str]) -> None:
    """Check what Lightning's ``load_from_checkpoint`` is going to build, before it does.

    It hands the hyper-parameters to jsonargparse, which imports and calls what they name.

    Args:
        cls: The class that is built.
        file: The checkpoint: a path, an URL or an open file.
        key: Under what its hyper-parameters stand.
        given: Arguments that do not come from it.

    Raises:
        UserError: If they name a class that is neither one of the packages that a checkpoint may
            name, nor of a module that this program has imported already.
    """
    content = load_checkpoint(file, map_location="cpu", weights_only=True)
    if hasattr(file, "seek"):
        file.seek(0)
    parts = [content.get(name) or {} for name in (*_ALSO_READ, key)]
    values = {name: value for part in parts for name, value in part.items()}
    instantiator = values.pop("_instantiator", None)
    if instantiator is None:  # then they are handed to the constructor as they are
        return
    if instantiator != untrusted.INSTANTIATOR:
        raise UserError(
            f"checkpoint {file}: it asks for {instantiator} to be called; `mtl-lightning fit` "
            f"writes no such thing"
        )
    origin = untrusted.Origin(str(file), sys.modules, "import its module first")
    own = {name: value for name, value in values.items() if name not in given}
    checks.check_arguments(cls, untrusted.mark(own, origin), cls.__name__, given)
