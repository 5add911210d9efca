"""The values of a config: plain scalars whose type depends on annotations, and their display."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtl_lightning.system.errors import did_you_mean, listed


@dataclass(frozen=True)
class PlainScalar:
    """A value without quotes that is something other than text to YAML: ``1``, ``1e3``, ``true``.

    It stays undecided until the annotation of its place is known; see `checks.check_value`.

    Attributes:
        text: The value as text.
        value: The value as a number, a truth value or null.
    """

    text: str
    value: bool | int | float | None

    def __repr__(self) -> str:
        """As it was written, for messages."""
        return self.text


def plain_values(value: Any) -> Any:
    """Return a value with its plain scalars as YAML reads them."""
    if isinstance(value, PlainScalar):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain_values(entry) for key, entry in value.items()}
    return [plain_values(entry) for entry in value] if isinstance(value, list) else value


def texts_of(value: Any) -> Any:
    """Return a value with its plain scalars as text, except truth values and null."""
    if isinstance(value, PlainScalar):
        return value.value if isinstance(value.value, bool | None) else value.text
    if isinstance(value, Mapping):
        return {key: texts_of(entry) for key, entry in value.items()}
    return [texts_of(entry) for entry in value] if isinstance(value, list) else value


def no_such_class(path: str, wanted: str, name: str, known: Iterable[str]) -> str:
    """Return the message about a short name that no class has.

    Args:
        path: Its place in the config.
        wanted: The name of the base class.
        name: The name.
        known: The names of the classes that may be there.
    """
    known = sorted(known)
    return (
        f'{path}: no {wanted} is called "{name}"{did_you_mean(name, known)}; '
        f"known: {listed(known)}; or give the import path of your own"
    )


def display(value: Any) -> str:
    """Return a short text of a value for messages."""
    text = "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
