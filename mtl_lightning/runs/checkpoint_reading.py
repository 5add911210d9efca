"""Reading checkpoints, which are checked to be complete, plain and ours before they are used."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mtl_lightning.config.untrusted import INSTANTIATOR
from mtl_lightning.runs.folder import versions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.calibration import CALIBRATION

_SIGNATURE = b"PK\x03\x04"  # of a zip file, as torch.save writes it
_HYPER_PARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")
_PARTS = (
    *_HYPER_PARAMETERS,
    *("state_dict", "epoch", "global_step", "pytorch-lightning_version"),
)
_TO_RESUME = ("loops", "optimizer_states", "lr_schedulers")


def read_checkpoint(path: Path, resume: bool = False) -> dict[str, Any]:
    """Return the content of a checkpoint; tensors stay in the file until they are used.

    Its checksums are compared, which torch does not do: if bytes in the middle are lost, it
    silently loads others. (0.6 s for 500 MB; loading them takes twice as long.)

    Args:
        path: The file.
        resume: Whether a training should be resumed from it.

    Raises:
        UserError: If it cannot be read, holds more than plain values, is incomplete, or not one of
            ours. The message names the newest good checkpoint of the run.
    """
    try:
        content = _content(path, resume)
        _check_sums(path)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}{_instead(path, resume)}") from error.__cause__
    return content


def saved_config(path: Path, resume: bool = False) -> dict[str, Any]:
    """Return tasks, model and data of a checkpoint, and its calibration, as plain values.

    Args:
        path: The file.
        resume: Whether a training should be resumed from it.

    Raises:
        UserError: If the file is not one of our checkpoints.
    """
    content = read_checkpoint(path, resume)
    model = dict(content["hyper_parameters"])
    data = dict(content["datamodule_hyper_parameters"])
    data.pop("tasks", None)
    for values in (model, data):
        values.pop("_instantiator", None)
    for linked in ("image_size", "inputs"):
        model.pop(linked, None)
    return {
        "tasks": model.pop("tasks"),
        "model": model,
        "data": data,
        "step": content["global_step"],
        "calibration": content.get(CALIBRATION, {}),
    }


def _content(path: Path, resume: bool = False) -> dict[str, Any]:
    """Read a checkpoint without its tensors."""
    try:
        _check_kind(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise UserError(f"cannot be read; {error.strerror or error}") from error
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        more = f"{found[1]}, and loading that would run it" if found else "more than plain values"
        raise UserError(f"is not read; it holds {more}") from error
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds, and all of them mean this
        raise UserError("cannot be read; it is damaged, or of another kind") from error
    content = _check_ours(content)
    if resume and not all(key in content for key in _TO_RESUME):
        raise UserError(
            "holds only weights, and no training can be resumed from it; to start with its weights "
            "give it as model.backbone.weights"
        )
    return content


def _check_kind(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise UserError(f"should be a checkpoint file. Found {found}")
    with path.open("rb") as file:
        signature = file.read(len(_SIGNATURE))
    if not signature:
        raise UserError("cannot be read; it is empty")
    if not _SIGNATURE.startswith(signature):
        raise UserError("cannot be read; it is of another kind")
    if not zipfile.is_zipfile(path):
        raise UserError("cannot be read; it is cut short")


def _check_ours(content: object) -> dict[str, Any]:
    """Return the content if `mtl-lightning fit` wrote it."""
    if not (
        isinstance(content, dict)
        and all(key in content for key in _PARTS)
        and all(isinstance(content[key], int) for key in ("epoch", "global_step"))
        and all(isinstance(content[key], dict) for key in _HYPER_PARAMETERS)
        and all(_are_tasks(content[key].get("tasks")) for key in _HYPER_PARAMETERS)
    ):
        raise UserError("was not written by `mtl-lightning fit`")
    for key in _HYPER_PARAMETERS:
        instantiator = content[key].get("_instantiator", INSTANTIATOR)
        if instantiator != INSTANTIATOR:
            raise UserError(
                f"was not written by `mtl-lightning fit`; it asks for {instantiator} to be called"
            )
    return content


def _are_tasks(value: Any) -> bool:
    entries = value.values() if isinstance(value, dict) else ()
    return bool(entries) and all(
        isinstance(entry, dict) and isinstance(entry.get("class_path"), str) for entry in entries
    )


def _check_sums(path: Path) -> None:
    """Compare the checksum of every part of the file."""
    with zipfile.ZipFile(path) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
            # torch compresses nothing, and a compressed part may be a thousand times as long.
            raise UserError("cannot be read; it is of another kind")
        try:
            damaged = file.testzip()
        except (OSError, RuntimeError, NotImplementedError) as error:
            raise UserError("cannot be read; it is damaged") from error
    if damaged is not None:
        raise UserError(f"cannot be read; it is damaged (checksum of {damaged})")


def _instead(path: Path, resume: bool) -> str:
    """Return the newest good checkpoint of the run, of an older version if this one has none."""
    for folder in _folders(path):
        found = []
        for other in folder.glob("*.ckpt"):
            with suppress(UserError):
                if other != path:
                    content = _content(other, resume)
                    found.append((content["global_step"], content["epoch"], other))
        for step, epoch, other in sorted(found, reverse=True):
            with suppress(UserError):
                _check_sums(other)
                return f"; the newest good one is {other} (epoch {epoch}, step {step})"
    return ""


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folders that may hold a checkpoint of the same run, newest first."""
    if path.is_dir():
        yield from (path, path / "checkpoints")
    yield path.parent
    run = path.parent.parent
    if path.parent.name == "checkpoints":
        of_name = versions(run.parent.parent, run.parent.name)
        older = of_name[of_name.index(run) + 1 :] if run in of_name else []
        yield from (version / "checkpoints" for version in older)
