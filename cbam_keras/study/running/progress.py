"""How long the networks of a run take that have yet to be trained."""

import math
import statistics
from collections.abc import Mapping, Sequence


def time_left(
    measured: Mapping[str, Sequence[float]],
    missing: Sequence[str],
    processes: int = 1,
) -> str:
    """Returns ", about 12 min left", or nothing if no network has ended.

    `measured` has the seconds of those that have, by their variant, `missing`
    the variants of the others, of which `processes` are trained at a time.
    """
    if not measured or not missing:
        return ""
    means = {name: statistics.fmean(each) for name, each in measured.items()}
    # Variants of which none has ended may take as long as the others.
    usual = statistics.fmean(means.values())
    left = [means.get(name, usual) for name in missing]
    # The last network keeps one process busy, however many there are.
    seconds = max(max(left), sum(left) / processes)
    if seconds <= 60:
        return ", less than a minute left"
    if seconds <= 7200:
        return f", about {math.ceil(seconds / 60)} min left"
    return f", about {round(seconds / 3600)} h left"
