import io
import threading
import time

import pytest
from rich.console import Console

from mtl_lightning.system.progress import ProgressBar


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=80)


def test_results_are_in_order_from_several_threads():
    seen = set()

    def square(number):
        seen.add(threading.get_ident())
        return number**2

    progress = ProgressBar(console(False))
    assert progress.map(square, range(500), "squares", 3) == [n**2 for n in range(500)]
    assert len(seen) <= 3
    assert threading.get_ident() not in seen
    assert progress.map(square, [], "nothing", 2) == []


def test_a_bar_is_shown_of_what_takes_long_where_somebody_watches():
    for terminal, patience, shown in ((True, 0.0, True), (True, 60, False), (False, 0.0, False)):
        out = console(terminal)
        assert ProgressBar(out, patience).map(abs, [-1, -2, -3], "making positive", 1) == [1, 2, 3]
        assert ("making positive" in out.file.getvalue()) == shown


def test_an_error_is_passed_on_and_the_bar_goes():
    out = console(True)
    try:
        ProgressBar(out, 0.0).map(lambda n: 1 // n, [2, 1, 0, 1], "dividing", 1)
    except ZeroDivisionError:
        assert "\x1b[?25h" in out.file.getvalue(), "the cursor is shown again"
    else:
        raise AssertionError


def test_after_an_error_no_call_is_begun_that_only_waited():
    begun = []

    def call(number):
        begun.append(number)
        time.sleep(0.05)
        if number == 0:
            raise ZeroDivisionError
        return number

    with pytest.raises(ZeroDivisionError):
        ProgressBar(console(False)).map(call, range(20), "calls", 1)
    assert len(begun) < 4
