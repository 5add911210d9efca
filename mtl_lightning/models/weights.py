"""Pretrained weights: reading files, fitting them to a trunk, and reporting what fitted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from mtl_lightning.system.errors import UserError, did_you_mean, listed

T = TypeVar("T")

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
_NESTINGS = ("state_dict", "model", "model_state_dict")
_LEAST_SHARE = 0.1
_EXPECTED = (
    f"expected a state dict, as {', '.join(_SUFFIXES[:-1])} by torch.save or {_SUFFIXES[-1]}"
)


@dataclass(frozen=True)
class NamedWeights:
    """Weights that a library offers under a name.

    Args:
        tensors: Tensors by the library's keys.
        label: Their name in messages.
        mean: Channel means (0..1) that these weights were trained with, None if unknown.
        std: Standard deviations (0..1) likewise.
    """

    tensors: dict[str, Tensor]
    label: str
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class LoadReport:
    """The outcome of loading a weight file.

    Args:
        source: The file's name, or the name of the weights.
        loaded: Keys of the trunk that were loaded.
        not_used: Keys of the file that the trunk does not have.
        missing: Keys of the trunk that the file lacks; they keep their random values.
        mismatched: Keys of the trunk with another shape in the file; they keep their random values.
        note: A further note for the user, or "".
    """

    source: str
    loaded: list[str]
    not_used: list[str]
    missing: list[str]
    mismatched: list[str]
    note: str = ""

    @property
    def complete(self) -> bool:
        """Whether every tensor of the trunk was loaded."""
        return not self.missing and not self.mismatched

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        parts = [f"weights {self.source}: {len(self.loaded)} of {total} tensors loaded"]
        for title, keys in (
            ("not used", self.not_used),
            ("missing", self.missing),
            ("other shape", self.mismatched),
        ):
            if keys:
                parts.append(f"{title}: {_examples(keys)} ({len(keys)})")
        return "; ".join([*parts, self.note] if self.note else parts)


def is_file(weights: str) -> bool:
    """Whether ``weights`` means a file: by its suffix, or because it exists."""
    path = Path(weights).expanduser()
    return path.suffix.lower() in _SUFFIXES or path.exists()


def read_weights(file: str) -> dict[str, Tensor]:
    """Read the tensors of a weight file.

    Nesting under ``state_dict`` or ``model`` is unwrapped. Only tensors are unpickled, so that an
    untrusted file cannot run code.

    Args:
        file: ``.safetensors``, or anything that ``torch.save`` wrote.

    Returns:
        Tensors on the CPU by key.

    Raises:
        UserError: If the file does not exist, cannot be read or holds no tensors.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        near = did_you_mean(path.name, _names(path.parent))
        raise UserError(f"weights file {file} does not exist (looked for {path.absolute()}){near}")
    content: object
    try:
        if path.suffix.lower() == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file raises, the file is at fault
        raise UserError(
            f"cannot read weights file {file} ({_reason(error)}); {_EXPECTED}"
        ) from error
    tensors = _unwrap(content)
    if not tensors:
        raise UserError(f"weights file {file} holds no tensors by name; {_EXPECTED}")
    return tensors


def load_matching(trunk: nn.Module, tensors: Mapping[str, Tensor], source: str) -> LoadReport:
    """Load the tensors that fit ``trunk`` by name and shape, in place.

    A prefix that the file's keys share (``module.``, ``model.backbone.``, ``_orig_mod.``) is
    removed if that makes more of them fit.

    Args:
        trunk: The module to load into.
        tensors: Tensors by key.
        source: Their name in the report and in errors.

    Raises:
        UserError: If nothing fits, or almost nothing (under a tenth of the trunk's tensors).
    """
    own = trunk.state_dict()
    prefix = _best_prefix(tensors, own)
    found = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    fitting = {key: found[key] for key in own if key in found and _fits(found[key], own[key])}
    # Another architecture may share a first convolution or a few biases by accident.
    if len(fitting) < _LEAST_SHARE * len(own):
        raise UserError(
            f"weights {source} do not fit the backbone: {len(fitting)} of its {len(own)} tensors "
            f"have a name and shape in common; the file has {_examples(_shapes(tensors))}; "
            f"expected {_examples(_shapes(own))}; give weights of this architecture, or "
            "null for random weights"
        )
    trunk.load_state_dict(fitting, strict=False)
    # Older files lack the counter, and no training or test depends on it.
    missing = [k for k in own if k not in found and not k.endswith("num_batches_tracked")]
    return LoadReport(
        source=source,
        loaded=list(fitting),
        not_used=[key for key in tensors if not _used(key, prefix, own)],
        missing=missing,
        mismatched=[key for key in own if key in found and key not in fitting],
    )


def download(label: str, url: str, fetch: Callable[[], T]) -> T:
    """Call ``fetch``, which downloads ``label`` from ``url``.

    Raises:
        UserError: If it fails; the message says what to do without a network.
    """
    try:
        return fetch()
    except Exception as error:  # each hub raises its own kinds
        raise UserError(
            f"cannot download {label} ({url}): {_reason(error)}; no network? download it elsewhere "
            "and set model.backbone.init_args.weights to the file, or to null for random weights"
        ) from error


def unknown_weights(name: str, model: str, known: Iterable[str]) -> UserError:
    """Return the error for a weight name that ``model`` does not have."""
    known = list(known)
    return UserError(
        f'weights "{name}" is neither a file nor known for {model}: expected one of '
        f"{listed(known)}, a file ({', '.join(_SUFFIXES)}) or null{did_you_mean(name, known)}"
    )


def _unwrap(content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = [content[key] for key in _NESTINGS if isinstance(content.get(key), Mapping)]
        if not inner:
            return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        content = inner[0]
    return {}


def _best_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return the prefix whose removal makes most tensors fit; the shortest of several."""
    fits: Counter[str] = Counter()
    for key, value in tensors.items():
        pieces = key.split(".")
        for depth in range(len(pieces)):
            rest = ".".join(pieces[depth:])
            if rest in own and _fits(value, own[rest]):
                fits[key.removesuffix(rest)] += 1
    return max(fits, key=lambda prefix: (fits[prefix], -len(prefix)), default="")


def _fits(value: Tensor, place: Tensor) -> bool:
    return value.shape == place.shape


def _used(key: str, prefix: str, own: Mapping[str, Tensor]) -> bool:
    return key.startswith(prefix) and key.removeprefix(prefix) in own


def _shapes(tensors: Mapping[str, Tensor]) -> list[str]:
    return [f"{key} {list(value.shape)}" for key, value in tensors.items()]


def _examples(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _reason(error: Exception) -> str:
    """Return the kind of an error and the first line of its message, shortened."""
    if isinstance(error, UnpicklingError):  # its message is about torch.load's arguments
        return "it holds other things than tensors, or is not a weight file"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".removesuffix(": ")
