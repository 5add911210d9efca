"""A simulated market: several indicators over time, for a first run with dates, no download."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.kinds import checked_kinds
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import hashed
from mtl_lightning.system.errors import UserError

INDICATORS = ("direction", "move", "volume")
"""What can be asked: all of the day after."""
READ = ("asset", "sector", "date", "return_1", "return_5", "return_20", "volatility_20", "volume_1")
"""What can be read: all known at the end of the day."""
FIRST_DAY = np.datetime64("2018-01-01")
_SECTORS = ("energy", "banks", "health", "tech")
_WINDOW = 20

Floats = npt.NDArray[np.float64]


class MarketSource(Source):
    """A row for each asset and business day of a simulated market, with the indicators of the next.

    Returns have the best-known properties of real ones (Cont 2001, "Empirical properties of asset
    returns: stylized facts and statistical issues"): volatility comes in clusters that all assets
    share, tails are heavy, trading volume rises with it, and the sign of a return can hardly be
    predicted: here a little of the day before is undone. The prices are made up: what works here
    says nothing about a real market.

    Tasks, each about the *next* business day: ``direction`` (``up`` or ``down``), ``move`` (the
    absolute return in percent), ``volume`` (the logarithm of the volume, relative to the asset's
    usual one). Inputs: ``asset``, ``sector``, ``date``, ``return_1``, ``return_5`` and
    ``return_20`` (the sums of the last days), ``volatility_20`` (their root mean square),
    ``volume_1``. Every row has a date, and none a split: ``data.splits: {by: date}`` trains on the
    past.

    Args:
        days: Number of business days from 2018 on.
        assets: Number of assets.
        missing: Task to the fraction of its labels to leave out.
        seed: The seed of the market and of the labels left out.
        labels: Task to one of the three indicators; by default the tasks of these names.

    Raises:
        UserError: If there are no assets, or too few days.
    """

    def __init__(
        self,
        days: int = 600,
        assets: int = 16,
        missing: dict[str, float] | None = None,
        seed: int = 0,
        labels: dict[str, str] | None = None,
    ) -> None:
        for name, value, least in (("days", days, 10), ("assets", assets, 1), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"market: {name} should be at least {least}. Found {value}")
        self.days = days
        self.assets = assets
        self.missing = missing or {}
        self.seed = seed
        self.labels = labels

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Simulate the market; see `Source.read`."""
        kinds = checked_kinds("market", INDICATORS, tasks, self.labels, self.missing)
        returns, volumes = simulate(self.days, self.assets, self.seed)
        today = slice(_WINDOW, -1)
        days = np.busday_offset(FIRST_DAY, np.arange(self.days), roll="forward")
        dates = np.repeat(days, self.assets)
        names = np.tile([f"asset{i:02}" for i in range(self.assets)], self.days)
        keys = texts([f"market:{d}:{n}" for d, n in zip(dates, names, strict=True)])
        asked = {
            "direction": np.where(returns[_WINDOW + 1 :] > 0, "up", "down"),
            "move": np.abs(returns[_WINDOW + 1 :]),
            "volume": volumes[_WINDOW + 1 :],
        }
        read = {
            "asset": names,
            "sector": np.tile([_SECTORS[i % len(_SECTORS)] for i in range(self.assets)], self.days),
            "date": dates,
            **{f"return_{n}": _sums(returns, n)[today] for n in (1, 5, _WINDOW)},
            "volatility_20": np.sqrt(_sums(returns**2, _WINDOW)[today] / _WINDOW),
            "volume_1": volumes[today],
        }
        labels = {task: _cells(asked[kind]) for task, kind in kinds.items() if task in tasks}
        for task, fraction in self.missing.items():
            if task in labels:
                # The task's name keeps the labels left out for two tasks independent.
                order = np.argsort(hashed((f"{task}:{key}" for key in keys), self.seed))
                labels[task][order[: round(fraction * len(keys))]] = None
        inputs = {name: _cells(read[name]) for name in self.inputs_wanted if name in READ}
        return SourceTable(
            "market",
            images=keys,
            keys=keys,
            labels=labels,
            columns={name: [name] for name in inputs} | {t: [kinds[t]] for t in labels},
            inputs=inputs,
            slices={name: _cells(read[name]) for name in self.slices_wanted if name in READ},
            without_image=np.ones(len(keys), dtype=bool),
            dates=dates.astype("datetime64[us]"),
        )


def simulate(days: int, assets: int, seed: int) -> tuple[Floats, Floats]:
    """Simulate daily returns in percent and log volumes.

    Log volatility is an autoregression of order 1 (Taylor 1982), of the market and of each asset.

    Returns:
        Two arrays (days + 21, assets): 20 days come before the first row, and one after the last.
    """
    random = np.random.default_rng(seed)
    total = days + _WINDOW + 1
    shocks = random.standard_normal((total, assets + 1))
    heavy = random.standard_t(5, (total, assets + 1)) * np.sqrt(3 / 5)
    noise = random.standard_normal((total, assets))
    beta = random.uniform(0.5, 1.5, assets)
    usual = random.uniform(-0.3, 0.3, assets)
    returns, volumes = np.empty((total, assets)), np.empty((total, assets))
    log_volatility, before = np.zeros(assets + 1), np.zeros(assets)
    volume = np.zeros(assets)
    for day in range(total):
        log_volatility = 0.95 * log_volatility + 0.2 * shocks[day]
        market = np.exp(log_volatility[0]) * heavy[day, 0]
        own = np.exp(0.5 * log_volatility[0] + log_volatility[1:] + usual) * heavy[day, 1:]
        before = 0.6 * beta * market + 0.8 * own - 0.15 * before
        volume = 0.6 * volume + 0.4 * (log_volatility[0] + log_volatility[1:]) + 0.2 * noise[day]
        returns[day], volumes[day] = before, volume
    return returns, volumes


def _sums(values: Floats, window: int) -> Floats:
    """Return the sum of each row and those before it, as many as ``window``."""
    total = np.cumsum(values, axis=0)
    total[window:] -= total[:-window].copy()
    return total


def _cells(values: npt.NDArray[np.generic]) -> Texts:
    """Return (days, assets) or flat values as text, day after day."""
    flat = values.ravel()
    if np.issubdtype(flat.dtype, np.floating):
        return texts([f"{value:.4f}" for value in flat.tolist()])
    return texts([str(value) for value in flat])
