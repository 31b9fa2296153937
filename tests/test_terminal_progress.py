"""How long work takes: the time left, and bars that can be hidden."""

import keras
import pytest

from cbam_keras import _terminal
from cbam_keras._terminal import TimeLeft


@pytest.fixture
def clock(monkeypatch):
    """Returns a function that lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(_terminal.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_the_time_left_is_that_of_equal_parts(clock):
    left = TimeLeft(4)
    assert left.at(1) == ""
    clock(60)
    assert left.at(2) == ", about 3 minutes left"
    clock(180)
    # Two parts, of two minutes on average.
    assert left.at(3) == ", about 4 minutes left"


def test_parts_of_an_earlier_call_do_not_count(clock):
    left = TimeLeft(10)
    for number in range(1, 6):
        assert left.at(number) == ""
        clock(0.1)
    left.at(6)
    clock(100)
    # Four parts of 100 seconds.
    assert left.at(7) == ", about 7 minutes left"


def test_seconds_are_not_told(clock):
    left = TimeLeft(3)
    left.at(1)
    clock(2)
    assert left.at(2) == ""


def test_what_the_time_is_for_is_told(clock):
    left = TimeLeft(3, "the trials")
    left.at(1)
    clock(30)
    assert left.at(2) == ", about 60 seconds left for the trials"


def test_hidden_bars_yield_the_same(clock, monkeypatch):
    def no_bar(module, **options):
        raise AssertionError(module)

    monkeypatch.setattr(_terminal._checks, "require", no_bar)
    with _terminal.hidden():
        assert list(_terminal.watched("abc", 3, "title")) == [*"abc"]
    with pytest.raises(AssertionError, match="rich"):
        list(_terminal.watched("abc", 3, "title"))
    keras.config.disable_interactive_logging()
    try:
        assert list(_terminal.watched("abc", 3, "title")) == [*"abc"]
    finally:
        keras.config.enable_interactive_logging()
