"""One pair of processes for all that the callbacks' tests want of two ranks."""

from typing import Any

import pytest

from tests.helpers import ranks


@pytest.fixture(scope="session")
def on_two_ranks(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    here = __package__
    cases: dict[str, ranks.Case] = {
        "calibrated": (f"{here}.test_calibrate.on_ranks", {"folder": folder, "devices": 2}),
        "ema": (f"{here}.test_ema.on_ranks", {"folder": folder, "devices": 2}),
        "evaluated": (
            "tests.helpers.training.evaluated",
            {"folder": folder / "evaluated", "devices": 2},
        ),
        "recorded": (f"{here}.test_run_recorder.recorded", {"folder": folder / "recorded"}),
        "unfreeze": (f"{here}.test_unfreeze.on_ranks", {"folder": folder, "devices": 2}),
    }
    return dict(zip(cases, ranks.run(list(cases.values()), folder), strict=True))
