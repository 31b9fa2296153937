"""Studies of two networks whose accuracies are known, image by image.

A network is right where a normal score is above a limit. The score has a part
of the patient, of the image, of both with the network, of the seed, and a rest.
"""

import itertools
import math

import numpy as np
from scipy import stats

from cbam_keras.study.results.statistics import Measured, interval_of_fraction

# Standard deviations of what both networks share (patient, image), of what each
# has for itself (patient, image), of a seed, and of the rest.
KINDS = {
    "from scratch": (0, 0.7, 0, 0.3, 0.08, 1),
    "opposed": (0, 0.3, 0, 1.2, 0.05, 1),
    "frozen": (0, 1.5, 0, 0.5, 0.02, 0.05**0.5),
}
OF_PATIENTS = {
    "patients": (0.7, 0.7, 0.3, 0.3, 0.08, 1),
    "patients alike inside": (1.5, 0.5, 0.8, 0.3, 0.08, 1),
}
PER_PATIENT = 10
SEEDS = 3, 5, 20
HOW_MANY = "10 each", "50 each", "1 to 19", "log-normal", "one has half"


def draw(random, kind, accuracies, seeds, sizes):
    """Returns differences `(seeds, images)` between two networks.

    `sizes` are the images of each patient.
    """
    images, patients = sum(sizes), len(sizes)
    patient_of = np.repeat(np.arange(patients), sizes)
    total = math.sqrt(np.square(kind).sum())
    of_patient, of_image, own_patient, own_image, of_seed, rest = kind
    shared = of_image * random.standard_normal(images)
    shared += (of_patient * random.standard_normal(patients))[patient_of]
    right = []
    for accuracy in accuracies:
        own = own_image * random.standard_normal(images)
        own += (own_patient * random.standard_normal(patients))[patient_of]
        scores = rest * random.standard_normal((seeds, images)) + shared + own
        scores += of_seed * random.standard_normal((seeds, 1))
        right.append(scores > -total * stats.norm.ppf(accuracy))
    return right[1].astype(float) - right[0]


def judge(changes, sizes):
    """Returns what the package says of these differences."""
    images, patients = sum(sizes), len(sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    sums = np.add.reduceat(changes, starts, axis=1) * patients / images
    values = [0.5] * len(changes)
    return Measured.of(values, sums, images, sizes=[*sizes])


def draw_sizes(random, patients, how):
    """Returns the images of each patient."""
    if how == "10 each":
        return [PER_PATIENT] * patients
    if how == "50 each":
        return [50] * patients
    if how == "1 to 19":
        return random.integers(1, 2 * PER_PATIENT, patients).tolist()
    if how == "one has half":
        return [PER_PATIENT * (patients - 1)] + [PER_PATIENT] * (patients - 1)
    drawn = random.lognormal(math.log(PER_PATIENT) - 0.5, 1, patients)
    return np.maximum(1, drawn).round().astype(int).tolist()


def groups(studies):
    """Yields how often intervals of patients hold, and find, a difference."""
    pairs = ((0.5, 0.5), (0.7, 0.8), (0.9, 0.9), (0.9, 0.95), (0.98, 0.99))
    random = np.random.default_rng(3)
    for how in HOW_MANY:
        for patients in (3, 10, 24, 100):
            row = {"images a patient": how, "patients": f"{patients}"}
            for name, kind in OF_PATIENTS.items():
                held, claimed = {}, {}
                for pair in pairs:
                    truth, ends = pair[1] - pair[0], []
                    for _ in range(max(studies // 50, 10)):
                        sizes = draw_sizes(random, patients, how)
                        changes = draw(random, kind, pair, 5, sizes)
                        # Networks that differ nowhere have an interval, too.
                        ends.append(judge(changes, sizes).interval)
                    low, high = np.array(ends).T
                    held[pair] = np.mean((low <= truth) & (truth <= high))
                    claimed[pair] = np.mean((low > 0) | (high < 0))
                row[f"{name}: covered"] = _range(held.values())
                if name == "patients":
                    equal = [claimed[x] for x in pairs if x[0] == x[1]]
                    row["claimed without a difference"] = _range(equal)
                    for pair in ((0.9, 0.95), (0.7, 0.8)):
                        first, second = (f"{100 * x:g}" for x in pair)
                        heading = f"found: {first} against {second}%"
                        row[heading] = f"{100 * claimed[pair]:.0f}%"
            yield row


def _range(fractions):
    low, high = (100 * x for x in (min(fractions), max(fractions)))
    return f"{low:.1f} to {high:.1f}%"


def detectable(studies):
    """Yields how often studies find the difference that a pilot prints.

    A pilot of equal networks says what such studies find; then one study is
    drawn in which a network is better by as much, and one in which it is worse.
    """
    random = np.random.default_rng(4)
    images_and_accuracies = itertools.product((50, 200, 1000), (0.75, 0.9))
    for images, accuracy in images_and_accuracies:
        row = {"images": f"{images:,}", "accuracy": f"{100 * accuracy:g}%"}
        for (name, kind), seeds in itertools.product(KINDS.items(), SEEDS):
            found = {1: [], -1: []}
            pilots = max(studies // 200, 10)
            for _ in range(pilots):
                sizes = [1] * images
                equal = draw(random, kind, [accuracy] * 2, seeds, sizes)
                pilot = judge(equal, sizes)
                if not pilot.standard_error:
                    continue
                difference = pilot.detectable()
                for sign, claimed in found.items():
                    other = accuracy + sign * difference
                    if 0 < other < 1:
                        pair = accuracy, other
                        changes = draw(random, kind, pair, seeds, sizes)
                        # Equal seeds may leave no error, and no interval.
                        ends = judge(changes, sizes).interval or (0, 0)
                        claimed.append(ends[0] > 0 or ends[1] < 0)
            gain, loss = (
                f"{100 * np.mean(x):.0f}" if len(x) > pilots / 2 else "-"
                for x in found.values()
            )
            row[f"{name}, {seeds}"] = f"{gain} / {loss}"
        yield row


def sensitivity(studies):
    """Yields how often intervals of patients cover a known sensitivity."""
    random = np.random.default_rng(5)
    for (patients, images), correlation, truth in itertools.product(
        ((20, 10), (50, 5), (10, 10)), (0, 0.5, 0.9), (0.7, 0.9, 0.98)
    ):
        groups = np.repeat(np.arange(patients), images)
        covered = {"images alone": [], "design effect": [], "bootstrap": []}
        for _ in range(max(studies // 20, 10)):
            scores = correlation**0.5 * random.standard_normal((patients, 1))
            rest = random.standard_normal((patients, images))
            right = scores + (1 - correlation) ** 0.5 * rest
            right = right < stats.norm.ppf(truth)
            drawn = random.integers(patients, size=(200, patients))
            means = right.mean(axis=1)[drawn].mean(axis=1)
            ends = {
                "images alone": interval_of_fraction(
                    right.ravel(), np.arange(right.size)
                ),
                "design effect": interval_of_fraction(right.ravel(), groups),
                "bootstrap": np.quantile(means, (0.025, 0.975)),
            }
            for name, (low, high) in ends.items():
                covered[name].append(low <= truth <= high)
        yield {
            "patients x images": f"{patients} x {images}",
            "correlation": f"{correlation}",
            "sensitivity": f"{100 * truth:g}%",
            **{k: f"{100 * np.mean(x):.1f}%" for k, x in covered.items()},
        }


def scores(studies):
    """Yields how often intervals of mean IoUs cover, with rare failures."""
    random = np.random.default_rng(6)
    for images, seeds in itertools.product((20, 50, 200, 1000), (5, 20)):
        covered = []
        for _ in range(max(studies // 20, 10)):
            # One network fails on 5% of images, with each seed; both fail on
            # another 2%. Elsewhere they differ by a point.
            draws = random.random(images)
            mean = 0.85 + 0.05 * random.standard_normal(images)
            noise = 0.02 * random.standard_normal((2, seeds, images))
            first = np.where(draws < 0.07, 0, mean + noise[0])
            fails = (draws >= 0.05) & (draws < 0.07)
            second = np.where(fails, 0, mean + 0.01 + noise[1])
            found = Measured.of(
                *([0.8] * seeds, second - first, images), are_counts=False
            )
            low, high = found.interval
            covered.append(low <= 0.05 * 0.86 + 0.93 * 0.01 <= high)
        yield {
            "images": f"{images:,}",
            "seeds": f"{seeds}",
            "covered": f"{100 * np.mean(covered):.1f}%",
        }
