"""Studies whose learning rates are chosen on validation images.

    python -m benchmarks.simulations.rates

A score decides whether a network is right about an image, as in `studies`. The
rate has an effect on the mean score, and on which images a network is right
about. The rate is chosen within each run, or once for all runs by networks of
other seeds.
"""

import math

import numpy as np
from scipy import stats

from cbam_keras.study.results.statistics import Measured

# The accuracies of two networks at four rates: of each the best ones are
# close, as those of a classifier alone and with attention on features.
ACCURACIES = ((0.64, 0.68, 0.700, 0.697), (0.68, 0.704, 0.700, 0.68))
# Standard deviations of the score: of an image, of an image with the network,
# with the network and its rate, and with the seed too, and of the seed.
SHARED, OWN, OF_RATE, REST, SEED = 1.2, 0.4, 0.25, 0.35, 0.06
VALIDATED, TESTED = 180, 2_000
TOTAL = math.sqrt(SHARED**2 + OWN**2 + OF_RATE**2 + REST**2 + SEED**2)
LIMITS = -TOTAL * stats.norm.ppf(ACCURACIES)


def draw(random, seeds, images):
    """Returns what is right: `(networks, rates, seeds, images)`.

    The effects of seeds are drawn apart, so that validation and test images can
    share them.
    """
    networks, rates = LIMITS.shape
    scores = SHARED * random.standard_normal(images)
    scores = scores + OWN * random.standard_normal((networks, 1, 1, images))
    shape = networks, rates, 1, images
    scores = scores + OF_RATE * random.standard_normal(shape)
    shape = networks, rates, len(seeds[0, 0]), images
    scores = scores + REST * random.standard_normal(shape)
    return scores + SEED * seeds[..., None] > LIMITS[..., None, None]


def study(random, seeds, pilots=0):
    """Returns the differences `(seeds, images)` of a study, and its rates.

    With `pilots` the rates are those that validate best for so many other
    seeds, else each run chooses its own.
    """
    effects = random.standard_normal((*LIMITS.shape, seeds))
    if pilots:
        others = random.standard_normal((*LIMITS.shape, pilots))
        validated = draw(random, others, VALIDATED).mean(axis=(2, 3))
        best = np.repeat(validated.argmax(axis=1)[:, None], seeds, axis=1)
    else:
        # Each seed has validation images of its own.
        each = [
            draw(random, effects[..., [seed]], VALIDATED).mean(axis=(2, 3))
            for seed in range(seeds)
        ]
        best = np.stack([x.argmax(axis=1) for x in each], axis=1)
    right = draw(random, effects, TESTED).astype(float)
    runs = np.arange(seeds)
    first, second = (right[i, best[i], runs] for i in range(2))
    return second - first, best


def expected(random, count, **options):
    """Returns the mean difference of many studies, from their rates alone."""
    accuracies, found = np.array(ACCURACIES), []
    for _ in range(count):
        best = study(random, 5, **options)[1]
        chosen = [accuracies[i, best[i]].mean() for i in range(2)]
        found.append(chosen[1] - chosen[0])
    return float(np.mean(found))


def coverage(studies=1_000, truths=400):
    """Yields how often 95% intervals hold the expected difference."""
    random = np.random.default_rng(0)
    for name, options in (
        ("within each run", {}),
        ("once, by 1 other seed", {"pilots": 1}),
        ("once, by 3 other seeds", {"pilots": 3}),
    ):
        truth = expected(random, truths, **options)
        for seeds in (5, 20):
            held = claimed = 0
            for _ in range(studies):
                changes, _ = study(random, seeds, **options)
                found = Measured.of([0.5] * seeds, changes, TESTED)
                low, high = found.interval
                held += low <= truth <= high
                claimed += low > 0 or high < 0
            yield {
                "rates chosen": name,
                "seeds": str(seeds),
                "expected difference": f"{100 * truth:+.2f} points",
                "holds it": f"{100 * held / studies:.1f}%",
                "excludes zero": f"{100 * claimed / studies:.1f}%",
            }


if __name__ == "__main__":
    for row in coverage():
        print(" | ".join(row.values()), flush=True)
