"""Ending a command by SIGTERM as by any error, so that it cleans up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from mtl_lightning.system.errors import Stopped


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """Raise `Stopped` where SIGTERM arrives.

    Args:
        message: The line that the user reads.
    """

    def stop(number: int, _: Any) -> NoReturn:
        raise Stopped(number, message)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
