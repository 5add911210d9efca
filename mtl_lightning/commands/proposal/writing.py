"""A proposal as commented YAML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from mtl_lightning.audit.shapes import CROPPED
from mtl_lightning.commands.proposal.columns import DENSE, Kind
from mtl_lightning.commands.proposal.propose import Proposal
from mtl_lightning.commands.proposal.sources import SourcePlan
from mtl_lightning.commands.proposal.task_plans import TaskPlan
from mtl_lightning.config import yaml_io
from mtl_lightning.data.mirroring.names import partners
from mtl_lightning.system.errors import one_line
from mtl_lightning.tasks.frequency import MOST_WEIGHT

WIDTH = 96
"""Characters of a line, including comments."""
_YES_NO = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Words that some YAML parsers do not read as text."""


_IMAGES = (
    "    class_path: VGG16",
    "    init_args:",
    "      weights: IMAGENET1K_V1   # downloaded once; offline: the path of a file, or null:",
    "                               # random, which needs many more images",
)
_TABLE = (
    "    class_path: TableMLP",
    "    init_args: {width: 128, frequency_scale: 0.1}   # 0.01 to 1: smooth to wiggly",
    "  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3, weight_decay: 0.05}}",
)


def render(proposal: Proposal, command: str, file: str) -> str:
    """Return the config.

    Args:
        proposal: The content.
        command: The command line, for the first line.
        file: The name of the config's file.
    """
    lines = [
        *_heading(proposal, command, file),
        "tasks:",
        *(f"  {line}" for plan in proposal.tasks for line in _task(plan)),
        "",
        "model:",
        "  backbone:",
        *(_TABLE if proposal.inputs else _IMAGES),
        "",
        "data:",
        *(f"  {line}" for line in _inputs(proposal)),
        "  sources:",
        *(f"    {line}" for source in proposal.sources for line in _source(source)),
        *_settings(proposal),
        "",
        "trainer:",
        "  max_epochs: 20",
    ]
    return "\n".join(lines) + "\n"


def _heading(proposal: Proposal, command: str, file: str) -> Iterator[str]:
    kind = "rows" if proposal.inputs else "images"
    yield f"# Proposed for {proposal.images:,} {kind} by"
    yield f"#   {one_line(command)}"
    yield "# It runs as it is; change what you know better. Paths are relative to the folder"
    yield "# in which commands are run."
    yield "#"
    for name, more in (("inspect", ""), ("fit", ""), ("test", " --ckpt_path best")):
        yield f"#   mtl-lightning {name:<7} --config {one_line(file)}{more}"
    for title, pairs in (("Left out", proposal.left_out), ("Note", proposal.notes)):
        if pairs:
            yield f"#\n# {title}:"
        for pair in pairs:
            line = pair if isinstance(pair, str) else ": ".join(pair)
            yield f"#   {one_line(line)}"


def _task(plan: TaskPlan) -> Iterator[str]:
    note = f"; {one_line(plan.note)}" if plan.note else ""
    yield f"{scalar(plan.name)}:   # {plan.labels:,} labels{note}"
    if plan.kind is Kind.NUMBERS:
        yield "  class_path: Regression"
        return
    if plan.kind in DENSE:
        yield from (f"  {line}" for line in _dense(plan))
        return
    if plan.order:
        yield "  class_path: Ordinal"
        yield "  init_args:"
        yield from (f"    {line}" for line in _listed("classes", plan.order))
        return
    many = plan.kind in (Kind.YES_NO, Kind.NAMES)
    yield f"  class_path: {'MultiLabel' if many else 'Classification'}"
    yield "  init_args:"
    yield from (f"    {line}" for line in _listed("labels" if many else "classes", _names(plan)))
    if plan.kind is Kind.NAMES:
        yield "    # A name that a cell leaves out is a no. If lists are incomplete: a column for"
        yield "    # each label, with yes or nothing, and unobserved: negative (docs/unobserved.md)"
    if many and plan.separator != ";":
        yield f"    separator: {scalar(plan.separator)}"
    if plan.balanced:
        key = "pos_weights" if many else "class_weights"
        yield f"    {key}: balanced   # {_extremes(plan)}"


def _dense(plan: TaskPlan) -> Iterator[str]:
    if plan.kind is Kind.MASKS:
        yield "class_path: Segmentation"
        yield "init_args:"
        yield "  classes:"
        yield from (f"    {value}: class_{value}" for value in plan.counts)
        yield "  ignore: 255   # or others, for all values that are no class"
        return
    yield "class_path: DenseRegression"
    if plan.kind is Kind.NORMALS:
        yield "init_args: {channels: 3, loss: cosine}"


def _names(plan: TaskPlan) -> Sequence[str]:
    return plan.names if plan.kind is Kind.CLASSES else sorted(plan.counts)


def _extremes(plan: TaskPlan) -> str:
    rare = min(plan.counts, key=lambda name: (plan.counts[name], name))
    most = max(plan.counts, key=lambda name: (plan.counts[name], name))
    if plan.kind is not Kind.CLASSES:
        text = f"{one_line(rare)} applies to {plan.counts[rare]:,} of {plan.labels:,}"
        bounded = plan.labels - plan.counts[rare] > MOST_WEIGHT * plan.counts[rare]
        return text + (f"; each weighs {MOST_WEIGHT:g} times at most" if bounded else "")
    return f"{one_line(rare)} {plan.counts[rare]:,}, {one_line(most)} {plan.counts[most]:,}"


def _source(source: SourcePlan) -> Iterator[str]:
    yield f"{scalar(source.name)}:"
    yield f"  class_path: {source.class_path}"
    yield "  init_args:"
    for key, value in source.arguments.items():
        remark = f"   # {one_line(source.remarks[key])}" if key in source.remarks else ""
        if isinstance(value, list):
            yield f"    {key}: [{', '.join(map(scalar, value))}]{remark}"
        elif isinstance(value, Mapping):
            yield f"    {key}:{remark}"
            yield from (f"      {line}" for line in _mapped(value))
        else:
            yield f"    {key}: {'null' if value is None else scalar(value)}{remark}"


def _mapped(value: Mapping[str, Any]) -> Iterator[str]:
    for key, own in value.items():
        if isinstance(own, Mapping):
            yield f"{scalar(key)}:"
            yield from (f"  {line}" for line in _mapped(own))
        elif isinstance(own, list):
            yield f"{scalar(key)}: [{', '.join(map(str, own))}]"
        else:
            yield f"{scalar(key)}: {'null' if own is None else scalar(own)}"


def _inputs(proposal: Proposal) -> Iterator[str]:
    if proposal.inputs:
        yield "inputs:   # columns that are read; statistics are those of the training rows"
    for plan in proposal.inputs:
        remark = f"   # {one_line(plan.note)}" if plan.note else ""
        yield f"  {scalar(plan.name)}: {plan.kind.__name__}{remark}"


def _settings(proposal: Proposal) -> Iterator[str]:
    kind = "rows" if proposal.inputs else "images"
    of = (
        f"the {kind} without a split above"
        if proposal.has_splits
        else f"all {kind}, drawn at random"
    )
    yield f"  splits: {{val: 0.1, test: 0.2}}   # shares of {of}"
    if proposal.inputs:
        yield f"  batch_size: {proposal.batch_size}   # per device"
        return
    yield from _image_size(proposal)
    yield f"  batch_size: {proposal.batch_size}   # per device"
    yield "  num_workers: 2   # processes that load images"
    yield from (f"  {line}" for line in _mirror(proposal))


def _image_size(proposal: Proposal) -> Iterator[str]:
    (height, width), size = proposal.median, proposal.image_size
    value = str(size[0]) if size[0] == size[1] else str(list(size))
    named = "" if size[0] == size[1] else "height and width; "
    yield (
        f"  image_size: {value}   # {named}the median image is {height} x {width}; "
        "smaller is faster"
    )
    if proposal.removed > CROPPED:
        yield (
            f"  # resize: contain   # evaluation cuts the centre out, without "
            f"{proposal.removed:.0%} of such an image;"
        )
        yield "                      # contain keeps all of it, between black bars"


def _mirror(proposal: Proposal) -> Iterator[str]:
    named = [plan for plan in proposal.tasks if plan.kind not in (Kind.NUMBERS, *DENSE)]
    pairs = {plan.name: dict(partners(_names(plan))) for plan in named}
    swap = {name: own for name, own in pairs.items() if own}
    if swap:
        yield "mirror:   # images are mirrored at random, and these labels swap with them"
        yield from (f"  {line}" for line in _mapped({"swap": swap}))


def _listed(key: str, names: Sequence[str]) -> Iterator[str]:
    line, indent = f"{key}: [", " " * len(f"{key}: [")
    for number, name in enumerate(names, 1):
        item = f"{scalar(name)}{',' if number < len(names) else ']'}"
        if len(line) + len(item) > WIDTH and line.strip(" ") and line != f"{key}: [":
            yield line.rstrip()
            line = indent
        line += f"{item} "
    yield line.rstrip()


def scalar(text: str) -> str:
    """Return a text as one line of YAML that is read as this text."""
    plain = re.fullmatch(r"[\w./]([\w ./+-]*[\w./+-])?", text) is not None
    readings = (yaml_io.parse(text), yaml.safe_load(text)) if plain else ()
    if readings == (text, text) and text.lower() not in _YES_NO:
        return text
    escaped = "".join(
        f"\\{c}" if c in '\\"' else c if c.isprintable() else _escape(c) for c in text
    )
    return f'"{escaped}"'


def _escape(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
