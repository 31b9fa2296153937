"""Studies by AUC, F1, RMSE and the like, whose truth is known.

Networks score examples by normal values: of the class, of the example, of both
with the network, of the seed, and a rest; patients have a part of the values of
their examples. Each study is judged twice by the package, with two equal
networks and with a better one. Intervals should cover the difference for new
seeds and new examples or patients.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special, stats

from cbam_keras.study.plans import measures
from cbam_keras.study.results.changes import (
    compare_examples,
    explain_no_interval,
)
from cbam_keras.study.results.kept import Kept, Numbers, Predictions
from cbam_keras.study.results.statistics import (
    BY_CHANCE,
    Measured,
    interval_of_area,
)

# Standard deviations of what a network adds to an example, a seed to an
# example, and a seed to a class.
KINDS = {"frozen": (0.45, 0.2, 0.03), "scratch": (0.3, 0.9, 0.1)}
# The scores of a class are higher for its examples, more so by a network that
# is better. Errors of numbers are smaller.
SEPARATION, BETTER, FEWER_ERRORS = 1.5, 0.5, 0.15
# How much of the variance of scores patients share, also of what is a
# network's own.
OF_PATIENT = 0.4
# The examples and seeds of the truth.
MANY_EXAMPLES, MANY_SEEDS = 20_000, 10

OF_CLASSES = (*measures.OF_SEVERAL, "balanced_accuracy", "brier")
OF_NUMBERS = "mae", "rmse", "r2"


@dataclasses.dataclass(frozen=True)
class Design:
    """What a study has: examples of each class, seeds, and patients.

    Without classes, it predicts numbers. With patients, each has the same
    number of examples, of one class if `by_patient`.
    """

    kind: str
    counts: tuple[int, ...]
    seeds: int
    patients: int = 0
    by_patient: bool = False
    task: str = "classes"

    @property
    def examples(self) -> int:
        return sum(self.counts)

    @property
    def measures(self) -> Sequence[str]:
        by_task = {
            "classes": OF_CLASSES,
            "labels": measures.OF_SEVERAL,
            "numbers": OF_NUMBERS,
        }
        return by_task[self.task]

    @property
    def words(self) -> str:
        """The design as a cell of a table."""
        counts = " + ".join(f"{x:,}" for x in self.counts)
        words = f"{self.task}: {counts}"
        if self.patients:
            words += f", {self.patients} patients"
        return words + (" of one class each" if self.by_patient else "")


def draw_labels(random, design):
    """Returns classes or labels of examples, and the patient of each."""
    examples, classes = design.examples, len(design.counts)
    patient_of = np.arange(examples)
    if design.patients:
        patient_of = np.repeat(
            np.arange(design.patients), examples // design.patients
        )
    if design.task == "labels":
        # Each label has so many examples of all, some none and some several.
        chances = np.array(design.counts) / examples
        labels = random.random((examples, classes)) < chances
        if design.by_patient:
            every = examples // design.patients
            labels = labels[::every][patient_of]
        return labels.astype(int), patient_of
    labels = np.repeat(np.arange(classes), design.counts)
    if design.by_patient:
        parts = np.round(np.cumsum(design.counts) / examples * design.patients)
        place = random.permutation(design.patients)
        labels = np.searchsorted(parts, place, side="right")[patient_of]
    else:
        labels = random.permutation(labels)
    return labels, patient_of


def draw_values(random, shape, patient_of):
    """Returns normal values of examples, of which patients share a part."""
    examples = len(patient_of)
    values = random.standard_normal((*shape, examples))
    if patient_of[-1] == examples - 1:
        return values
    of_patient = random.standard_normal((*shape, patient_of[-1] + 1))
    own, shared = (1 - OF_PATIENT) ** 0.5, OF_PATIENT**0.5
    return own * values + shared * of_patient[..., patient_of]


def draw_networks(random, design, labels, patient_of):
    """Returns runs of a baseline, an equal network and a better one."""
    network, seed, of_class = KINDS[design.kind]
    if design.seeds == 1:
        # What one training adds to a class is a difference of these networks.
        of_class = 0
    names = np.arange(len(patient_of)).astype(str)
    if design.task == "numbers":
        target = random.standard_normal(len(patient_of))
        shared = draw_values(random, (), patient_of)
        runs = []
        for factor in (1, 1, 1 - FEWER_ERRORS):
            own = shared + network * draw_values(random, (), patient_of)
            shape = design.seeds, len(patient_of)
            errors = own + seed * random.standard_normal(shape)
            errors += of_class * random.standard_normal((design.seeds, 1))
            predicted = target + 0.5 * factor * errors
            runs.append(
                [
                    Numbers(names, target[:, None], x[:, None], patient_of)
                    for x in predicted
                ]
            )
        return runs
    classes = len(design.counts)
    is_class = labels.T > 0
    if labels.ndim == 1:
        is_class = labels == np.arange(classes)[:, None]
    shared = draw_values(random, (classes,), patient_of)
    runs = []
    for gain in (0, 0, BETTER):
        own = shared + network * draw_values(random, (classes,), patient_of)
        shape = design.seeds, classes, len(patient_of)
        scores = own + seed * random.standard_normal(shape)
        shift = SEPARATION + gain
        effects = of_class * random.standard_normal((design.seeds, classes, 1))
        scores += (shift + effects) * is_class
        if design.task == "labels":
            probabilities = special.expit(scores - shift / 2)
        else:
            probabilities = special.softmax(scores, axis=1)
        runs.append(
            [Predictions(names, labels, x.T, patient_of) for x in probabilities]
        )
    return runs


def value_of(measure: str, kept: Kept) -> float:
    """Returns a measure by formulas of its own, faster than scikit-learn's."""
    if isinstance(kept, Numbers):
        errors = kept.numbers - kept.labels
        if measure == "mae":
            return float(np.abs(errors).mean())
        square = np.square(errors).mean()
        if measure == "rmse":
            return float(np.sqrt(square))
        return float(1 - square / kept.labels.var())
    if measure == "brier":
        of_each = measures.brier_of_each(kept.probabilities, kept.labels)
        return float(of_each.mean())
    classes = kept.probabilities.shape[1]
    parts = []
    for one in measures.find_averaged(measure, kept.labels, classes):
        is_positive = measures.is_of(kept.labels, one)
        if measure in measures.OF_CURVES:
            parts.append(_of_curve(measure, is_positive, kept, one))
            continue
        is_predicted = measures.is_of(kept.predicted, one)
        right = (is_positive & is_predicted).sum()
        count = is_positive.sum()
        if measure == "macro_f1":
            count = (count + is_predicted.sum()) / 2
        parts.append(right / max(count, 1))
    return float(np.mean(parts))


def _of_curve(measure, is_positive, kept, one):
    """Returns the area or the average precision of scores without ties."""
    order = np.argsort(-kept.probabilities[:, one])
    is_positive = is_positive[order]
    right = np.cumsum(is_positive)[is_positive]
    places = np.flatnonzero(is_positive)
    if measure == "average_precision":
        return (right / (places + 1)).mean()
    negative = len(order) - len(places)
    return 1 - (places + 1 - right).sum() / len(places) / negative


def judge(measure: str, networks: Sequence[Kept], baselines: Sequence[Kept]):
    """Returns what the package says of runs of a network and a baseline."""
    values = [value_of(measure, x) for x in networks]
    others = [value_of(measure, x) for x in baselines]
    differences = np.subtract(values, others)
    changes = compare_examples(networks, baselines, measure, differences)
    found = Measured.of(
        values,
        changes.by_group,
        len(networks[0].images),
        are_counts=False,
        sizes=changes.sizes,
        differ=changes.differ,
        degrees=changes.degrees,
    )
    names: list[str] = []
    if isinstance(networks[0], Predictions):
        names = [*map(str, range(networks[0].probabilities.shape[1]))]
    reason = explain_no_interval(measure, networks[:1], "image", names)
    return found.without_interval(reason) if reason else found


def find_truth(random, design):
    """Returns the difference of the better network, by measure."""
    factor = MANY_EXAMPLES // design.examples
    many = dataclasses.replace(
        design,
        counts=tuple(factor * x for x in design.counts),
        seeds=MANY_SEEDS,
        patients=factor * design.patients,
    )
    labels, patient_of = draw_labels(random, many)
    first, _, better = draw_networks(random, many, labels, patient_of)
    return {
        measure: np.mean([value_of(measure, x) for x in better])
        - np.mean([value_of(measure, x) for x in first])
        for measure in design.measures
    }


def designs() -> Iterator[Design]:
    """Yields the designs of the table."""
    for kind in KINDS:
        for counts in ((80, 20), (800, 200), (980, 20)):
            for seeds in (3, 10):
                yield Design(kind, counts, seeds)
        yield Design(kind, (80, 20), 1)
        yield Design(kind, (400, 100), 1)
        yield Design(kind, (120, 60, 20), 5)
        yield Design(kind, (120, 60, 20), 5, task="labels")
        for examples in (50, 200, 1000):
            yield Design(kind, (examples,), 5, task="numbers")
        for patients in (10, 24, 100):
            counts = 6 * patients, 4 * patients
            yield Design(kind, counts, 5, patients)
        for patients in (12, 24, 100):
            counts = 6 * patients, 4 * patients
            yield Design(kind, counts, 5, patients, True)
        yield Design(kind, (12 * 24, 8 * 24), 1, 24, True)
        yield Design(kind, (120, 72, 48), 5, 24, True)
        yield Design(kind, (144, 96, 72), 5, 24, True, task="labels")
        yield Design(kind, (240,), 5, 24, task="numbers")


def find_claims(studies: int) -> Iterator[dict[str, str]]:
    """Yields how often equal networks are claimed to differ, by measure.

    A cell has false claims, the power for a better network, and how often its
    intervals cover the true difference, in percent of all studies.
    """
    worst: dict[str, float] = {}
    for number, design in enumerate(designs()):
        random = np.random.default_rng([7, number])
        truth = find_truth(random, design)
        names = design.measures
        outcomes: dict[str, list] = {name: [] for name in names}
        for _ in range(studies):
            labels, patient_of = draw_labels(random, design)
            runs = draw_networks(random, design, labels, patient_of)
            for name in names:
                equal = judge(name, runs[1], runs[0])
                better = judge(name, runs[2], runs[0])
                outcomes[name].append(_describe(equal, better, truth[name]))
        row = {
            "test data": design.words,
            "networks": design.kind,
            "seeds": f"{design.seeds}",
        }
        for name in (*OF_CLASSES, *OF_NUMBERS):
            row[HEADINGS[name]] = "-"
            if name not in names:
                continue
            found = np.array(outcomes[name], float)
            false, power = 100 * found[:, :2].mean(axis=0)
            worst[name] = max(worst.get(name, 0.0), false)
            held = found[~np.isnan(found[:, 2]), 2]
            covered = f"{100 * held.mean():.0f}" if len(held) else "no interval"
            row[HEADINGS[name]] = f"{false:.1f} / {power:.0f} / {covered}"
        yield row
    of_all = {HEADINGS[name]: f"{x:.1f}" for name, x in worst.items()}
    yield {"test data": "most false claims", **of_all}


HEADINGS = {
    "average_precision": "average precision",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
}


def _describe(equal, better, truth):
    """Returns whether a claim is false, one is right, and it is covered."""
    is_false = equal.p_value is not None and equal.p_value < BY_CHANCE
    has_found = better.p_value is not None and better.p_value < BY_CHANCE
    has_found = has_found and better.difference * truth > 0
    if better.interval is None:
        return is_false, has_found, np.nan
    low, high = better.interval
    return is_false, has_found, low <= truth <= high


def find_areas(studies: int) -> Iterator[dict[str, str]]:
    """Yields how often the interval of one network's AUC covers."""
    designs_of_area = itertools.product(
        (0.76, 0.92, 0.98),
        ((50, 20, 0), (100, 20, 0), (500, 20, 0), (200, 40, 0), (500, 100, 0)),
    )
    of_patients = itertools.product(
        (0.76, 0.92), ((240, 100, 24), (240, 60, 24), (1000, 400, 100))
    )
    random = np.random.default_rng(8)
    for area, (examples, positive, patients) in itertools.chain(
        designs_of_area, of_patients
    ):
        shift = 2**0.5 * stats.norm.ppf(area)
        row = {
            "AUC": f"{area}",
            "examples": f"{examples}, {positive} positive",
            "patients": f"{patients or '-'}",
            "covered": "-",
            "covered, patients of one class each": "-",
        }
        for by_patient in (False, True) if patients else (False,):
            design = Design(
                "frozen", (examples - positive, positive), 1, patients
            )
            design = dataclasses.replace(design, by_patient=by_patient)
            held, absent = [], 0
            for _ in range(10 * studies):
                labels, patient_of = draw_labels(random, design)
                scores = draw_values(random, (), patient_of) + shift * labels
                ends = interval_of_area(labels == 1, scores, patient_of)
                if ends is None:
                    absent += 1
                else:
                    held.append(ends[0] <= area <= ends[1])
            covered = f"{100 * np.mean(held):.1f}" if held else "-"
            key = "covered"
            if by_patient:
                key += ", patients of one class each"
            without = 100 * absent / (10 * studies)
            row[key] = f"{covered} ({without:.1f} without interval)"
        yield row
