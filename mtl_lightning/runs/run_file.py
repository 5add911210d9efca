"""Reading and writing ``run.json``, the facts of a run.

It is plain JSON and replaced atomically, so that a reader never sees half of it, even if the writer
is killed. Undefined values (NaN) are null.
"""

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from mtl_lightning.runs.facts import RunFacts
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_write
from mtl_lightning.tasks.plot_records import PlotRecord, record_from_json, record_to_json

FILE = "run.json"
FORMAT = 1
"""Raised when readers of the previous format could not understand the file."""


def read(run: Path) -> RunFacts | None:
    """Return the facts in a run's folder, ``None`` if it has none.

    Raises:
        UserError: If the file cannot be understood.
    """
    path = run / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} should be JSON. Found {error}; remove the file") from None
    found = values.get("format") if isinstance(values, Mapping) else None
    if found != FORMAT:
        raise UserError(
            f"{path}: format should be {FORMAT}. Found {found}; another version of mtl-lightning "
            f"wrote it, remove the file or use that version"
        )
    try:
        facts: RunFacts = _decode(RunFacts, values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path} should be the facts of a run. Found a part that is not ({reason}); "
            f"remove the file"
        ) from error
    return facts


def write(run: Path, facts: RunFacts) -> None:
    """Write the facts into a run's folder, replacing an existing file."""
    text = json.dumps({"format": FORMAT, **_encode(facts)}, indent=1, allow_nan=False)
    # Lists of numbers on one line each. A text in JSON contains no line break.
    text = re.sub(r'\[\n([^\[\]{}"]*)\n\s*\]', lambda m: f"[{' '.join(m[1].split())}]", text)
    with atomic_write(run / FILE) as file:
        file.write(f"{text}\n")


def _encode(value: Any) -> Any:
    if isinstance(value, PlotRecord):
        return record_to_json(value)
    if dataclasses.is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _encode(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_encode(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _decode(hint: Any, value: Any) -> Any:
    """Convert a JSON value to the type of an annotation; unknown keys of records are ignored."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _decode(arguments[0], value)
    if hint is PlotRecord:
        return record_from_json(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        known = {name: own for name, own in value.items() if name in hints}
        return hint(**{name: _decode(hints[name], own) for name, own in known.items()})
    if get_origin(hint) is list:
        return [_decode(arguments[0], own) for own in value]
    if get_origin(hint) is dict:
        return {key: _decode(arguments[1], own) for key, own in value.items()}
    if hint is float:
        if value is None:
            return math.nan
        hint = int | float  # a count among numbers stays one
    if not isinstance(value, hint) or isinstance(value, bool):
        raise TypeError(f"expected {hint}, found {value!r:.100}")
    return value
