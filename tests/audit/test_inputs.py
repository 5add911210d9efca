from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtl_lightning.audit import inputs
from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.report import audit
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import SourceTable
from mtl_lightning.inputs import Category, Input, Number
from mtl_lightning.reports import audit_console, audit_page
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.tasks import Classification, Regression
from tests.helpers.data import Memory, column

ROWS = 120
DRAW = np.random.default_rng(0)
KIND = [("cat", "dog", "eel")[i] for i in DRAW.integers(0, 3, ROWS)]
SIZE = DRAW.normal(50, 10, ROWS).round(3).tolist()


class Columns(Memory):
    def __init__(self, cells: dict[str, list[Any]]) -> None:
        splits = ["train"] * 100 + ["val"] * 10 + ["test"] * 10
        super().__init__({"kind": KIND, "size": SIZE}, splits)
        self.cells = cells

    def read(self, tasks: list[str]) -> SourceTable:
        cells = {name: column(values) for name, values in self.cells.items()}
        return replace(super().read(tasks), inputs=cells, without_image=np.ones(ROWS, dtype=bool))


def data_of(columns: dict[str, tuple[Input, list[Any]]]) -> PartialLabels:
    return PartialLabels(
        {"kind": Classification(), "size": Regression()},
        {"rows": Columns({name: cells for name, (_, cells) in columns.items()})},
        inputs={name: kind for name, (kind, _) in columns.items()},
    )


def found(kind: Input, cells: list[Any]) -> list[Finding]:
    data = data_of({"x": (kind, cells)})
    data.labels.infer_classes()
    data.labels.learn_inputs()
    return inputs.giveaways(data.labels, {"size": np.array(SIZE)})


RENAMED = [{"cat": "1", "dog": "2", "eel": "3"}[kind] for kind in KIND]


@pytest.mark.parametrize("kind", [Number, Category])
def test_a_label_under_other_names_is_an_error(kind):
    (finding,) = found(kind(), RENAMED)
    assert finding.level is Level.ERROR
    assert finding.what == (
        "input x is the label of task kind under other names, in all 100 training rows that have "
        "both"
    )


def test_a_number_in_other_units_is_an_error():
    (finding,) = found(Number(), [3 * size + 7 for size in SIZE])
    assert finding.level is Level.ERROR
    assert "task size" in finding.what


def test_numbers_under_other_names_are_an_error():
    data = data_of({"x": (Category(), [f"grade {kind}" for kind in KIND])})
    data.labels.sources["rows"].labels["size"] = [float(n) for n in RENAMED]
    data.labels.infer_classes()
    data.labels.learn_inputs()
    found = inputs.giveaways(data.labels, {"size": np.array(SIZE)})
    assert [f.what for f in found if "task size" in f.what and f.level is Level.ERROR]


def test_a_column_that_predicts_a_label_alone_is_a_warning():
    codes = [f"{kind}{i % 3}" for i, kind in enumerate(KIND)]
    (finding,) = found(Category(), codes)
    assert finding.level is Level.WARNING
    assert finding.what.startswith("input x gives task kind away: alone it predicts it with a bal")
    (finding,) = found(Number(), [float(n) + 0.1 * DRAW.random() for n in RENAMED])
    assert (finding.level, "task kind" in finding.what) == (Level.WARNING, True)
    (finding,) = found(Number(), [size**3 for size in SIZE])
    assert finding.what == (
        "input x gives task size away: alone it orders its numbers nearly perfectly"
    )


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (Number(), DRAW.normal(size=ROWS).tolist()),
        (Number(), [size + DRAW.normal(0, 5) for size in SIZE]),
        (Category(), DRAW.choice(["a", "b"], ROWS).tolist()),
        (Category(), [f"name {i}" for i in range(ROWS)]),
        (Number(), [size if i < 10 else None for i, size in enumerate(SIZE)]),
        (Number(), [1.0] * ROWS),
    ],
    ids=["noise", "helps", "noise in words", "names", "too few", "constant"],
)
def test_other_columns_are_not(kind, cells):
    assert found(kind, cells) == []


def test_the_report_shows_what_is_missing_and_opens_no_image(capsys):
    from rich.console import Console

    cells = [None if i % 4 == 0 else v for i, v in enumerate(DRAW.normal(size=ROWS))]
    data = data_of({"age": (Number(), cells), "copy": (Category(), KIND)})
    report = audit("x", data, StepSize(8), 0, True, ProgressBar(Console(quiet=True)))
    assert report.missing_inputs["age"].tolist() == [25, 3, 2]
    assert report.images is None
    assert [f.what[:22] for f in report.findings if f.level is Level.ERROR] == [
        "input copy is the labe"
    ]
    console = Console(width=120)
    for part in audit_console.parts(report):
        console.print(part)
    shown = " ".join(capsys.readouterr().out.split())
    assert "age Number 25 of 100 3 of 10 2 of 10" in shown
    assert "Inputs, with their missing cells" in audit_page.page(report)
