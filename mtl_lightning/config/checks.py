"""Every name and value of a config, checked entry by entry before anything is built.

jsonargparse checks too, but it reports a wrong entry of a dict without the entry's name, and a
misspelt class as a bad import path. These checks name the key and suggest the nearest name; what
they accept is still parsed by jsonargparse.

They return the checked value, with plain YAML scalars read as required by their place: a column
``1``, a class ``no`` or ``1e3`` is text if the annotation takes only text, else a number.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import jsonargparse

from mtl_lightning.config import annotations, untrusted
from mtl_lightning.config.annotations import argument_hints, type_name
from mtl_lightning.config.classes import concrete_subclasses, resolve_class
from mtl_lightning.config.long_lists import share_long_lists
from mtl_lightning.config.values import PlainScalar, display, plain_values
from mtl_lightning.system.errors import UserError, did_you_mean, listed

share_long_lists()


def check_arguments(
    target: Callable[..., Any],
    given: Any,
    path: str,
    skip: Iterable[str] = (),
    owner: str | None = None,
) -> dict[str, Any]:
    """Check the arguments of a class (or function) against its signature.

    Args:
        target: The class.
        given: Its arguments in the config.
        path: Their place in the config.
        skip: Arguments that come from elsewhere.
        owner: The name of the class in messages; its own by default.

    Returns:
        The arguments, with their scalars read.

    Raises:
        UserError: For an unknown or missing argument, or a value of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{path} should be arguments as `key: value`. Found {display(given)}")
    hints, parameters = argument_hints(target), annotations.parameters(target)
    known = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in skip
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise UserError(
                f"{path}.{key}: {owner or target.__name__} has no such argument"
                f"{did_you_mean(key, known)}; it has {listed(known) or 'none'}"
            )
        if key not in hints:
            untrusted.check_text(_type_of_default(known[key]), value, f"{path}.{key}")
        is_default = value is None and known[key].default is None
        hint = hints.get(key, Any)
        checked[key] = None if is_default else check_value(hint, value, f"{path}.{key}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise UserError(f"{path}: {target.__name__} needs {name}")
    return checked


def check_value(hint: Any, value: Any, path: str) -> Any:
    """Check one value against a type annotation, and return it with its scalars read."""
    value = _read_scalars(hint, value)
    options = annotations.options(hint)
    if value is None and type(None) in options:
        return None
    named = annotations.component_classes(hint)
    by_name = annotations.component_entries(hint, dict)
    in_line = annotations.component_entries(hint, list, Iterable)
    produced = annotations.produced_classes(hint)
    records = [option for option in options if annotations.is_record(option)]
    if named and _names_a_class(value, [o for o in options if o not in named]):
        return check_component(named, value, path)
    if produced:
        return check_component(produced, value, path, skip_first=True)
    if by_name and isinstance(value, Mapping):
        return {k: check_component(by_name, entry, f"{path}.{k}") for k, entry in value.items()}
    if in_line and isinstance(value, list):
        return [check_component(in_line, v, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping) and len(records) == 1:
        checked = check_arguments(records[0], value, path)
        _try(records[0], checked, path)
        return checked
    if by_name:
        raise UserError(f"{path} should be entries as `name: ...`. Found {display(value)}")
    return _check_leaf(hint, value, path)


def _read_scalars(hint: Any, value: Any) -> Any:
    """Read the plain scalars of a value as far as its annotation gives the type of its entries."""
    if isinstance(value, PlainScalar):
        takes_text = any(o is str or annotations.is_path(o) for o in annotations.options(hint))
        return value.text if takes_text and not _is_accepted(hint, value.value) else value.value
    if isinstance(value, list | Mapping):
        entries = annotations.contained(hint, dict if isinstance(value, Mapping) else list)
        if entries is not None and isinstance(value, Mapping):
            return {key: _read_scalars(entries, entry) for key, entry in value.items()}
        if entries is not None:
            return [_read_scalars(entries, entry) for entry in value]
    return value


def _names_a_class(value: Any, others: list[Any]) -> bool:
    """Whether a value names a class, if the annotation has ``others`` as well as classes."""
    if isinstance(value, str):
        return str not in others and all(typing.get_origin(o) is not typing.Literal for o in others)
    if isinstance(value, Mapping):
        return "class_path" in value
    return not set(others) - {type(None)}


def check_component(
    classes: tuple[type, ...], value: Any, path: str, skip_first: bool = False
) -> Any:
    """Check an entry that names a class: ``Name``, or ``{class_path: Name, init_args: {...}}``.

    Args:
        classes: The class should be a subclass of one of these.
        value: The entry in the config.
        path: Its place.
        skip_first: Whether the first argument is not set by configs (an optimizer's parameters).

    Returns:
        The value, with the scalars of its arguments read.

    Raises:
        UserError: If there is no such class, or it does not take these arguments.
    """
    known = concrete_subclasses(classes)
    entry = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping):
        raise UserError(
            f"{path} should be class_path and init_args. Found {display(entry)}; "
            f"class_path may be {listed(known)}"
        )
    if "class_path" not in entry:
        raise UserError(
            f"{path}: class_path is missing; it may be {listed(known)}"
            + (f" ({listed(map(str, entry))} then go under init_args)" if entry else "")
        )
    extra = [str(key) for key in entry if key not in ("class_path", "init_args")]
    if extra:
        raise UserError(
            f"{path}.{extra[0]}: arguments belong under init_args, not next to class_path; "
            f"write {{class_path: {entry['class_path']}, init_args: {{{extra[0]}: ...}}}}"
        )
    target = resolve_class(entry["class_path"], classes, f"{path}.class_path")
    first = list(inspect.signature(target).parameters)[:1] if skip_first else []
    arguments = entry.get("init_args")
    given = {} if arguments is None else arguments
    checked = check_arguments(target, given, f"{path}.init_args", first)
    return value if arguments is None else {**entry, "init_args": checked}


def try_build(base: type, entry: Any, path: str) -> Any:
    """Check and build an entry, which is cheap, so that its own errors get the entry's name.

    Returns:
        The object; None if it cannot be built yet, because the user's own class takes objects that
        the config only describes.

    Raises:
        UserError: If it is wrong, or the constructor refuses its arguments.
    """
    entry = check_component((base,), entry, path)
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    target = resolve_class(entry["class_path"], (base,), path)
    return _try(target, entry.get("init_args") or {}, path)


def try_record(record: type, arguments: Mapping[str, Any]) -> None:
    """Build a dataclass of checked arguments, so that its own errors come early.

    Raises:
        UserError: If it refuses them.
    """
    with suppress(TypeError, ValueError):  # what is still text is parsed later
        record(**arguments)


def _try(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> Any:
    try:
        return target(**arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception:
        return None


def _check_leaf(hint: Any, value: Any, path: str) -> Any:
    value = plain_values(value)
    untrusted.check_text(hint, value, path)
    if not _is_accepted(hint, value):
        choices = [str(a) for o in annotations.options(hint) for a in typing.get_args(o)]
        suggestion = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise UserError(f"{path} should be {type_name(hint)}. Found {display(value)}{suggestion}")
    return value


_BUILTINS = frozenset({str, int, float, bool, type(None)})


def _is_accepted(hint: Any, value: Any) -> bool:
    """Whether jsonargparse takes a value without classes for this annotation."""
    # To jsonargparse every object is a path; a config can only hold text.
    options = [
        str if annotations.is_path(option) else option for option in annotations.options(hint)
    ]
    if value is None and type(None) not in options and Any not in options:
        return False  # jsonargparse takes it for an option that is not given
    if type(value) in options and type(value) in _BUILTINS:
        return True  # as jsonargparse would say after a millisecond
    parser = _parser_of(tuple(options))
    try:
        parser.parse_object({"value": untrusted.unmark(value)})
    except (jsonargparse.ArgumentError, TypeError, ValueError):
        return False
    return True


@functools.cache
def _parser_of(options: tuple[Any, ...]) -> jsonargparse.ArgumentParser:
    """Return a parser of one value of any of some types; most arguments have one of a few types."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=typing.Union[options])  # noqa: UP007 - any number
    return parser


def _type_of_default(parameter: inspect.Parameter) -> Any:
    """Return the type that jsonargparse assumes without an annotation, None if unknown."""
    if parameter.annotation is not parameter.empty:
        return None  # one that cannot be resolved here
    return Any if parameter.default is parameter.empty else type(parameter.default)
