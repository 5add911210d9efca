"""A pair of processes for what the tests of balancing want of two ranks."""

from typing import Any

import pytest
from torch import Tensor

from tests.balancing import test_ranks
from tests.helpers import conditions, two_ranks


@pytest.fixture(scope="package")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Return what `test_ranks.balanced` returns on two ranks, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    cases: dict[Any, two_ranks.Case] = {
        (name, of): (
            f"{test_ranks.__name__}.balanced",
            {"folder": folder, "name": name, "of": of, "devices": 2},
        )
        for name, of in test_ranks.CASES + test_ranks.WITH_LAYERS
    }
    return dict(zip(cases, two_ranks.run(list(cases.values()), folder), strict=True))


@pytest.fixture(scope="package")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Return what `conditions.weights_on_ranks` returns."""
    (found,) = two_ranks.run([conditions.case()], tmp_path_factory.mktemp("by_hand"))
    weights: dict[str, dict[str, Tensor]] = found
    return weights
