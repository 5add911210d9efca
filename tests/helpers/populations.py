"""Training images to sample from, for the tests here."""

from collections.abc import Sequence

import numpy as np

from mtl_lightning.data.sampling import Population, Sampling


def population(sources: Sequence[int], **strata: Sequence[int]) -> Population:
    tasks = {task: np.array(codes, dtype=np.int64) for task, codes in strata.items()}
    return Population(np.array(sources), np.full(len(sources), -1), tasks)


def random(seed: int, rows: int = 60, tasks: int = 3) -> Population:
    """Return images of three sources, with labels of some tasks; each is labelled."""
    draw = np.random.default_rng(seed)
    strata = draw.integers(-2, 3, (rows, tasks)).clip(-1)
    strata[np.arange(rows), draw.integers(0, tasks, rows)] = 1
    columns = {f"t{i}": strata[:, i].tolist() for i in range(tasks)}
    return population(draw.integers(0, 3, rows).tolist(), **columns)


def taken(sampling: Sampling, given: Population, step: int = 8, seed: int = 0) -> np.ndarray:
    """Return an epoch, which is as long as the population and the same when it is asked again."""
    places = sampling.draw(given, step, np.random.default_rng([seed, 0]))
    again = sampling.draw(given, step, np.random.default_rng([seed, 0]))
    assert places.tolist() == again.tolist()
    assert len(places) == len(given)
    assert set(places) <= set(range(len(given)))
    return places
