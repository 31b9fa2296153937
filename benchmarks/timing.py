"""Timing of functions that are called in turn."""

import math
import random
import statistics
import time

import numpy as np

WARM_UP = 2


def by_turns(functions, repeats):
    """Returns the seconds of each call of each function, warmed up.

    Each round calls all of them, so that other load on the machine affects
    all, in a new random order: the threads of a framework stay busy for a
    while and disturb the next call.
    """
    for function in functions.values():
        for _ in range(WARM_UP):
            function()
    seconds = {name: [] for name in functions}
    order, shuffled = list(functions), random.Random(0)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for name in order:
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds):
    """Returns the median, and the 10th and 90th percentiles."""
    return {
        "median": statistics.median(seconds),
        "percentile_10": float(np.percentile(seconds, 10)),
        "percentile_90": float(np.percentile(seconds, 90)),
    }


def geometric_mean(numbers):
    return math.exp(statistics.fmean(map(math.log, numbers)))


def milliseconds(measured):
    """Returns a median with its spread, as a cell of a table."""
    median, low, high = (
        digits(1000 * measured[key])
        for key in ("median", "percentile_10", "percentile_90")
    )
    return f"{median} ({low} to {high})"


def digits(number):
    """Returns a number with three digits, or all before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def added_ratio(values, arm="cbam", other="naive", base="none"):
    """Returns what one arm adds to the base, over what another one adds.

    `None` where the other adds nothing that could be measured.
    """
    added = values[other] - values[base]
    return (values[arm] - values[base]) / added if added > 0 else None


def ratio_text(ratio):
    return "unknown" if ratio is None else f"{ratio:.2f}"
