"""Timing of functions that are called in turn."""

import random
import statistics
import time

import numpy as np

WARM_UP = 2


def by_turns(functions, repeats, clock=time.perf_counter):
    """Returns the median and two percentiles of the seconds of each function.

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
            start = clock()
            functions[name]()
            seconds[name].append(clock() - start)
    return {
        name: {
            "median": statistics.median(each),
            "percentile_10": float(np.percentile(each, 10)),
            "percentile_90": float(np.percentile(each, 90)),
        }
        for name, each in seconds.items()
    }


def compared(functions, repeats, clock=time.perf_counter):
    """Returns the times of functions, and what they add to the first.

    Args:
        functions: Dictionary of functions by what is measured and by the
            kind, as `("training", "cbam")`. The first kind of each is what
            the others are compared with.
        repeats: Positive integer, the number of rounds.
        clock: Function that returns the present second.
    """
    rows, bases = [], {}
    for (what, kind), row in by_turns(functions, repeats, clock).items():
        base = bases.setdefault(what, row["median"])
        added, ratio = row["median"] - base, row["median"] / base
        more = {"added": added, "ratio": ratio}
        rows.append({"what": what, "kind": kind, **row, **more})
    return rows


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
