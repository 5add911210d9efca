import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mtl_lightning.tasks.label_metrics import BINS
from mtl_lightning.tasks.plot_records import (
    ConfusionCounts,
    LabelCurves,
    PlotRecord,
    ScatterSample,
    ScatterSamples,
    UnknownRecord,
    record_from_json,
    record_to_json,
)


@dataclass(eq=False)
class Own(ConfusionCounts):
    """A record that somebody derives from one of ours."""


def made() -> dict[str, PlotRecord]:
    draw = np.random.default_rng(0)
    histograms = draw.integers(0, 3, (2, 2, BINS)) * (draw.random((2, 2, BINS)) < 0.1)
    points = np.array([[1.0, np.nan], [2.0, 3.0]])
    predictions = draw.normal(1.7e9, 1, 7)
    return {
        "confusion": ConfusionCounts(["a", "ü"], np.array([[3, 0], [1, 2]])),
        "curves": LabelCurves(["hat", "bag"], *histograms),
        "scatter": ScatterSample(predictions, predictions * 3 + 1, 90),
        "scatters": ScatterSamples(["x", "y"], points, points + 1, 7, True),
        "interval": ScatterSample(predictions, predictions, 9, predictions - 1, predictions, True),
        "own": Own(["x", "y"], np.eye(2, dtype=np.int64)),
    }


def written(record: PlotRecord) -> Any:
    return json.loads(json.dumps(record_to_json(record), allow_nan=False))


@pytest.mark.parametrize("name", made())
def test_a_record_survives_json_bit_for_bit(name):
    record = made()[name]
    again = record_from_json(written(record))
    assert type(again) is type(record)
    for key, value in vars(record).items():
        if isinstance(value, np.ndarray):
            nan = value.dtype.kind == "f"
            assert np.array_equal(getattr(again, key), value, equal_nan=nan), key
            assert getattr(again, key).dtype == value.dtype
        else:
            assert getattr(again, key) == value


def test_a_large_confusion_matrix_is_stored_sparsely():
    names = [str(i) for i in range(1000)]
    record = ConfusionCounts(names, np.eye(1000, dtype=np.int64))
    values = written(record)
    assert len(values["counts"]["cells"]) == 1000
    assert len(json.dumps(values)) < 40_000


def test_what_is_not_finite_becomes_nan():
    numbers = np.array([1.5, np.nan, np.inf])
    record = ScatterSample(numbers, np.ones(3), 3)
    assert written(record)["predictions"] == [1.5, None, None]
    again = record_from_json(written(record))
    assert isinstance(again, ScatterSample)
    assert np.isnan(again.predictions).tolist() == [False, True, True]


def test_the_area_of_a_curve_is_that_of_its_metric():
    positives, negatives = np.zeros((2, 1, BINS), dtype=np.int64)
    positives[0, [100, 900]] = 1
    negatives[0, [100, 600]] = 1
    record = LabelCurves(["hat"], positives, negatives)
    assert record.outcomes().tolist() == [[1, 1, 1, 1]]
    assert record.average_precision() == pytest.approx([0.5 * 1 + 0.5 * 2 / 4])


def test_a_record_of_a_class_that_is_not_imported_is_kept_as_it_is():
    values = {"class_path": "somewhere.Else", "classes": []}
    record = record_from_json(values)
    assert isinstance(record, UnknownRecord)
    assert record_to_json(record) == values


DAMAGED: list[tuple[str, Mapping[str, Any]]] = [
    ("confusion", {"counts": {"cells": [4], "counts": [1]}}),
    ("confusion", {"counts": {"cells": [-1], "counts": [1]}}),
    ("confusion", {"counts": {"cells": [0, 1, 2], "counts": [1, 2]}}),
    ("confusion", {"counts": []}),
    ("curves", {"bins": 10**12}),
    ("scatter", {"labels": [1.0]}),
    ("scatter", {"labels": ["x"] * 7}),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGED)
def test_damaged_values_are_refused(name, damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        record_from_json({**written(made()[name]), **damage})
