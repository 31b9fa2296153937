"""What a search finds in 26 trainings, and what the same find otherwise.

The settings are no attention, then SE and twelve of CBAM from the cheapest to
the dearest. An accuracy is that of its setting, a deviation of its seed, and
drawing its images. Attention is ahead if Student's t over seeds says so.
"""

import numpy as np
from scipy import stats

SETTINGS = 14
# Of no attention, and between seeds, both as fractions.
ACCURACY, DEVIATION = 0.9, 0.007
# The gain of CBAM, how its settings differ, and the gain of SE, in points; the
# validation and test images.
TRUTHS = {
    "no effect": (0, 0, 0, 400, 1_000),
    "+1, settings equal": (1, 0, 1, 400, 1_000),
    "+1, settings differ by 0.3": (1, 0.3, 1, 400, 1_000),
    "the same, but SE gains nothing": (1, 0.3, 0, 400, 1_000),
    "+1, differ by 0.3, 5,000 and 10,000 images": (1, 0.3, 1, 5_000, 10_000),
    "+1, settings differ by 1": (1, 1, 1, 400, 1_000),
}


class Searches:
    """Many searches of one truth, as arrays whose first axis they are."""

    def __init__(self, count, gain, spread, gain_of_se, *images):
        self.rng, self.images = np.random.default_rng(0), images
        self.gains = self.rng.normal(gain, spread, (count, SETTINGS)) / 100
        self.gains[:, :2] = 0, gain_of_se / 100
        scores = self.train(np.arange(SETTINGS)[None], seeds=1)[0][..., 0]
        # Equal scores are in no order.
        self.scores = scores + self.rng.uniform(0, 1e-9, scores.shape)

    def train(self, settings, seeds):
        """Returns validation and test accuracies by search, setting, seed."""
        gains = np.take_along_axis(self.gains, settings, axis=1)[..., None]
        drawn = self.rng.normal(0, DEVIATION, (*gains.shape[:2], seeds))
        accuracies = np.clip(ACCURACY + gains + drawn, 0, 1)
        return [self.rng.binomial(n, accuracies) / n for n in self.images]

    def retrain_four(self):
        """No attention, SE and the best two of CBAM with three new seeds."""
        best = np.argsort(-self.scores[:, 2:], axis=1)[:, :2] + 2
        settings = np.insert(best, [0, 0], [0, 1], axis=1)
        validated, tested = self.train(settings, seeds=3)
        means = validated.mean(axis=2)
        chosen = means.argmax(axis=1)
        # SE was no answer where no attention validated best.
        chosen[chosen == 0] = 2 + means[chosen == 0, 2:].argmax(axis=1)
        pick = np.arange(len(self.gains)), chosen
        return self.judge(tested[pick] - tested[:, 0], settings[pick])

    def retrain_winner(self, cheapest):
        """No attention and the winner of the trials with six new seeds."""
        scores = self.scores[:, 1:]
        best = scores.max(axis=1, keepdims=True)
        error = np.sqrt(best * (1 - best) / self.images[0]) if cheapest else 0
        return self.compare((scores >= best - error).argmax(axis=1) + 1, 6)

    def compare(self, settings, seeds):
        """No attention and a setting with so many new seeds."""
        both = np.stack([np.zeros_like(settings), settings], axis=1)
        tested = self.train(both, seeds)[1]
        return self.judge(tested[:, 1] - tested[:, 0], settings)

    def judge(self, differences, settings):
        """Returns percent ahead, bias and true gain in points, as text."""
        quantile = stats.t.ppf(0.975, differences.shape[1] - 1)
        means = differences.mean(axis=1)
        ahead = np.mean(means > quantile * stats.sem(differences, axis=1))
        gains = self.gains[np.arange(len(self.gains)), settings]
        bias, gain = 100 * np.mean(means - gains), 100 * gains.mean()
        return f"{100 * ahead:.1f} %, {bias:+.2f}, {gain:.2f}"


def search(searches):
    """Returns the rows of the table, a column per way to spend trainings."""
    every = {x: Searches(searches, *truth) for x, truth in TRUTHS.items()}
    default = np.full(searches, SETTINGS - 1)
    return [
        {
            "truth (ahead, bias, true gain)": name,
            "14, then four x 3 (before)": one.retrain_four(),
            "14, then none and the winner x 6": one.retrain_winner(True),
            "the same without ties": one.retrain_winner(False),
            "none and one setting x 13": one.compare(default, 13),
        }
        for name, one in every.items()
    ]
