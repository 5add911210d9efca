"""The model card: ``README.md`` of an exported folder, as Hugging Face shows it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_lightning.inference.description import Description
from mtl_lightning.models.inputs import IMAGE
from mtl_lightning.system.errors import listed
from mtl_lightning.tasks.calibration import read_calibrations

_FRONT = """---
library_name: mtl-lightning
pipeline_tag: {pipeline}
tags: [multi-task-learning, {format}]
---
"""
_USE = """
## Use

```python
import mtl_lightning

model = mtl_lightning.load("{folder}")
model.predict([{example}])
```

{inputs}
Preprocessing is the first layer of the network, and its outputs are answers: probabilities, and
numbers in the label's own unit.
"""


def card(description: Description, checkpoint: Path) -> str:
    """Return the text of the card.

    Args:
        description: The exported network.
        checkpoint: Where it is from; results of its run are shown if they are next to it.
    """
    with_image = IMAGE in description.reads
    pipeline = "image-classification" if with_image else "tabular-classification"
    front = _FRONT.format(format=description.format, pipeline=pipeline)
    subject = "an image" if with_image else "a row of a table"
    lines = [front, f"# {_name(checkpoint)}", ""]
    lines += [f"One network for several questions about {subject}.", ""]
    lines.append("| Task | Kind | Answers |")
    lines.append("|---|---|---|")
    for name, entry in description.tasks.items():
        arguments = entry.get("init_args") or {}
        named = (arguments.get(key) for key in ("classes", "labels", "numbers"))
        answers = next(filter(None, named), ["a number"])
        lines.append(f"| {name} | {entry['class_path'].rpartition('.')[2]} | {listed(answers)} |")
    lines.append(
        _USE.format(
            folder=_name(checkpoint), example=_example(description), inputs=_inputs(description)
        )
    )
    lines += _calibration(description)
    lines += _results(checkpoint, description.tasks)
    origin = listed(f"{name} {value}" for name, value in description.origin.items())
    lines += ["## Training", "", f"Trained by mtl-lightning ({origin}).", ""]
    return "\n".join(lines)


def _calibration(description: Description) -> list[str]:
    """Return what the answers of each task were calibrated by."""
    found = read_calibrations(description.calibration)
    if not found:
        return ["## Calibration", "", "None: probabilities are those of the network.", ""]
    rows = [f"- {name}: {found[name].words()}" for name in description.tasks if name in found]
    return [
        "## Calibration",
        "",
        "On the labels of the validation split; in the answers.",
        "",
        *rows,
        "",
    ]


def _name(checkpoint: Path) -> str:
    parents = checkpoint.resolve().parents
    return parents[2].name if checkpoint.resolve().parent.name == "checkpoints" else checkpoint.stem


def _example(description: Description) -> str:
    """Return one input, in Python."""
    image = IMAGE in description.reads
    if not description.inputs:
        return '"photo.jpg"'
    cells = ['"image": "photo.jpg"'] if image else []
    return "{" + ", ".join([*cells, *(f"{json.dumps(n)}: ..." for n in description.inputs)]) + "}"


def _inputs(description: Description) -> str:
    """Return what the network is given: images, and a table of the columns."""
    lines = []
    if IMAGE in description.reads:
        height, width = description.image_size
        lines.append(
            f"Input: RGB images as uint8, `(batch, 3, {height}, {width})`, scaled by "
            f"`resize: {description.resize}`."
        )
    if description.inputs:
        lines += ["", "| Column | Kind | What the graph takes |", "|---|---|---|"]
        for name, column in description.built_inputs().items():
            lines.append(f"| {name} | {type(column).__name__} | {column.unit()} |")
        lines += ["", "`predict` takes cells as in a table; None is a missing one."]
    return "\n".join(lines)


def _results(checkpoint: Path, tasks: Mapping[str, Any]) -> list[str]:
    """Return the table of what was measured on test, if the run has a file of it."""
    file = checkpoint.resolve().parents[1] / "test_metrics.json"
    if not file.is_file():
        return ["## Results", "", "Not measured on a test split.", ""]
    measured = json.loads(file.read_text(encoding="utf-8"))["tasks"]
    rows = [
        f"| {task} | {metric} | {value:.4g} |"
        for task in tasks
        for metric, value in measured.get(task, {}).items()
        if isinstance(value, int | float)
    ]
    return [
        "## Results",
        "",
        "Of the run, on its test split.",
        "",
        "| Task | Metric | Value |",
        "|---|---|---|",
        *rows,
        "",
    ]
