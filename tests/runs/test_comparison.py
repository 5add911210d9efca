import math

import numpy as np
import pytest
from scipy import stats

from mtl_lightning.runs.comparison import Comparison, interval, verdict, welch
from mtl_lightning.system.errors import UserError


def entry(value, draws, higher=True, metric="accuracy"):
    return {
        "primary": metric,
        "images": "abc",
        "higher_is_better": {metric: higher},
        "metrics": {metric: value},
        "draws": {metric: list(draws)},
    }


def result(**tasks):
    return {"tasks": tasks}


KIND = np.linspace(-0.02, 0.02, 41)
RESULTS = {
    "all": [
        result(kind=entry(0.84, 0.84 + KIND), size=entry(9.0, 9 + KIND, False, "mae")),
        result(kind=entry(0.86, 0.86 + KIND), size=entry(11.0, 11 + KIND, False, "mae")),
    ],
    "only-kind": [result(kind=entry(0.80, 0.80 + KIND)), result(kind=entry(0.80, 0.80 + KIND))],
    "only-size": [
        result(size=entry(8.0, 8 + KIND, False, "mae")),
        result(size=entry(8.0, 8 + KIND, False, "mae")),
    ],
    "uw": [
        result(kind=entry(0.80, 0.80 + KIND), size=entry(8.0, 8 - KIND, False, "mae")),
        result(kind=entry(0.80, 0.80 + KIND), size=entry(8.0, 8 - KIND, False, "mae")),
    ],
}


def test_each_task_against_its_own_network():
    rows = {(row.task, row.variant): row for row in Comparison(RESULTS, True).rows()}
    assert list(rows) == [
        *[("kind", name) for name in ("only-kind", "all", "uw")],
        *[("size", name) for name in ("only-size", "all", "uw")],
        *[("", name) for name in ("all", "uw")],
    ]
    kind, size = rows["kind", "all"], rows["size", "all"]
    assert rows["kind", "only-kind"].change is None
    assert (kind.mean, kind.spread) == pytest.approx((0.85, 0.02 / math.sqrt(2)))
    assert kind.interval == pytest.approx((0.831, 0.869))
    assert kind.change.percent == pytest.approx(6.25), "0.05 of 0.8"
    assert kind.change.interval == pytest.approx((6.25, 6.25)), "the same images in both"
    assert size.change.percent == pytest.approx(-25.0), "an error that grows is worse"
    assert rows["", "all"].change.percent == pytest.approx((6.25 - 25) / 2)
    assert rows["size", "uw"].change.interval == pytest.approx((-0.475, 0.475))
    assert rows["size", "uw"].change.verdict == "within noise"


def test_without_networks_of_their_own_the_config_is_the_baseline():
    results = {name: RESULTS[name] for name in ("all", "uw")}
    rows = {(row.task, row.variant): row for row in Comparison(results, False).rows()}
    assert rows["kind", "all"].change is None
    assert rows["kind", "uw"].change.percent == pytest.approx(-100 * 0.05 / 0.85)
    assert rows["size", "uw"].change.percent == pytest.approx(20.0)
    assert ("", "all") not in rows


def test_a_variant_measured_on_other_images_is_refused():
    other = entry(0.9, 0.9 + KIND) | {"images": "def"}
    with pytest.raises(UserError, match="uw: task kind should be measured on the images of all"):
        Comparison({"all": RESULTS["all"], "uw": [result(kind=other)] * 2}, False).rows()


def test_a_variant_may_leave_a_task_out():
    results = {"all": RESULTS["all"], "uw": [result(kind=entry(0.9, 0.9 + KIND))] * 2}
    rows = Comparison(results, False).rows()
    assert [(row.task, row.variant) for row in rows] == [
        *[("kind", "all"), ("kind", "uw"), ("size", "all"), ("", "uw")]
    ]


def test_all_metrics_are_asked_for():
    found = entry(0.8, 0.8 + KIND)
    found["draws"]["bias"], found["metrics"]["bias"] = list(KIND), 0.1
    found["draws"]["n_labelled/hat"] = list(KIND)
    rows = Comparison({"all": [result(kind=found)], "uw": [result(kind=found)]}, False).rows(True)
    assert [(row.metric, row.variant) for row in rows] == [
        ("accuracy", "all"),
        ("accuracy", "uw"),
        ("bias", "all"),
        ("bias", "uw"),
        ("", "uw"),
    ]
    assert rows[3].change is None, "no direction is better"


def test_welchs_interval_is_scipys():
    one, other = np.array([0.7, 0.74, 0.71]), np.array([0.65, 0.69, 0.61])
    theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert welch(one, other) == pytest.approx((theirs.high - theirs.low) / 2)
    assert math.isnan(welch(one[:1], other[:1]))
    assert welch(np.ones(3), np.zeros(3)) == 0


@pytest.mark.parametrize(
    ("change", "over_images", "noise", "expected"),
    [
        (2.0, (1, 3), 1.0, "better"),
        (-2.0, (-3, -1), 1.0, "worse"),
        (2.0, (1, 3), 2.5, "noise of seeds"),
        (2.0, (-1, 3), 1.0, "noise of images"),
        (2.0, (-1, 3), 2.5, "within noise"),
        (2.0, (1, 3), math.nan, "better, one seed"),
        (-2.0, (-3, 1), math.nan, "within noise"),
        (math.nan, (math.nan, math.nan), 1.0, "undefined"),
    ],
)
def test_verdicts(change, over_images, noise, expected):
    assert verdict(change, over_images, noise) == expected


def test_undefined_draws_are_left_out():
    assert interval(np.array([1.0, math.nan, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, interval(np.array([math.nan]))))


def test_a_baseline_of_zero_has_no_percent():
    results = {
        "all": [result(kind=entry(0.0, KIND))],
        "uw": [result(kind=entry(0.5, 0.5 + KIND))],
    }
    row = Comparison(results, False).rows()[1]
    assert math.isnan(row.change.percent)
    assert row.change.verdict == "undefined"
