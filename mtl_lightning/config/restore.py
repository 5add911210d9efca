"""Hyper-parameters of a checkpoint, checked before Lightning builds objects from them."""

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from mtl_lightning.config import checks, untrusted
from mtl_lightning.system.errors import UserError, state_dict_difference
from mtl_lightning.system.lightning_internals import class_method, load_checkpoint

T = TypeVar("T", bound="FromCheckpoint")

_OLD_KEYS = ("hparams", "module_arguments")
"""The key of hyper-parameters in Lightning 0.7, which is still read."""


class FromCheckpoint:
    """A Lightning class, which it is listed before, whose checkpoints are read as plain values."""

    CHECKPOINT_HYPER_PARAMS_KEY: str

    @class_method
    def load_from_checkpoint(
        cls: type[T],  # noqa: N805 - this is a class method
        checkpoint_path: Any,
        *args: Any,
        **options: Any,
    ) -> T:
        """Build the model or the data that a checkpoint of the command line describes.

        It is read as plain values and builds only what :func:`check_hyper_parameters` accepts.
        One that was written in Python does not hold the arguments of its model: pass ``tasks`` and
        the others.

        Raises:
            UserError: If it names classes that this program does not know, does not say what its
                object was built with, or holds the weights of another model.
        """
        check_hyper_parameters(cls, checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY, options)
        options["weights_only"] = True
        try:
            built: T = super().load_from_checkpoint(  # type: ignore[misc]  # of Lightning's class
                checkpoint_path, *args, **options
            )
        except RuntimeError as error:
            difference = state_dict_difference(error)
            if not difference:
                raise
            raise UserError(
                f"checkpoint {checkpoint_path}: does not fit the network that is built "
                f"({difference}); pass the arguments that its model was built with"
            ) from error
        return built


def check_hyper_parameters(cls: type, file: Any, key: str, given: Iterable[str]) -> None:
    """Check the hyper-parameters that ``load_from_checkpoint`` is about to build from.

    Lightning passes them to jsonargparse, which imports and calls the names in them.

    Args:
        cls: The class that is built.
        file: The checkpoint: a path, a URL or an open file.
        key: The key of its hyper-parameters.
        given: Arguments that do not come from the checkpoint.

    Raises:
        UserError: If they name a class that is neither from the packages that a checkpoint may
            name, nor from a module that this process has already imported; or if there are none,
            and ``tasks`` are not given.
    """
    content = load_checkpoint(file, map_location="cpu", weights_only=True)
    if hasattr(file, "seek"):
        file.seek(0)
    parts = [content.get(name) or {} for name in (*_OLD_KEYS, key)]
    values = {name: value for part in parts for name, value in part.items()}
    instantiator = values.pop("_instantiator", None)
    if instantiator is None:  # the constructor gets them as they are
        if "tasks" not in {*values, *given}:
            raise UserError(
                f"checkpoint {file}: it was written in Python, and does not hold what its "
                f"{cls.__name__} was built with; pass tasks and whatever else was given then: "
                f"{cls.__name__}.load_from_checkpoint(path, tasks=tasks, ...)"
            )
        return
    if instantiator != untrusted.INSTANTIATOR:
        raise UserError(
            f"checkpoint {file}: it asks for {instantiator} to be called, which `mtl-lightning "
            f"fit` does not write"
        )
    origin = untrusted.Origin(str(file), sys.modules, "import its module first")
    own = {name: value for name, value in values.items() if name not in given}
    checks.check_arguments(cls, untrusted.mark(own, origin), cls.__name__, given)
