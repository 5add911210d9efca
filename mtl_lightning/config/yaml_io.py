"""YAML as users expect it: ``1e-4`` is a number, ``no`` and ``010`` are words, keys are names.

(ruamel.yaml reads YAML 1.2, in which ``True``, ``010`` and ``0x1f`` are still not words; it would
not make this module shorter.)
"""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from mtl_lightning.config.values import PlainScalar
from mtl_lightning.system.errors import UserError, did_you_mean

_TAG = "tag:yaml.org,2002:"
_NULL_ITEM = "!null-item"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without the surprises of YAML 1.1; scalars stay undecided."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="expected a name before the colon, not a list or a mapping",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'the key "{key.value}" is there twice', problem_mark=key.start_mark
                )
            seen.add(key.value)
            if key.value != "<<":
                key.tag = f"{_TAG}str"
        node.value = [pair for pair in node.value if not _is_empty_init_args(*pair)]
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        node = super().compose_sequence_node(anchor)
        for item in node.value:
            if item.tag == f"{_TAG}null":  # null below a key is null, in a list it may be a word
                item.tag = _NULL_ITEM
        return node


def _is_empty_init_args(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether this is ``init_args:`` with all lines below it commented out."""
    return key.value == "init_args" and value.tag == f"{_TAG}null"


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in rules
        if not tag.endswith((":bool", ":timestamp", ":int", ":float"))
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", "true|false", "tf"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(f"^(?:{_pattern})$"), list(_first))


def _plain_scalar(loader: _Loader, node: yaml.ScalarNode) -> PlainScalar:
    return PlainScalar(node.value, yaml.SafeLoader.yaml_constructors[node.tag](loader, node))


for _tag in ("bool", "int", "float"):
    _Loader.add_constructor(_TAG + _tag, _plain_scalar)
_Loader.add_constructor(_NULL_ITEM, lambda _, node: PlainScalar(node.value, None))


class _Dumper(yaml.SafeDumper):
    """Quotes texts that PyYAML reads as text but other loaders as a number: ``1e3``."""


_Dumper.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"^[-+]?[0-9][0-9_.]*[eE][-+]?[0-9]+$"), None
)


# A default such as Timer's `interval` may be a member of an enumeration.
_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def _as_written(dumper: _Dumper, scalar: PlainScalar) -> yaml.ScalarNode:
    plain = (True, False)  # without quotes
    tag = dumper.resolve(yaml.ScalarNode, scalar.text, plain)  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, scalar.text)


_Dumper.add_representer(PlainScalar, _as_written)


def dump(config: Any) -> str:
    """Write a config so that any YAML loader reads the same."""
    text: str = yaml.dump(
        config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def load(path: Path) -> dict[str, Any]:
    """Read a config file, with a `PlainScalar` where annotations have to decide.

    A section with nothing below it is the same as none.

    Raises:
        UserError: If it does not exist, or is not a YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"config {path}: no such file{did_you_mean(str(path), near)}") from None
    except OSError as error:
        raise UserError(f"config {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"config {path}: cannot be read: this is not UTF-8 text") from None
    try:
        config = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"config {path}{where}: not valid YAML: {problem}") from None
    if not isinstance(config, dict):
        found = {list: "a list", type(None): "nothing"}.get(type(config), "one value")
        raise UserError(
            f"config {path} should be keys and values, such as `tasks: ...`. Found {found}"
        )
    return {key: value for key, value in config.items() if value is not None}


def parse(text: str) -> Any:
    """Read the value of a flag as it would be read in a config file.

    Texts that are not YAML (``*.jpg``) stay text.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
