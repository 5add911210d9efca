"""One pair of processes for all that the tests of balancing want of two ranks."""

from typing import Any

import pytest

from tests import two_ranks
from tests.balancing import conditions, test_ranks


@pytest.fixture(scope="package")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    cases: dict[Any, two_ranks.Case] = {
        (name, of): (
            f"{test_ranks.__name__}.balanced",
            {"folder": folder, "name": name, "of": of, "devices": 2},
        )
        for name, of in test_ranks.CASES
    }
    cases["by hand"] = conditions.case()
    return dict(zip(cases, two_ranks.run(list(cases.values()), folder), strict=True))
