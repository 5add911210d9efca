"""YAML as people mean it: ``1e-4`` is a number, ``no`` and ``010`` are words, keys are names."""

import re
from pathlib import Path
from typing import Any

import yaml

from mtl_lightning.system.errors import UserError, did_you_mean

TEXT_LISTS = ("classes", "missing", "labels")
"""Keys whose values are compared as text: ``[0, 1]`` and ``[no, yes]`` mean what they look like."""

TEXT_MAPS = ("values", "swap")
"""Keys below which all is text but null: ``{m: 1, f: null}``."""

_TEXT = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the surprises of YAML 1.1 taken out."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
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
                key.tag = _TEXT
            if key.value in TEXT_LISTS:
                _read_as_text(value)
            elif key.value in TEXT_MAPS:
                _read_map_as_text(value)
        node.value = [pair for pair in node.value if not _says_nothing(*pair)]
        return node


def _says_nothing(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether this is ``init_args:`` with all lines below it commented out."""
    return key.value == "init_args" and value.tag == "tag:yaml.org,2002:null"


def _read_as_text(node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.ScalarNode):
                item.tag = _TEXT


def _read_map_as_text(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            _read_map_as_text(value)
    elif isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
        node.tag = _TEXT


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
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML itself reads as text but others as a number: ``1e3``."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_.]*[eE][-+]?[0-9]+$"), None
)


def dump(config: Any) -> str:
    """Write a config so that any YAML loader reads the same."""
    text: str = yaml.dump(
        config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def load(path: Path) -> dict[str, Any]:
    """Read a config file; a section with nothing below it is as good as left out.

    Raises:
        UserError: If it is not there, or not a YAML mapping.
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
        raise UserError(f"config {path}: expected keys and values, such as `tasks: ...`")
    return {key: value for key, value in config.items() if value is not None}


def parse(text: str, key: str) -> Any:
    """Read the value of a flag as the config would read it after ``key:``.

    What is no YAML (``*.jpg``) is text.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if key in TEXT_LISTS:
            _read_as_text(node)
        elif key in TEXT_MAPS:
            _read_map_as_text(node)
        return loader.construct_document(node)
    except yaml.YAMLError:
        return text
    finally:
        loader.dispose()
