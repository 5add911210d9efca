"""What every test shares."""

import pytest

from mtl_lightning.quiet import NOISE


def pytest_configure(config: pytest.Config) -> None:
    """Let tests ignore exactly the upstream warnings that users are spared, for the same reasons."""
    for message in NOISE:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
