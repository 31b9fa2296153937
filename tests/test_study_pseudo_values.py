"""Pseudo-values of AUC, F1, R2 and others, and intervals that follow."""

import numpy as np
import pytest

from cbam_keras import study
from cbam_keras.study import Measured, compute
from cbam_keras.study.plans.measures import measure_numbers
from cbam_keras.study.results.changes import explain_no_interval
from cbam_keras.study.results.kept import Predictions
from cbam_keras.study.results.pseudo_values import (
    WITHOUT_EACH,
    find_placements,
    pseudo_values,
)
from cbam_keras.study.results.statistics import interval_of_area

pytest.importorskip("pandas", reason="results are tables")
metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

OF_CLASSES = "auc", "average_precision", "macro_f1", "balanced_accuracy"
OF_LABELS = OF_CLASSES[:3]


def draw(random, counts, ties=False):
    """Returns labels and probabilities of classes, better than by chance."""
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    scores = random.normal(size=(len(labels), len(counts)))
    scores[np.arange(len(labels)), labels] += 1
    powers = np.exp(scores)
    found = powers / powers.sum(axis=1, keepdims=True)
    return labels, np.round(found, 1) if ties else found


@pytest.mark.parametrize("measure", OF_CLASSES)
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize(
    "counts", [(9, 4), (2, 11), (7, 3, 5), (6, 0, 5, 2)], ids=str
)
def test_each_example_is_left_out_exactly(measure, ties, counts):
    labels, found = draw(np.random.default_rng(0), counts, ties)
    without = WITHOUT_EACH[measure](measure, found, labels)
    for row, value in enumerate(without):
        others = np.arange(len(labels)) != row
        expected = compute(measure, found[others], labels[others])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", OF_LABELS)
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_each_example_of_several_labels_is_left_out_exactly(measure, ties):
    random = np.random.default_rng(1)
    labels = (random.random((14, 3)) < (0.3, 0.5, 0.7)).astype(int)
    found = np.clip(labels * 0.3 + random.random((14, 3)), 0, 1)
    found = np.round(found, 1) if ties else found
    assert 1 < labels.sum(axis=0).min() and labels.sum(axis=0).max() < 13
    without = WITHOUT_EACH[measure](measure, found, labels)
    for row, value in enumerate(without):
        others = np.arange(14) != row
        expected = compute(measure, found[others], labels[others])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", ["rmse", "r2"])
@pytest.mark.parametrize("shape", [(9, 1), (9, 2), (9, 4, 2)], ids=str)
def test_each_number_is_left_out_exactly(measure, shape):
    random = np.random.default_rng(2)
    # Far from zero, where squares lose digits.
    targets = 1000 + random.normal(size=shape)
    found = targets + random.normal(size=shape)
    without = WITHOUT_EACH[measure](measure, found, targets)
    for row, value in enumerate(without):
        others = np.arange(9) != row
        expected = measure_numbers("mae", found[others], targets[others])
        assert value == pytest.approx(expected[measure], abs=1e-9)


def test_r2_without_the_only_different_target_is_that_of_scikit_learn():
    targets = np.array([[3.0]] * 5 + [[4.0]])
    for found in (targets, targets + [[0.1]] * 6):
        without = WITHOUT_EACH["r2"]("r2", found, targets)
        expected = metrics.r2_score(targets[:5], found[:5])
        assert without[5] == expected


def test_pseudo_values_are_moved_to_the_plain_measure():
    labels, found = draw(np.random.default_rng(4), (20, 12))
    area = compute("auc", found, labels)
    values = pseudo_values("auc", found, labels, area)
    assert values.mean() == pytest.approx(area)
    # Their variance is DeLong's, but for a factor n / (n - 1) of each class.
    first = found[labels == 1, 1, None] > found[labels == 0, 1]
    parts = [first.mean(axis=x).var(ddof=0) for x in (1, 0)]
    expected = parts[0] * 12 / 11**2 + parts[1] * 20 / 19**2
    variance = values.var(ddof=1) / 32
    assert variance == pytest.approx(expected * 31 / 32)


def test_placements_are_fractions_of_the_other_class():
    is_positive = np.array([True, False, True, False, False])
    scores = np.array([0.5, 0.5, 0.9, 0.1, 0.7])
    expected = [(1 + 0.5) / 3, 0.75, 1, 1, 0.5]
    assert find_placements(is_positive, scores).tolist() == pytest.approx(
        expected
    )


# Intervals.


def given(random, labels, gain, patient_of=None, seeds=5):
    """Returns runs of probabilities for two classes."""
    shared = random.normal(size=len(labels))
    if patient_of is not None:
        shared = shared + random.normal(size=patient_of.max() + 1)[patient_of]
    scores = gain * labels + shared
    noise = random.normal(size=(seeds, len(labels)))
    return [*(1 / (1 + np.exp(-(scores - gain / 2 + 0.3 * noise))))]


def by_hand(measure, networks, baselines, labels, group_of):
    """Returns differences `(seeds, groups)` by leaving out each example."""
    rows = []
    for pair in zip(networks, baselines, strict=True):
        values, without = [], []
        for positive in pair:
            found = np.stack([1 - positive, positive], axis=1)
            values.append(compute(measure, found, labels))
            every = np.arange(len(labels))
            without.append(
                [
                    compute(measure, found[every != x], labels[every != x])
                    for x in every
                ]
            )
        change, left = values[0] - values[1], np.subtract(*without)
        count = len(labels)
        pseudo = count * change - (count - 1) * left
        pseudo += change - pseudo.mean()
        groups = group_of.max() + 1
        rows.append(np.bincount(group_of, pseudo) * groups / count)
    return rows


@pytest.mark.parametrize("measure", OF_CLASSES)
def test_the_interval_is_that_of_pseudo_values_of_seeds_and_examples(measure):
    random = np.random.default_rng(5)
    labels = random.permutation(np.repeat([0, 1], (40, 25)))
    networks = {
        "none": given(random, labels, 1, seeds=3),
        "cbam": given(random, labels, 2, seeds=3),
    }
    row = study.results_of(networks, labels, measure=measure).rows[1]
    assert row.over == "3 seeds and 65 test examples"
    changes = by_hand(
        measure, networks["cbam"], networks["none"], labels, np.arange(65)
    )
    expected = Measured.of(
        row.values, changes, 65, are_counts=False, degrees=row.image_degrees
    )
    assert row.interval == pytest.approx(expected.interval)
    assert row.p_value == pytest.approx(expected.p_value)
    # Satterthwaite's, over the classes.
    mean = np.mean(changes, axis=0)
    squares = [np.var(mean[labels == x]) * np.sum(labels == x) for x in (0, 1)]
    total = np.square(squares) / (39, 24)
    assert row.image_degrees == pytest.approx(sum(squares) ** 2 / total.sum())


@pytest.mark.parametrize("measure", OF_CLASSES)
@pytest.mark.parametrize("has_both", [True, False], ids=["both", "one class"])
def test_groups_are_summed_by_their_pseudo_values(measure, has_both):
    random = np.random.default_rng(6)
    patient_of = np.repeat(np.arange(12), 5)
    labels = (np.arange(60) % 2) if has_both else (patient_of < 7).astype(int)
    networks = {
        name: given(random, labels, gain, patient_of, seeds=3)
        for name, gain in (("none", 1), ("cbam", 2))
    }
    results = study.results_of(
        networks, labels, measure=measure, groups=patient_of
    )
    row = results.rows[1]
    assert row.over == "3 seeds and 12 groups of test examples"
    of_each = by_hand(
        measure, networks["cbam"], networks["none"], labels, np.arange(60)
    )
    changes = []
    for one in of_each:
        for x in (0, 1):
            of_class = labels == x
            count = of_class.sum()
            groups = len(set(patient_of[of_class]))
            # As leaving out one of so many groups, not of so many examples.
            factor = groups / (groups - 1) * 11 / 12
            factor /= count / (count - 1) * 59 / 60
            mean = one[of_class].mean()
            one[of_class] = mean + factor * (one[of_class] - mean)
        changes.append(np.bincount(patient_of, one) / 5)
    expected = Measured.of(
        row.values, changes, 60, are_counts=False, degrees=row.image_degrees
    )
    assert row.interval == pytest.approx(expected.interval)
    assert row.difference == pytest.approx(expected.difference)


def test_the_brier_score_is_compared_as_a_mean_over_examples():
    random = np.random.default_rng(3)
    labels = random.permutation(np.repeat([0, 1], 30))
    networks = {
        name: given(random, labels, gain, seeds=3)
        for name, gain in (("none", 1), ("cbam", 2))
    }
    row = study.results_of(networks, labels, measure="brier").rows[1]
    errors = {x: np.square(y - labels) for x, y in networks.items()}
    changes = errors["cbam"] - errors["none"]
    expected = Measured.of(row.values, changes, 60, are_counts=False)
    assert row.interval == pytest.approx(expected.interval)


def test_patients_with_one_image_each_are_no_groups():
    random = np.random.default_rng(7)
    labels = np.repeat([0, 1], (30, 25))
    networks = {
        name: given(random, labels, gain)
        for name, gain in (("none", 1), ("cbam", 2))
    }
    options = {"measure": "auc"}
    alone = study.results_of(networks, labels, **options).rows[1]
    grouped = study.results_of(
        networks, labels, groups=np.arange(55), **options
    )
    assert grouped.rows[1] == alone


def test_one_run_each_counts_predictions_that_differ():
    random = np.random.default_rng(8)
    labels = np.repeat([0, 1], 40)
    (first,) = given(random, labels, 1, seeds=1)
    second = first.copy()
    second[:4] = 1 - second[:4]
    for measure, differ in (("macro_f1", 4), ("auc", 4)):
        results = study.results_of(
            {"none": first, "cbam": second}, labels, measure=measure
        )
        row = results.rows[1]
        assert (row.differ, row.interval) == (differ, None)
        assert "disagree on too few" in results.verdict
    third = np.clip(first + 0.01 * labels, 0, 1)
    results = study.results_of(
        {"none": first, "cbam": third}, labels, measure="auc"
    )
    assert results.rows[1].differ == 40
    assert results.rows[1].interval[0] < results.rows[1].difference
    assert "compares these trained networks only" in results.verdict
    note = results.tables()[0].note
    assert "Brackets: 95% CI, which does not cover other seeds." in note


# Limits.


def predictions(labels, groups=None):
    labels = np.asarray(labels)
    classes = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
    found = np.full((len(labels), classes), 1 / classes)
    names = np.arange(len(labels)).astype(str)
    return Predictions(
        names, labels, found, names if groups is None else groups
    )


def reason(measure, labels, groups=None, names="abc"):
    kept = predictions(labels, groups)
    names = names[: kept.probabilities.shape[1]]
    return explain_no_interval(measure, [kept], "image", names)


@pytest.mark.parametrize(
    ("measure", "counts", "expected"),
    [
        ("auc", (50, 7), "only 7 positive test images; at least 20 are needed"),
        ("auc", (1, 50), "only 1 negative test image; at least 20 are needed"),
        ("auc", (50, 20), ""),
        (
            "balanced_accuracy",
            (50, 30, 19),
            'only 19 test images of class "c"; at least 20 are needed',
        ),
        ("macro_f1", (50, 10), ""),
        ("macro_f1", (50, 9), "only 9 positive test images; at least 10 are"),
        ("average_precision", (50, 10, 12), ""),
        (
            "average_precision",
            (50, 9, 7),
            'only 7 test images of class "c"; at least 10 are needed',
        ),
        # A class without test images does not count.
        ("auc", (50, 0, 20), ""),
        ("test_accuracy", (50, 1), ""),
        ("brier", (50, 1), ""),
        ("ece", (50, 50), "the calibration error and its differences are "),
    ],
)
def test_few_examples_of_a_class_have_no_interval(measure, counts, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    found = reason(measure, labels)
    assert found.startswith(expected) and bool(found) == bool(expected)


def test_few_groups_of_a_class_have_no_interval():
    labels, groups = np.repeat([0, 1], 60), np.arange(120) // 15
    assert reason("auc", labels, groups) == (
        "only 4 groups with positive test images; at least 5 are needed"
    )
    assert reason("auc", labels, np.arange(120) // 12) == ""
    assert reason("macro_f1", labels % 2, np.arange(120) % 4).startswith(
        "only 4 groups with negative test images"
    )


def test_labels_that_most_examples_have_have_no_curve_to_judge():
    labels = np.ones((60, 2), int)
    labels[:12, 0], labels[:30, 1] = 0, 0
    assert reason("auc", labels, names="ab") == (
        'only 12 test images without "a"; at least 20 are needed'
    )
    assert reason("average_precision", labels, names="ab") == ""


def test_the_reason_is_said_in_place_of_an_interval():
    random = np.random.default_rng(9)
    labels = np.repeat([0, 1], (60, 7))
    networks = {
        name: given(random, labels, gain)
        for name, gain in (("none", 1), ("cbam", 3))
    }
    results = study.results_of(networks, labels, measure="auc")
    row = results.rows[1]
    assert (row.interval, row.p_value, row.standard_error) == (None, None, 0)
    assert results.detectable is None
    few = "only 7 positive test examples; at least 20 are needed"
    assert f"test ROC AUC (no CI: {few})." in results.verdict
    assert f"No CI: {few}." in results.tables()[0].note
    assert (
        "significan" not in results.verdict and "seeds" not in results.verdict
    )
    assert r"\textbf" not in results.latex()
    # The accuracy of the same predictions has one.
    assert study.results_of(networks, labels).rows[1].interval is not None
    error = study.results_of(networks, labels, measure="ece")
    assert error.rows[1].interval is None and error.rows[1].deviation > 0
    assert "no CI: the calibration error and its diff" in error.verdict


def test_folds_count_the_examples_of_all_folds():
    random = np.random.default_rng(10)
    labels = np.tile([0, 1], 30)
    folds = [np.arange(x, 60, 2) // 2 + 30 * (x % 2) for x in (0, 1)]
    networks = {
        name: [
            x for seed in range(2) for x in given_folds(random, labels, folds)
        ]
        for name in ("none", "cbam")
    }
    results = study.results_of(networks, labels, measure="auc", folds=2)
    row = results.rows[1]
    # Fifteen of each class in a fold, thirty in all.
    assert row.reason == "" and row.over == "2 folds x 2 seeds"
    differences = np.subtract(row.values, results.rows[0].values)
    error = differences.std(ddof=1) * np.sqrt(1 / 4 + 1)
    student = stats.t(3, differences.mean(), error)
    assert row.interval == pytest.approx(student.interval(0.95))
    few = study.results_of(
        networks, labels, measure="balanced_accuracy", folds=2
    )
    assert few.rows[1].reason == ""


def given_folds(random, labels, folds):
    (scores,) = given(random, labels, 1, seeds=1)
    return [(rows, scores[rows]) for rows in folds]


# The area of one network.


def test_the_interval_of_an_area_is_that_of_delong():
    random = np.random.default_rng(11)
    is_positive = np.repeat([True, False], (25, 40))
    scores = np.round(random.normal(size=65) + is_positive, 1)
    wins = scores[is_positive, None] - scores[~is_positive]
    wins = (wins > 0) + (wins == 0) / 2
    area = wins.mean()
    parts = [
        wins.mean(axis=1 - x).var(ddof=1) / n for x, n in ((0, 25), (1, 40))
    ]
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 24 + parts[1] ** 2 / 39)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(sum(parts))
    half /= area * (1 - area)
    logit = np.log(area / (1 - area))
    expected = 1 / (1 + np.exp([half - logit, -half - logit]))
    found = interval_of_area(is_positive, scores, np.arange(65))
    assert found == pytest.approx(tuple(expected))
    few = is_positive[6:], scores[6:], np.arange(59)
    assert interval_of_area(*few) is None
    assert interval_of_area(is_positive, is_positive, np.arange(65)) is None
    assert interval_of_area(is_positive, scores, np.arange(65) // 16) is None


def test_the_interval_of_an_area_of_groups_is_that_of_obuchowski():
    random = np.random.default_rng(12)
    groups = np.repeat(np.arange(10), 6)
    is_positive = np.arange(60) % 3 == 0
    shared = random.normal(size=10)[groups]
    scores = random.normal(size=60) + is_positive + shared
    wins = scores[is_positive, None] > scores[~is_positive]
    area = wins.mean()
    first = np.bincount(groups[is_positive], wins.mean(axis=1) - area) / 20
    second = np.bincount(groups[~is_positive], wins.mean(axis=0) - area) / 40
    # Every group holds both classes: the variance of sums of ten groups.
    variance = np.square(first + second).sum() * 10 / 9
    half = stats.t.ppf(0.975, 9) * np.sqrt(variance) / (area * (1 - area))
    logit = np.log(area / (1 - area))
    expected = 1 / (1 + np.exp([half - logit, -half - logit]))
    found = interval_of_area(is_positive, scores, groups)
    assert found == pytest.approx(tuple(expected))


def test_equal_networks_are_seldom_called_different_by_auc():
    random, claimed = np.random.default_rng(13), {"images": 0, "patients": 0}
    patient_of = np.repeat(np.arange(20), 5)
    for _ in range(30):
        for kind in claimed:
            labels = random.permutation(np.repeat([0, 1], 50))
            groups = None if kind == "images" else patient_of
            networks = {}
            shared = random.normal(size=100)
            for name in ("none", "cbam"):
                # Frozen features: networks differ by images, not by seeds.
                own = 0.5 * random.normal(size=100)
                if groups is not None:
                    own = own + 0.5 * random.normal(size=20)[groups]
                scores = labels + shared + own
                noise = 0.1 * random.normal(size=(5, 100))
                networks[name] = [*(1 / (1 + np.exp(-scores - noise)))]
            row = study.results_of(
                networks, labels, measure="auc", groups=groups
            ).rows[1]
            claimed[kind] += row.p_value < 0.05
    # A t interval over seeds claims most of them.
    assert max(claimed.values()) <= 5
