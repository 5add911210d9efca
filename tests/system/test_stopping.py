import os
import signal

import pytest

from mtl_lightning.system.errors import Stopped
from mtl_lightning.system.stopping import stoppable


def ended():
    with stoppable("the same command continues"):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()


def test_a_signal_is_an_error_and_the_handler_before_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="the same command continues") as caught:
        ended()
    assert caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
