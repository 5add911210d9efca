"""The model card: ``README.md`` of an exported folder, as Hugging Face shows it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_lightning.inference.description import Description
from mtl_lightning.system.errors import listed

_FRONT = """---
library_name: mtl-lightning
pipeline_tag: image-classification
tags: [multi-task-learning, {format}]
---
"""
_USE = """
## Use

```python
import mtl_lightning

model = mtl_lightning.load("{folder}")
model.predict(["photo.jpg"])
```

Input: RGB images as uint8, `(batch, 3, {height}, {width})`, scaled by `resize: {resize}`.
Preprocessing is the first layer of the network, and its outputs are answers: probabilities, and
numbers in the label's own unit.
"""


def card(description: Description, checkpoint: Path) -> str:
    """Return the text of the card.

    Args:
        description: The exported network.
        checkpoint: Where it is from; results of its run are shown if they are next to it.
    """
    height, width = description.image_size
    lines = [_FRONT.format(format=description.format), f"# {_name(checkpoint)}", ""]
    lines += ["One network for several questions about an image.", "", "| Task | Kind | Answers |"]
    lines.append("|---|---|---|")
    for name, entry in description.tasks.items():
        arguments = entry.get("init_args") or {}
        named = (arguments.get(key) for key in ("classes", "labels", "numbers"))
        answers = next(filter(None, named), ["a number"])
        lines.append(f"| {name} | {entry['class_path'].rpartition('.')[2]} | {listed(answers)} |")
    lines.append(
        _USE.format(folder=_name(checkpoint), height=height, width=width, resize=description.resize)
    )
    lines += _results(checkpoint, description.tasks)
    origin = listed(f"{name} {value}" for name, value in description.origin.items())
    lines += ["## Training", "", f"Trained by mtl-lightning ({origin}).", ""]
    return "\n".join(lines)


def _name(checkpoint: Path) -> str:
    parents = checkpoint.resolve().parents
    return parents[2].name if checkpoint.resolve().parent.name == "checkpoints" else checkpoint.stem


def _results(checkpoint: Path, tasks: Mapping[str, Any]) -> list[str]:
    """Return the table of what was measured on test, if the run has a file of it."""
    file = checkpoint.resolve().parents[1] / "test_metrics.json"
    if not file.is_file():
        return ["## Results", "", "Not measured on test images.", ""]
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
