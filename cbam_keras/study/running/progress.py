"""How long the networks of a run take that have yet to be trained."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence


def time_left(
    measured: Mapping[str, Sequence[float]],
    missing: Iterable[tuple[str, float]],
    processes: int = 1,
) -> str:
    """Returns ", about 12 min left", or nothing if no network has ended.

    Args:
        measured: The seconds of networks that have ended, by their variant.
        missing: The variant of each other network, and for how many seconds it
            has been trained.
        processes: How many networks are trained at a time.
    """
    if not measured:
        return ""
    means = {name: statistics.fmean(each) for name, each in measured.items()}
    # Variants of which none has ended may take as long as the others.
    usual = statistics.fmean(sum(map(list, measured.values()), start=[]))
    left = [max(0.0, means.get(name, usual) - past) for name, past in missing]
    if not left:
        return ""
    # The last one keeps one process busy, however many there are.
    seconds = max(*left, sum(left) / processes, 0.0)
    if seconds <= 60:
        return ", less than a minute left"
    minutes = math.ceil(seconds / 60)
    if minutes < 120:
        return f", about {minutes} min left"
    return f", about {round(minutes / 60)} h left"
