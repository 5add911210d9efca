"""What every test shares."""

import pytest

from mtl_lightning.quiet import NOISE, quieten


def pytest_configure(config: pytest.Config) -> None:
    """Let tests ignore exactly the upstream warnings that users are spared, for the same reasons."""
    quieten()
    for message in NOISE:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
