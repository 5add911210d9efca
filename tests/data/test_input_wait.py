import itertools

import pytest

from mtl_lightning.data.input_wait import ENOUGH, STARTING, InputWaitTimer


class Clock:
    """Goes on only when it may."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def slow(self, batches, seconds):
        for batch in batches:
            self.now += seconds
            yield batch


@pytest.fixture
def clock():
    return Clock()


def epoch(clock, timer, number, loading, training):
    """Go through an epoch: seconds to load each batch (or one number), and to train on it."""
    seconds = iter(loading) if isinstance(loading, list) else itertools.repeat(loading)

    def loaded(batches):
        for batch in batches:
            clock.now += next(seconds)
            yield batch

    for _ in timer.wrap(loaded)(iter(range(number))):
        clock.now += training


def test_the_share_is_the_time_in_next_against_all_time(clock):
    timer = InputWaitTimer(clock)
    assert timer.share() is None
    epoch(clock, timer, 10, loading=1.0, training=3.0)
    timer.pause()
    assert timer.share() == pytest.approx(0.25)


def test_batches_pass_through_in_order(clock):
    assert list(InputWaitTimer(clock).wrap(lambda batches: batches)(iter("abc"))) == ["a", "b", "c"]


def test_a_pause_ends_with_the_next_batch(clock):
    timer = InputWaitTimer(clock)
    batches = timer.wrap(lambda given: clock.slow(given, 1.0))(iter(range(4)))
    for number in batches:
        clock.now += 1.0
        if number == 1:
            timer.pause()
            clock.now += 1000.0  # a validation
            timer.pause()
            assert timer.share() == pytest.approx(0.5)
    clock.now += 1000.0
    assert timer.share() == pytest.approx(0.5), "after the last batch it has stopped"


def test_each_epoch_is_measured_separately(clock):
    timer = InputWaitTimer(clock)
    epoch(clock, timer, 3, loading=1.0, training=0.0)
    clock.now += 1000.0
    epoch(clock, timer, 3, loading=1.0, training=4.0)
    timer.pause()
    assert timer.share() == pytest.approx(0.2)


def test_the_loader_is_begun_by_the_first_batch_alone(clock):
    timer = InputWaitTimer(clock)
    epoch(clock, timer, 3, loading=1.0, training=1.0)
    timer.wrap(lambda batches: batches)(iter(range(3)))  # Lightning makes an iterator early
    assert timer.batches == 3


def test_the_first_batches_make_no_starved_training(clock):
    timer = InputWaitTimer(clock)
    slow_start = [100.0] * STARTING + [1.0] * 100
    epoch(clock, timer, ENOUGH, slow_start, training=9.0)
    assert timer.share() > 0.5
    assert timer.starved() is None
    fast_start = [0.0] * STARTING + [1.0] * 100
    epoch(clock, timer, ENOUGH, fast_start, training=1.0)
    timer.pause()
    assert timer.starved() == pytest.approx(0.5)


def test_a_few_batches_say_nothing(clock):
    timer = InputWaitTimer(clock)
    epoch(clock, timer, ENOUGH - 1, loading=5.0, training=1.0)
    assert timer.starved() is None
