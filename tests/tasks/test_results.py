import json
import math

import pytest

from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.tasks.results import Results

NAN = float("nan")
TASKS = {
    "kind": Classification(["a", "b"], weight=2.0),
    "size": Regression(),
    "rare": Classification(["a", "b"]),
}


def results(size_r2=0.5):
    values = {
        "kind": {"n_labelled": 10, "loss": 0.5, "accuracy": 0.9, "balanced_accuracy": 0.8},
        "size": {"n_labelled": 4, "loss": 3.0, "r2": size_r2},
        "rare": {"n_labelled": 0},
    }
    return Results.of("val", TASKS, values)


def test_loss_is_the_weighted_sum_and_score_the_mean_over_present_tasks():
    assert results().loss == 2 * 0.5 + 3.0
    assert results().score == pytest.approx((0.8 + 0.5) / 2)
    assert results(size_r2=-7.0).score == pytest.approx((0.8 + 0.0) / 2)


def test_an_undefined_metric_has_no_part_in_the_score():
    assert results(size_r2=NAN).score == pytest.approx(0.8)
    assert results(size_r2=NAN).loss == 4.0


def test_a_diverged_loss_is_seen():
    values = {"kind": {"n_labelled": 1, "loss": NAN, "balanced_accuracy": 0.5}}
    assert math.isnan(Results.of("val", TASKS, values).loss)


def test_without_any_label_there_is_neither():
    empty = Results.of("test", TASKS, {name: {"n_labelled": 0} for name in TASKS})
    assert (empty.loss, empty.score) == (None, None)
    assert empty.flat() == {f"test/{name}/n_labelled": 0 for name in TASKS}


def test_flat_names():
    assert results(size_r2=NAN).flat() == {
        "val/loss": 4.0,
        "val/score": 0.8,
        "val/kind/n_labelled": 10,
        "val/kind/loss": 0.5,
        "val/kind/accuracy": 0.9,
        "val/kind/balanced_accuracy": 0.8,
        "val/size/n_labelled": 4,
        "val/size/loss": 3.0,
        "val/rare/n_labelled": 0,
    }


@pytest.mark.parametrize("undefined", [NAN, float("inf"), -float("inf")])
def test_plain_is_json_with_null_for_what_is_undefined(undefined):
    plain = results(size_r2=undefined).plain()
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text) == plain
    assert plain["tasks"]["size"] == {"n_labelled": 4, "loss": 3.0, "r2": None}
    assert plain["tasks"]["rare"] == {"n_labelled": 0}
    assert plain["split"] == "val"
    assert list(plain["tasks"]) == ["kind", "size", "rare"]
