"""The verdict of a search: whether attention improves accuracy."""

import math
from collections import Counter

from cbam_keras.tuning.results import finished_of, rank

# No attention, in our search space and in others.
PLAIN = ("none", False)


def verdict_of(trials, images):
    """Returns a sentence on whether attention is better than none.

    Args:
        trials: Sequence of `Trial`.
        images: Integer, the number of validation images.
    """
    known = [t for t in finished_of(trials) if "attention" in t.values]
    sides = [
        [t for t in known if (t.values["attention"] not in PLAIN) is attention]
        for attention in (True, False)
    ]
    if not known:
        return ""
    if not all(sides):
        missing = "without" if sides[0] else "with"
        return (
            f"No trial {missing} attention has finished, so whether attention "
            "improves accuracy here is not known."
        )
    epochs = set.intersection(*({t.epochs for t in side} for side in sides))
    if not epochs:
        return (
            "Trials with and without attention were trained for different "
            "numbers of epochs, so they cannot be compared."
        )
    sides = [[t for t in side if t.epochs == max(epochs)] for side in sides]
    return _compared(*sides, images)


def _compared(attentive, plain, images):
    best, other = min(attentive, key=rank), min(plain, key=rank)
    difference = best.val_accuracy - other.val_accuracy
    noise = math.sqrt(
        sum(
            t.val_accuracy * (1 - t.val_accuracy) / images
            for t in (best, other)
        )
    )
    kind = best.values["attention"]
    if abs(difference) <= 2 * noise:
        begins = "No attention is as good here"
    elif difference > 0:
        begins = f"Attention ({kind}) is ahead here"
    else:
        begins = "Attention is behind here"
    counts = Counter(t.values["attention"] for t in (*attentive, *plain))
    each = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    text = (
        f"{begins}: the best trial with attention ({best.number}, {kind}) has "
        f"a validation accuracy of {best.val_accuracy:.2%}, the best without "
        f"({other.number}) {other.val_accuracy:.2%}. The difference of "
        f"{100 * difference:+.2f} points compares with a noise of "
        f"{100 * noise:.2f} points on {images:,} validation images. "
        f"Trials of {best.epochs} epoch{'s' * (best.epochs > 1)}: {each}."
    )
    if len(attentive) != len(plain):
        more = "with" if len(attentive) > len(plain) else "without"
        text += (
            f" There were more trials {more} attention, so more draws, of "
            "which the best is taken."
        )
    return text
