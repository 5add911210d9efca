import numpy as np
import pytest

from mtl_lightning.data.sources import MarketSource
from mtl_lightning.data.sources.market import INDICATORS, READ, simulate
from mtl_lightning.system.errors import UserError


def read(tasks=INDICATORS, inputs=READ, **options):
    source = MarketSource(**{"days": 30, "assets": 3} | options)
    source.inputs_wanted = inputs
    return source.read(list(tasks))


def grid(cells):
    return cells.reshape(30, 3)


def test_a_row_for_each_asset_and_business_day():
    table = read()
    assert len(table.keys) == len(set(table.keys)) == 90
    assert table.without_image.all()
    assert table.splits is None
    assert (np.diff(grid(table.dates)[:, 0]) >= np.timedelta64(1, "D")).all()
    assert np.is_busday(table.dates.astype("datetime64[D]")).all()
    assert table.inputs["date"][:4].tolist() == ["2018-01-01"] * 3 + ["2018-01-02"]
    assert grid(table.inputs["asset"])[7].tolist() == ["asset00", "asset01", "asset02"]


def test_labels_are_of_the_next_day_and_inputs_of_those_before():
    table = read()
    today = grid(table.inputs["return_1"]).astype(float)
    assert grid(table.labels["move"])[:-1].astype(float) == pytest.approx(np.abs(today[1:]))
    up = grid(table.labels["direction"])[:-1] == "up"
    assert (up == (today[1:] > 0)).all()
    volume = grid(table.inputs["volume_1"])
    assert (grid(table.labels["volume"])[:-1] == volume[1:]).all()
    five = grid(table.inputs["return_5"]).astype(float)
    assert five[10] == pytest.approx(today[6:11].sum(0), abs=1e-3)
    own = np.sqrt((today[5:25] ** 2).mean(0))
    assert grid(table.inputs["volatility_20"]).astype(float)[24] == pytest.approx(own, abs=1e-3)


def test_returns_are_as_those_of_markets():
    returns, volumes = simulate(3000, 4, 0)
    size = np.abs(returns)

    def after(values, others):
        return np.mean([np.corrcoef(values[:-1, i], others[1:, i])[0, 1] for i in range(4)])

    assert -0.25 < after(returns, returns) < 0, "the sign is hardly predictable"
    assert after(size, size) > 0.15, "volatility comes in clusters"
    assert after(volumes, size) > 0.15, "volume says something of it"
    standard = (returns - returns.mean(0)) / returns.std(0)
    assert ((standard**4).mean(0) > 5).all(), "tails are heavier than normal, 3"


def test_the_seed_makes_the_market_and_missing_leaves_labels_out():
    one, again, other = read(), read(missing={"move": 0.5}), read(seed=1)
    assert (one.labels["move"] != other.labels["move"]).any()
    left_out = np.array([cell is None for cell in again.labels["move"]])
    assert left_out.sum() == 45
    assert (again.labels["move"] == one.labels["move"])[~left_out].all()
    assert (again.labels["volume"] == one.labels["volume"]).all()


def test_tasks_may_have_names_of_their_own():
    table = read(tasks=["trend"], inputs=["asset"], labels={"trend": "direction"})
    assert list(table.labels) == ["trend"]
    assert table.columns == {"trend": ["direction"], "asset": ["asset"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": 9}, "market: days should be at least 10. Found 9"),
        ({"assets": 0}, "market: assets should be at least 1. Found 0"),
        ({"seed": -1}, "market: seed should be at least 0. Found -1"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(UserError) as caught:
        read(**options)
    assert str(caught.value) == message
