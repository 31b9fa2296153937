"""What a search finds in 26 trainings, and what one comparison finds.

The settings are no attention and thirteen of attention, from the cheapest to
the most expensive. Attention is better if the package's verdict says so.
"""

import itertools
import math

import numpy as np
from scipy import stats

from benchmarks.simulations import studies

# Of a frozen network, heads that differ in few images are compared, too.
KINDS = {**studies.KINDS, "alike": (0, 1.5, 0, 0.1, 0.02, 0.05**0.5)}
SETTINGS, ACCURACY = 13, 0.9
VALIDATION, TEST = 400, 1_000
# The mean gain of attention, and how settings differ, in points.
TRUTHS = {
    "no effect": (0, 0),
    "+1, settings equal": (1, 0),
    "+1, settings differ by 0.3": (1, 0.3),
    "+1, settings differ by 1": (1, 1),
}


def validate(random, kind, accuracies):
    """Returns the validation accuracy of each network, with one seed."""
    total = math.sqrt(np.square(kind).sum())
    _, of_image, _, own_image, of_seed, rest = kind
    shape = len(accuracies), VALIDATION
    scores = of_image * random.standard_normal(VALIDATION)
    own = math.sqrt(own_image**2 + rest**2) * random.standard_normal(shape)
    scores = scores + own + of_seed * random.standard_normal((shape[0], 1))
    limits = -total * stats.norm.ppf(accuracies)
    return (scores > limits[:, None]).mean(axis=1)


def choose(random, scores, ties):
    """Returns the best setting, or the cheapest within a standard error."""
    best = scores.max()
    error = math.sqrt(best * (1 - best) / VALIDATION) if ties else 0
    chosen = np.flatnonzero(scores >= best - error)
    return chosen[0] if ties else random.choice(chosen)


def compare(random, kind, gain, seeds):
    """Returns whether no attention is found worse, and the bias in points."""
    sizes = [1] * TEST
    pair = ACCURACY, ACCURACY + gain
    found = studies.judge(studies.draw(random, kind, pair, seeds, sizes), sizes)
    is_better = found.p_value < 0.05 and found.difference > 0
    return is_better, 100 * (found.difference - gain), 100 * gain


def search(count):
    """Yields the rows of the table, a column per way to spend trainings."""
    random = np.random.default_rng(0)
    for (name, kind), (truth, (gain, spread)) in itertools.product(
        KINDS.items(), TRUTHS.items()
    ):
        outcomes = {
            "14, then none and the winner x 6": [],
            "the same without ties": [],
            "none and one setting x 13": [],
        }
        searched, untied, single = outcomes.values()
        for _ in range(max(count // 20, 10)):
            gains = random.normal(gain, spread, SETTINGS) / 100
            gains = np.clip(gains, None, 0.09)
            scores = validate(random, kind, ACCURACY + gains)
            for ties, found in ((True, searched), (False, untied)):
                best = gains[choose(random, scores, ties)]
                found.append(compare(random, kind, best, 6))
            single.append(compare(random, kind, gains[-1], 13))
        row = {"networks": name, "truth (better, bias, true gain)": truth}
        for way, found in outcomes.items():
            better, bias, true = np.mean(found, axis=0)
            row[way] = f"{100 * better:.1f}%, {bias:+.2f}, {true:.2f}"
        yield row


def search_with_folds(count):
    """Yields how much too high gains are where trials saw the test images.

    With folds, the validation images of trials are test images of the
    confirmation. Networks err on images of their own with each seed, so that
    the best of equal settings is partly the one that suits these images.
    """
    random = np.random.default_rng(1)
    for (name, kind), images in itertools.product(KINDS.items(), (200, 500)):
        _, of_image, _, own_image, *_ = kind
        biases = []
        for _ in range(max(count // 20, 10)):
            shape = SETTINGS + 1, images
            scores = own_image * random.standard_normal(shape)
            scores += of_image * random.standard_normal(images)
            trials = train(random, kind, scores[1:], 1)
            winner = 1 + choose(random, trials, ties=True)
            none, confirmed = train(random, kind, scores[[0, winner]], 6)
            biases.append(100 * (confirmed - none))
        error = np.std(biases) / math.sqrt(len(biases))
        yield {
            "networks": name,
            "images": f"{images}",
            "gain without an effect": f"{np.mean(biases):+.2f} ± {error:.2f}",
        }


def train(random, kind, scores, seeds):
    """Returns the mean accuracy of networks on the images that have scores."""
    *_, of_seed, rest = kind
    networks, images = scores.shape
    drawn = rest * random.standard_normal((networks, seeds, images))
    drawn += of_seed * random.standard_normal((networks, seeds, 1))
    limit = -math.sqrt(np.square(kind).sum()) * stats.norm.ppf(ACCURACY)
    return (scores[:, None] + drawn > limit).mean(axis=(1, 2))
