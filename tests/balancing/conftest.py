"""The cases that the tests of balancing run on two ranks."""

from typing import Any

import pytest
from torch import Tensor

from tests.balancing import test_ranks, test_table
from tests.helpers import ranks


@pytest.fixture(scope="package")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Return what `test_ranks.balanced` returns on two ranks, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    cases: dict[Any, ranks.Case] = {
        (name, of): (
            f"{test_ranks.__name__}.balanced",
            {"folder": folder, "name": name, "of": of, "devices": 2},
        )
        for name, of in test_ranks.CASES + test_ranks.WITH_LAYERS
    }
    return dict(zip(cases, ranks.run(list(cases.values()), folder), strict=True))


@pytest.fixture(scope="package")
def table_on_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Return what `test_table.weights_on_ranks` returns."""
    (found,) = ranks.run([test_table.CASE], tmp_path_factory.mktemp("table"))
    weights: dict[str, dict[str, Tensor]] = found
    return weights
