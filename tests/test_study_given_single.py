"""One run of each network: intervals over test examples, McNemar's test."""

import numpy as np
import pytest

from cbam_keras import study
from cbam_keras.study.results.statistics import mcnemar_p

metrics = pytest.importorskip("sklearn.metrics")
pandas = pytest.importorskip("pandas")
stats = pytest.importorskip("scipy.stats")
tables = pytest.importorskip("statsmodels.stats.contingency_tables")

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 2, 400)
NOISE = rng.normal(size=400)


def scores(gain, seed):
    """Returns probabilities of two classes, as likely right as others."""
    own = np.random.default_rng(seed).normal(size=400)
    return 1 / (1 + np.exp(-gain * (2 * LABELS - 1) - NOISE - own / 2))


NONE, CBAM = scores(0.6, 1), scores(1.2, 2)
RIGHT = [(x > 0.5) == LABELS for x in (NONE, CBAM)]


def test_the_interval_is_that_of_a_paired_difference_with_two_made():
    found = study.results_of({"none": NONE, "cbam": CBAM}, LABELS).rows[1]
    changes = np.subtract(*np.array(RIGHT[::-1], float))
    with_made = np.append(changes, [0.5, -0.5])
    error = with_made.std(ddof=1) / np.sqrt(402)
    student = stats.t(401, changes.mean(), error)
    assert found.interval == pytest.approx(student.interval(0.95))
    assert found.over == "400 test examples"
    assert found.by_seeds == 0 and found.differ == np.count_nonzero(changes)


def test_the_verdict_is_of_these_networks_and_names_no_option():
    verdict = study.results_of({"none": NONE, "cbam": CBAM}, LABELS).verdict
    words = "CBAM is more accurate than the network without attention on "
    words += "these test examples: +13."
    assert verdict.startswith(words)
    assert "; 400 test examples; McNemar's mid-p " in verdict
    assert "compares these trained networks only" in verdict
    worse = study.results_of({"cbam": CBAM, "none": NONE}, LABELS)
    assert (
        "The network without attention is less accurate than CBAM on"
        in worse.verdict
    )
    two = study.results_of({"none": [NONE] * 2, "cbam": [CBAM] * 2}, LABELS)
    assert "Significance needs at least 3 runs: use five." in two.verdict
    for text in (verdict, worse.verdict, two.verdict, str(worse)):
        assert "--" not in text and "seeds=" not in text
    # Bold is what the verdict calls better.
    assert worse.latex().count(r"\textbf") == 1


def test_p_values_are_those_of_statsmodels_and_of_a_sum():
    results = study.results_of({"none": NONE, "cbam": CBAM}, LABELS)
    row = results.mcnemar().iloc[0]
    table = pandas.crosstab(*RIGHT).to_numpy()
    assert row["both_wrong"] == table[0, 0] and row["both_right"] == table[1, 1]
    assert row["alone_right"] == table[0, 1]
    assert row["baseline_right"] == table[1, 0]
    exact = tables.mcnemar(table, exact=True).pvalue
    assert row["exact_p"] == pytest.approx(exact)
    # Fagerland et al. (2013): the exact one without half of its own point.
    count = table[0, 1] + table[1, 0]
    point = stats.binom.pmf(min(table[0, 1], table[1, 0]), count, 0.5)
    assert row["mid_p"] == pytest.approx(exact - point)
    assert results.rows[1].mid_p == row["mid_p"]


@pytest.mark.parametrize(
    ("first", "second", "mid_p"),
    # The first is the example of Fagerland et al.
    [(1, 7, 0.0391), (4, 4, 1 - 35 / 256), (0, 0, 1.0), (0, 3, 0.125)],
)
def test_mid_p_of_small_tables(first, second, mid_p):
    assert mcnemar_p(first, second)[0] == pytest.approx(mid_p, abs=5e-5)
    table = [[9, first], [second, 9]]
    exact = tables.mcnemar(table, exact=True).pvalue
    assert mcnemar_p(first, second)[1] == pytest.approx(min(exact, 1))


def differing(alone, other, count=400):
    """Returns two answers, each right where the other is wrong so often."""
    labels = np.arange(count) % 2
    first, second = labels.copy(), labels.copy()
    second[:alone] = 1 - second[:alone]
    first[alone : alone + other] = 1 - first[alone : alone + other]
    first[-9:] = second[-9:] = 1 - labels[-9:]
    return {"none": second, "cbam": first}, labels


@pytest.mark.parametrize(
    ("alone", "other", "words"),
    [
        (
            3,
            1,
            r"CBAM and the network without attention disagree on too few .* "
            r"\(they differ on 4 of 4",
        ),
        (
            0,
            0,
            r"disagree on too few .* \(they differ on 0 of 400 .*mid-p 1\)",
        ),
        (12, 3, r"more accurate than .* examples: \+2.25 percentage points"),
        (7, 3, "CBAM vs. no attention: .*, not statistically significant"),
        # The interval decides, and says where the test does not agree.
        (6, 1, "CBAM vs. no attention: .* mid-p 0.07[0-9]*"),
    ],
)
def test_few_that_differ_are_said(alone, other, words):
    results = study.results_of(*differing(alone, other))
    assert pandas.Series([results.verdict]).str.contains(words).all()
    has_interval = results.rows[1].interval is not None
    assert has_interval == (alone + other >= 5)


def test_borderline_is_said_exactly_where_test_and_interval_disagree():
    found = {}
    for other in (2, 5, 9, 14):
        for more in range(3, 16):
            results = study.results_of(*differing(other + more, other))
            row = results.rows[1]
            disagree = (row.p_value <= 0.05) != (row.mid_p <= 0.05)
            assert ("borderline" in results.verdict) == disagree
            found[disagree] = found.get(disagree, 0) + 1
    assert found[False] > 45


def test_groups_are_drawn_whole_and_have_no_p_value():
    patients = np.arange(400) // 8
    given = {"none": NONE, "cbam": CBAM}
    results = study.results_of(given, LABELS, groups=patients)
    row = results.rows[1]
    assert row.over == "50 groups of test examples" and row.mid_p is None
    assert "mid_p" not in results.mcnemar()
    changes = np.subtract(*np.array(RIGHT[::-1], float)).reshape(50, 8)
    # Two made images have an eighth of the weight of a group.
    weights = np.append(np.ones(50), [1 / 8, 1 / 8])
    values = np.append(changes.mean(axis=1), [0.5, -0.5])
    mean = np.average(values, weights=weights)
    variance = weights @ (values - mean) ** 2 / (weights.sum() - 1)
    error = np.sqrt(variance / weights.sum())
    low, high = row.interval
    assert (high - low) / 2 == pytest.approx(
        error * stats.t.ppf(0.975, weights.sum() - 1), rel=0.01
    )


def test_numbers_are_compared_by_paired_errors():
    ages = rng.gamma(9, 5, 60)
    old, new = ages + 3 * NOISE[:60], ages + NOISE[60:120]
    found = study.results_of({"old": old, "new": new}, ages)
    changes = abs(new - ages) - abs(old - ages)
    expected = stats.ttest_1samp(changes, 0)
    assert found.rows[1].p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found.rows[1].interval == pytest.approx(tuple(interval))
    assert "new improved test MAE by" in found.verdict


@pytest.mark.parametrize("groups", [None, np.arange(400) // 8])
def test_auc_is_compared_by_the_placements_of_examples(groups):
    given = {"none": NONE, "cbam": CBAM}
    options = {"measure": "auc", "groups": groups}
    results = study.results_of(given, LABELS, **options)
    row = results.rows[1]
    areas = [metrics.roc_auc_score(LABELS, x) for x in (NONE, CBAM)]
    assert row.difference == pytest.approx(areas[1] - areas[0])
    # That of DeLong et al. (1988), by the placements of both classes.
    first, second = (
        (x[LABELS == 1, None] > x[LABELS == 0]).astype(float)
        for x in (CBAM, NONE)
    )
    placements = first - second
    variance = sum(
        placements.mean(axis=x).var(ddof=1) / placements.shape[1 - x]
        for x in (0, 1)
    )
    assert row.differ == (400 if groups is None else 50)
    if groups is None:
        assert row.standard_error == pytest.approx(np.sqrt(variance), rel=0.01)
        assert row.over == "400 test examples"
    else:
        assert row.over == "50 groups of test examples"
    assert "CBAM improved " in results.verdict


def test_what_journals_of_medicine_ask_for_has_intervals(tmp_path):
    given, names = {"none": NONE, "cbam": CBAM}, ["healthy", "ill"]
    results = study.results_of(given, LABELS, class_names=names)
    row = results.thresholds().iloc[1]
    answers = CBAM > 0.5
    for name, of_answers, positive in (
        *(("sensitivity", False, 1), ("specificity", False, 0)),
        *(("ppv", True, 1), ("npv", True, 0)),
    ):
        function = (
            metrics.precision_score if of_answers else metrics.recall_score
        )
        expected = function(LABELS, answers, pos_label=positive)
        assert row[name] == pytest.approx(expected)
        among = (answers if of_answers else LABELS) == positive
        right = (answers == LABELS)[among]
        test = stats.binomtest(int(right.sum()), len(right))
        ends = test.proportion_ci(method="wilson")
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(ends)
    assert row["auc"] == pytest.approx(metrics.roc_auc_score(LABELS, CBAM))
    assert row["auc_low"] < row["auc"] < row["auc_high"]
    text = results.write(tmp_path / "out").read_text(encoding="utf-8")
    for words in ("PPV", "NPV", "McNemar", "Wilson 95% CI", "<h2>Methods"):
        assert words in text
    assert "cannot be read" not in text and "; one run each)" in text
    for name in ("mcnemar", "thresholds", "confusion-cbam", "results"):
        assert (tmp_path / f"out/tables/{name}.tex").exists()
    found = study.Results.read(tmp_path / "out")
    assert found.verdict == results.verdict


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("count", "first", "second"),
    [
        *((20, 0.2, 0.2), (20, 0.3, 0.05), (50, 0.05, 0.05), (50, 0.1, 0.02)),
        *((50, 0.25, 0), (100, 0.05, 0), (100, 0.1, 0.02), (500, 0.02, 0)),
        *((500, 0.01, 0.01), (2000, 0.004, 0.002)),
    ],
)
def test_intervals_cover_where_five_are_expected_to_differ(
    count, first, second
):
    random, covered = np.random.default_rng(count), []
    for alone, other, _ in random.multinomial(
        count, [first, second, 1 - first - second], size=3000
    ):
        changes = np.zeros((1, count))
        changes[0, :alone], changes[0, alone : alone + other] = 1, -1
        found = study.Measured.of([0.5], changes, count)
        if found.interval is not None:
            low, high = found.interval
            covered.append(low <= first - second <= high)
    # The error of a fraction of 3,000 is half a percent.
    assert np.mean(covered) > 0.92 - 0.01
