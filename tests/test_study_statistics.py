"""Means, paired differences, their error and power, and verdicts."""

import math
import re

import numpy as np
import pytest
from study_checks import made, shown_by

from cbam_keras import study
from cbam_keras.study import Measured, verdict
from cbam_keras.study.results.tables import (
    describe_few_images,
    find_better,
)

pytest.importorskip("pandas", reason="what data frames are of")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")
integrate = pytest.importorskip("scipy.integrate", reason="as above")
special = pytest.importorskip("scipy.special", reason="as above")

WITHOUT = "the network without attention"
NONE = (0.850, 0.862, 0.841, 0.858)
CBAM = (0.871, 0.870, 0.859, 0.872)
ENDS = ["low", "high"]
COLUMNS = ["mean", "std", "difference", *ENDS, "parameters", "macs"]


def measured(difference, ends, p_value=0.5, pairs=4, over="4 seeds"):
    return Measured((), None, None, difference, ends, over, pairs, p_value)


def test_rows_are_those_of_a_paired_t_test():
    found = made({"none": dict(enumerate(NONE)), "cbam": dict(enumerate(CBAM))})
    frame = found.to_dataframe()
    assert list(frame.columns) == ["variant", "seeds", *COLUMNS]
    none, cbam = (frame.iloc[number] for number in (0, 1))
    assert none[["difference", *ENDS]].isna().all()
    assert (none["mean"], cbam["mean"]) == (np.mean(NONE), np.mean(CBAM))
    assert cbam["std"] == pytest.approx(np.std(CBAM, ddof=1), abs=1e-12)
    assert cbam["difference"] == pytest.approx(np.mean(CBAM) - np.mean(NONE))
    expected = stats.ttest_rel(CBAM, NONE).confidence_interval(0.95)
    assert [*cbam[ENDS]] == pytest.approx([*expected], abs=1e-12)
    assert found.rows[1].seconds_per_epoch == 1.5


def test_differences_are_paired_by_the_seeds_that_both_have():
    given = {"cbam": {0: 0.7, 1: 0.9, 2: 0.8}, "none": {2: 0.5, 1: 0.65}}
    cbam, none = made(given).rows
    assert (cbam.seeds, none.seeds) == ((0, 1, 2), (2, 1))
    assert cbam.mean == pytest.approx(0.8)
    assert cbam.difference == pytest.approx((0.25 + 0.3) / 2)
    assert (cbam.pairs, cbam.over) == (2, "2 seeds")
    alone = made(given, None)
    assert (alone.rows[0].difference, alone.verdict) == (None, "")


def test_the_error_is_that_of_seeds_and_images():
    # With two pseudo-observations, by hand: the means of seeds are 1/4, 1/4 and
    # 0, those of columns 2/3, 0, 1/2 and -1/2; both leave squares of 1/2.
    found = Measured.of((0.5, 0.5, 0), [[1, 0], [1, 0], [0, 0]])
    of_seeds, of_columns, rest = 1 / 48, 5 / 18, 1 / 2 / (2 * 3)
    assert found.by_seeds == pytest.approx(of_seeds / 3)
    assert found.by_images == pytest.approx((of_columns - rest / 3) / 4)
    # The interval is around the observed difference.
    student = stats.t(100 / 27.5, 1 / 3, math.sqrt(10 / 144))
    assert found.interval == pytest.approx(student.interval(0.95))
    assert found.p_value == pytest.approx(2 * student.cdf(0))
    assert found.difference == pytest.approx(1 / 3)
    assert found.over == "3 seeds and 2 test images"
    # Normal quantiles give 2 * (1.96 + 0.842)**2 * (1 / 4) / 0.1**2 = 392.
    assert found.needed(0.1) == (None, "about 390 test images and more seeds")


def test_equal_networks_have_an_interval_of_the_pseudo_observations():
    # Without a difference between images, the variance of -1/2, 1/2 and 0.
    low, high = Measured.of([0.9] * 5, np.zeros((5, 20))).interval
    error = math.sqrt(0.5 / 21 / 22)
    assert (low, high) == pytest.approx(stats.t(21, 0, error).interval(0.95))


def test_intervals_hold_the_difference_on_new_images():
    random, held = np.random.default_rng(0), []
    for _ in range(400):
        # Right with each seed anew, or not, by how hard an image is.
        right = random.normal(size=(2, 5, 60)) < random.normal(1, 1.5, 60)
        changes = right[0].astype(float) - right[1]
        low, high = Measured.of([0.7] * 5, changes).interval
        held.append(low < 0 < high)
    assert 0.93 < np.mean(held) <= 1


def patients(random, groups, accuracies, studies):
    """Yields differences `(5, groups)` of studies on 10 images a patient."""
    deviations = 0.7, 0.7, 0.3, 0.3, 0.08, 1
    total = math.sqrt(np.square(deviations).sum())
    image, group, of_both, of_image, seed, rest = deviations
    for _ in range(studies):
        shared = random.normal(0, image, (groups, 10))
        shared += random.normal(0, group, (groups, 1))
        right = []
        for accuracy in accuracies:
            scores = shared + random.normal(0, of_both, (groups, 1))
            scores = scores + random.normal(0, of_image, (groups, 10))
            scores = scores + random.normal(0, seed, (5, 1, 1))
            scores += random.normal(0, rest, (5, groups, 10))
            right.append(scores > -total * stats.norm.ppf(accuracy))
        yield (right[1].astype(float) - right[0]).mean(axis=2)


@pytest.mark.parametrize(
    ("groups", "accuracies", "found_in"),
    [(24, (0.9, 0.95), (0.65, 0.9)), (10, (0.5, 0.5), (0, 0.05))],
)
def test_patients_keep_their_power_and_their_coverage(
    groups, accuracies, found_in
):
    random, held, claimed = np.random.default_rng(116), [], []
    for changes in patients(random, groups, accuracies, 300):
        found = Measured.of([0.9] * 5, changes, 10 * groups)
        low, high = found.interval
        held.append(low < accuracies[1] - accuracies[0] < high)
        claimed.append(low > 0 or high < 0)
    assert np.mean(held) >= 0.93
    assert found_in[0] <= np.mean(claimed) <= found_in[1]
    assert found.over == f"5 seeds and {groups} groups of test images"
    # The pseudo-observations alone, of patients that do not differ.
    low, high = Measured.of([0.9] * 5, 0 * changes, 10 * groups).interval
    columns = groups + 2 / 10
    variance = 2 * 0.25 / 10 / (columns - 1) / columns
    student = stats.t(columns - 1, 0, math.sqrt(variance))
    assert (low, high) == pytest.approx(student.interval(0.95))


def test_the_error_of_groups_of_unequal_size_is_that_of_their_mean():
    sizes = np.array([50, 10, 10, 10, 10, 10])
    parts, random, variances = sizes / 100, np.random.default_rng(1), []
    for _ in range(1000):
        # Each patient has one difference, in all images and with all seeds.
        sums = 1 + random.normal(size=6)
        changes = np.tile(sums * parts * 6, (3, 1))
        found = Measured.of(
            *([0.5] * 3, changes, 100), are_counts=False, sizes=[*sizes]
        )
        assert found.difference == pytest.approx(parts @ sums)
        variances.append(found.by_images)
    # One patient has half the images: three and a third count, not six.
    assert np.mean(variances) == pytest.approx(np.sum(parts**2), rel=0.06)
    assert found.degrees == pytest.approx(1 / np.sum(parts**2) - 1)
    equal = Measured.of([0.5] * 3, changes, 100, sizes=[10] * 6)
    assert equal == Measured.of([0.5] * 3, changes, 100)


def test_of_one_patient_only_seeds_are_known():
    given = [[0.1], [0.2], [0.15]]
    found = Measured.of([0.5] * 3, given, 200)
    expected = Measured.of([0.5] * 3, [0.1, 0.2, 0.15], 200)
    assert found.interval == pytest.approx(expected.interval)
    assert found.over == "3 seeds, these 200 test images (one group)"


@pytest.mark.parametrize("differences", [[0.0] * 3, [0.34 - 0.35, 0.3 - 0.31]])
def test_equal_differences_of_other_measures_have_no_interval(differences):
    found = Measured.of(differences, differences, 100)
    assert (found.interval, found.p_value) == (None, None)
    assert found.over.endswith("seeds, these 100 test images")


@pytest.mark.parametrize(("folds", "seeds"), [(2, 5), (5, 1), (10, 10)])
def test_differences_of_folds_are_corrected_for_shared_images(folds, seeds):
    differences = np.random.default_rng(0).normal(0.01, 0.02, folds * seeds)
    found = Measured.of(differences, differences.tolist(), folds=folds)
    # Nadeau and Bengio's: of 1,000 images, how many test and how many train.
    test, train = 1000 / folds, 1000 - 1000 / folds
    count, variance = len(differences), np.var(differences, ddof=1)
    error = math.sqrt((1 / count + test / train) * variance)
    student = stats.t(count - 1, differences.mean(), error)
    assert found.interval == pytest.approx(student.interval(0.95))
    assert found.p_value == pytest.approx(2 * student.cdf(0))


def test_several_comparisons_are_decided_by_holms_method():
    # 0.01 < 0.05 / 4 and 0.015 < 0.05 / 3, but 0.03 > 0.05 / 2, and so the
    # next, which alone is less than 0.05, is not shown either.
    p_values = {"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.015}
    found = {k: measured(0.02, (0.01, 0.03), x) for k, x in p_values.items()}
    said = verdict(found, "none")
    for name in "abcd":
        shown = f"{name} improved test accuracy by 2.00 " in said
        no = f"{name} vs. no attention: +2.00 " in said
        assert (shown, no) == (name in "bd", name in "ac")
    # Points are percentage points once.
    assert said.count("percentage points") == 1
    assert "Significance is Holm-corrected for 4 comparisons; " in said
    # One without a p-value counts as well: 0.02 < 0.05 / 2 and > 0.05 / 3.
    equal = Measured.of((0.1, 0.2, 0.3), (0.1, 0.1, 0.1))
    few = {"a": measured(0.02, (0.01, 0.03), 0.02), "b": equal}
    assert "a improved" in verdict(few, "none")
    assert "improved" not in verdict({**few, "c": equal}, "none")


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (
            measured(
                0.0124, (0.009, 0.0158), 0.01, over="4 seeds and 50 images"
            ),
            "CBAM improved test accuracy by 1.24 percentage points over "
            f"{WITHOUT} (95% CI 0.90 to 1.58; 4 seeds, 50 images).",
        ),
        (
            measured(-0.0124, (-0.0158, -0.009), 0.01),
            "CBAM worsened test accuracy by 1.24 percentage points compared "
            f"with {WITHOUT} (95% CI 0.90 to 1.58; 4 seeds).",
        ),
        (
            measured(-0.002, (-0.014, 0.01)),
            "CBAM vs. no attention: -0.20 percentage points of test accuracy "
            "(95% CI -1.40 to +1.00; 4 seeds), not statistically significant.",
        ),
        (
            Measured.of(CBAM[:1], [0.021], 50),
            "CBAM vs. no attention: +2.10 percentage points of test accuracy "
            "(no CI; 1 seed, these 50 test images). Significance needs at "
            "least 3 seeds: use five (--seeds 5, in Python seeds=5).",
        ),
        (
            measured(0.021, (0.01, 0.032), 0.01, 2, "2 folds"),
            "CBAM vs. no attention: +2.10 percentage points of test accuracy "
            "(95% CI +1.00 to +3.20; 2 folds), not statistically significant. "
            "Significance needs at least 3 folds: use five (--folds 5, in "
            "Python folds=5).",
        ),
        (
            Measured.of(CBAM[:1]),
            f"A comparison with {WITHOUT} needs another network with the same "
            "seeds.",
        ),
    ],
    ids=["better", "worse", "chance", "one seed", "two folds", "no pair"],
)
def test_a_verdict_says_what_is_shown(found, sentences):
    networks = {"none": Measured.of(NONE), "cbam": found}
    folds = 5 if "folds" in found.over else None
    assert verdict(networks, "none", folds=folds) == sentences


@pytest.mark.parametrize(
    ("count", "folds", "over"),
    [(10, 5, "5 folds x 2 seeds"), (11, 5, "11 folds"), (4, None, "4 seeds")],
)
def test_an_interval_says_over_what_it_is(count, folds, over):
    # Of the third seed one fold has a pair.
    assert Measured.of([0.1] * count, [0.1] * count, folds=folds).over == over


@pytest.mark.parametrize(
    ("measure", "none", "cbam", "texts"),
    [
        (
            study.Measure("psnr", "PSNR", digits=1, scale=1, unit="dB"),
            *((30.4, 30.3, 30.7), (31.2, 31.0, 31.4)),
            "PSNR (dB) | 31.2 ± 0.2 | +0.7 [+0.6, +0.9] | are in dB | CBAM "
            f"improved PSNR by 0.7 dB over {WITHOUT} (95% CI 0.6 to 0.9; 3 s",
        ),
        (
            study.Measure("rmse", "RMSE", 10, "", True),
            *((0.42, 0.415, 0.425), (0.38, 0.37, 0.39)),
            "RMSE | 3.80 ± 0.10 | -0.40 [-0.52, -0.28] | CBAM improved RMSE "
            "by 0.40 over the network without attention (95% CI 0.28 to 0.52; "
            "3 seeds, these 20 test images) | Lower RMSE is better.",
        ),
    ],
)
def test_results_are_in_the_unit_of_a_measure(measure, none, cbam, texts):
    by_seed = {"none": dict(enumerate(none)), "cbam": dict(enumerate(cbam))}
    found = made(by_seed, measures=(measure,), sizes={"test": 20})
    shown = shown_by(found)
    assert [x for x in texts.split(" | ") if x not in shown] == []
    assert found.to_dataframe()["mean"][1] == pytest.approx(np.mean(cbam))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("scale", ValueError),
        ("unit", TypeError),
        ("lower_is_better", TypeError),
    ],
)
def test_a_measure_is_checked(name, error):
    with pytest.raises(error, match=f"`{name}` must be "):
        study.Measure("psnr", **{name: 0})


# Power.


def results_of(networks, seeds, **options):
    values = np.random.default_rng(0).normal(0.8, 0.01, (networks, seeds))
    by_name = {
        name: dict(enumerate(row.tolist()))
        for name, row in zip(("none", *"abcd"), values, strict=False)
    }
    return made(by_name, sizes={"test": 10**6, "train": 7200}, **options)


def test_a_detectable_difference_is_found_in_80_percent_of_studies():
    history = [{"epoch": 1}, {"epoch": 2}]
    found = results_of(4, 5, outcome={"history": history})
    error = np.sqrt(np.mean([x.standard_error**2 for x in found.rows[1:]]))
    limit = stats.t.isf(0.05 / 3 / 2, 4)

    detectable = found.detectable

    def density_of_found(variance):
        shift = detectable / error * math.sqrt(variance / 4)
        missed = special.nctdtr(4, shift, limit)
        return (1 - missed) * stats.chi2.pdf(variance, 4)

    # The mean over the deviations that five seeds may have measured.
    power, _ = integrate.quad(density_of_found, 0, 60, limit=200)
    assert power == pytest.approx(0.8, abs=1e-3)
    # What the true deviation may be in 80% of studies, by chi-square.
    deviations = error * np.sqrt(5 * 4 / stats.chi2.ppf([0.9, 0.1], 4))
    fewest, most = (study.seeds_needed(float(x), 0.01, 3) for x in deviations)
    seen = (
        "Minimum detectable difference at 80% power: about "
        f"{100 * found.detectable:.2f} points; a 1-point difference would need "
        f"{fewest} to {most} seeds."
    )
    assert f"{seen} Trained for 2 epochs on 7,200 images" in found.verdict
    assert "power" not in found.tables()[0].note
    # Ten seeds are not few.
    assert "at 80% power: 1." in results_of(2, 10).verdict
    # Fewer than five say nothing of others.
    assert results_of(2, 4).detectable is None
    assert "power" not in results_of(2, 4).verdict


@pytest.mark.parametrize(("seeds", "least"), [(5, 0.7), (10, 0.7)])
def test_a_range_of_seeds_holds_the_number_that_is_needed(seeds, least):
    random = np.random.default_rng(0)
    needed = study.seeds_needed(0.02, 0.01)
    held = 0
    for _ in range(100):
        square = random.normal(0, 0.02, seeds).var(ddof=1)
        pilot = Measured(pairs=seeds, by_seeds=square / seeds)
        words = pilot.describe_seeds(0.01).replace(",", "")
        numbers = [int(x) for x in re.findall(r"\d+", words)]
        held += numbers[0] <= needed <= numbers[-1]
    # 80% were expected, with a standard error of 4%.
    assert held / 100 >= least


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(3, 1.555), (4, 1.34), (5, 1.245), (6, 1.19), (10, 1.10), (20, 1.05)],
)
def test_what_few_seeds_find_is_larger_by_what_they_leave_open(seeds, expected):
    found = Measured(pairs=seeds, by_seeds=1 / seeds)
    degrees = seeds - 1
    shift = special.nctdtrinc(degrees, 0.2, stats.t.ppf(0.975, degrees))
    factor = found.detectable() * math.sqrt(seeds) / shift
    assert factor == pytest.approx(expected, abs=0.01)
    # So many studies of new seeds find it, with errors drawn anew.
    random = np.random.default_rng(0)
    pilots, later = random.chisquare(degrees, (2, 40_000)) / degrees
    truth = found.detectable() * np.sqrt(pilots)
    means = truth + random.normal(size=40_000) / math.sqrt(seeds)
    limit = stats.t.ppf(0.975, degrees) * np.sqrt(later / seeds)
    assert np.mean(means > limit) == pytest.approx(0.8, abs=0.01)
    # As many seeds as these have a power of 80 %, and one less has less.
    assert found.needed(found.detectable() * 1.001)[0] == seeds


def test_the_power_of_a_pilot_is_that_of_its_degrees_of_freedom():
    # Images are half of the error; twenty seeds have a quarter of the other.
    pilot = Measured(pairs=5, by_seeds=1.0, by_images=1.0, columns=201)
    known, planned = (
        (1 / 4 + 1) ** 2 / (1 / 16 / pairs + 1 / 200) for pairs in (4, 19)
    )

    def density_of_found(variance):
        shift = 4 / math.sqrt(1.25) * math.sqrt(variance / known)
        missed = special.nctdtr(planned, shift, stats.t.ppf(0.975, planned))
        return (1 - missed) * stats.chi2.pdf(variance, known)

    power, _ = integrate.quad(density_of_found, 0, 200, limit=200)
    assert pilot.find_power(4, seeds=20) == pytest.approx(power, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # The next integer of TTestPower().solve_power(difference / deviation,
        # alpha=0.05 / comparisons, power=power), statsmodels.
        ((0.008, 0.01), 7.171635237606984),
        ((0.008, 0.01, 7), 11.668844959125128),
        ((2, 1, 1, 0.9), 43.99548069841475),
    ],
)
def test_seeds_needed_are_those_of_statsmodels(arguments, expected):
    assert study.seeds_needed(*arguments) == math.ceil(expected)


def test_impossible_differences_are_not_told():
    wild = {
        name: dict(enumerate(values))
        for name, values in {
            "none": [0.9, 0.1, 0.9, 0.1, 0.9],
            "cbam": [0.0, 1.0, 0.9, 0.9, 0.1],
        }.items()
    }
    found = made(wild, sizes={"test": 20})
    assert found.rows[1].interval[1] > 1
    assert found.detectable is None
    assert (
        "20 test images), not statistically significant. With these data, not "
        "even the difference of a perfect network would be detected with 80% "
        "power; a 1-point difference would need more than 10,000 seeds."
    ) in found.verdict
    assert "+0.00 [-100.00, +100.00]" in shown_by(found)
    # Of a measure that is no percentage anything is possible.
    psnr = study.Measure("psnr", "PSNR", scale=1, unit="dB")
    free = made(wild, measures=(psnr,), sizes={"test": 20})
    assert free.detectable > 1 and "100.00" not in free.verdict
    # At 90 % a difference of 15 points is a possible loss, no gain.
    values = np.array([[0.9] * 5, [0.8, 0.85, 0.9, 0.95, 1.0]])
    for measure, possible in (("accuracy", None), ("error", 0.15)):
        lower = measure == "error"
        key = study.Measure(f"test_{measure}", measure, lower_is_better=lower)
        by_name = dict(zip(("none", "cbam"), values.tolist(), strict=True))
        seen = made(
            {x: dict(enumerate(y)) for x, y in by_name.items()},
            measures=(key,),
        ).detectable
        assert seen == (possible and pytest.approx(possible, abs=0.02))


@pytest.mark.parametrize(
    ("deviation", "better"), [(0.01, set()), (0.002, {"a", "b"})]
)
def test_bold_is_what_the_verdict_calls_better(deviation, better):
    random, names = np.random.default_rng(0), ("none", *"abcde")
    values = random.normal(0.8, deviation, (6, 5))
    values[1:3] += 0.01
    by_name = {
        name: dict(enumerate(row.tolist()))
        for name, row in zip(names, values, strict=True)
    }
    found = made(by_name, sizes={"test": 1000})
    table = found.tables()[0]
    bold = {names[number] for number, _ in table.bold}
    said = {name for name in names if f"{name} improved" in found.verdict}
    assert bold == said == better
    # Two seeds show nothing, however far apart.
    two = {"none": {0: 0.1, 1: 0.2}, "a": {0: 0.9, 1: 1.0}}
    two = made(two, sizes={"test": 1000})
    assert two.tables()[0].bold == []


def test_equal_networks_are_seldom_bold():
    random, bold = np.random.default_rng(8), 0
    for _ in range(200):
        values = random.normal(0.8, 0.01, (6, 5))
        by_name = dict(zip(("none", *"abcde"), values.tolist(), strict=True))
        found = made(
            {x: dict(enumerate(y)) for x, y in by_name.items()},
            sizes={"test": 1000},
        )
        bold += bool(find_better(found))
    # Uncorrected intervals made one of six bold in 5 to 13 %.
    assert bold / 200 <= 0.05


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0,), ValueError, "`results` must be a positive"),
        ((0.01, 0), ValueError, "`difference` must be a positive"),
        (
            (0.01, 0.01, 0),
            ValueError,
            "`comparisons` must be a positive integer",
        ),
        (
            (0.01, 0.01, 1, 1),
            ValueError,
            "`power` must be from 0.1 to 0.999. Receive",
        ),
        (
            (1, 1e-4),
            ValueError,
            "with at most 10,000 seeds. .* needs more than 10,000",
        ),
        (
            (results_of(2, 2),),
            ValueError,
            "`results` must have three seeds or more",
        ),
    ],
)
def test_seeds_cannot_be_counted_for(arguments, error, message):
    with pytest.raises(error, match=message):
        study.seeds_needed(*arguments)


def test_few_images_are_told():
    few = {"train": 80, "validation": 10, "test": 22}
    assert describe_few_images(few, None) == (
        "22 test images give imprecise estimates; 5-fold cross-validation "
        "(--folds 5, in Python folds=5) tests all 112."
    )
    assert describe_few_images(few, 5) == ""
    assert describe_few_images({"train": 9, "test": 1000}, None) == ""
    assert results_of(2, 3, guess=0.1).verdict.count("imprecise") == 0


# Networks that have not learned.


def compared(guess, *accuracies):
    """Returns results of one network per accuracy, on 36 images."""
    names = ("none", *"abc")[: len(accuracies)]
    by_seed = {n: {0: x, 1: x} for n, x in zip(names, accuracies, strict=True)}
    measures = (study.Measure("test_accuracy", "accuracy"),)
    return made(by_seed, sizes={"test": 36}, guess=guess, measures=measures)


def test_networks_that_only_guess_have_not_learned():
    # Guessing is right about 0.5 +- 0.1633 of 36 images.
    said = compared(0.5, 18 / 36, 23 / 36).verdict
    assert said.startswith("No network is better than chance: the best test")
    assert "63.89%; the majority class gives 50.00% (up to 66.33% by " in said


def test_images_that_all_get_right_cannot_tell():
    said = compared(0.5, 1.0, 1.0).verdict
    assert said.startswith("All networks classify all 36 test images correctly")


@pytest.mark.parametrize(
    "learned",
    [
        compared(1 / 2, 1.0, 35 / 36),
        compared(0.5, 18 / 36, 24 / 36),
        compared(0.4, 18 / 36, 23 / 36),
        compared(None, 0.1, 0.1),
    ],
    ids=[
        "one mistake",
        "above luck",
        "more classes",
        "guess unknown",
    ],
)
def test_other_networks_are_compared(learned):
    assert learned.describe_guessing() == ""
    assert "learned" not in learned.verdict


def test_a_network_with_one_seed_does_not_hide_the_others():
    several = Measured.of([0.9, 0.9, 0.9], [0.10, 0.11, 0.12])
    single = Measured.of([0.9], [0.1])
    said = verdict({"a": several, "b": single}, "none")
    assert said.startswith("a improved test accuracy by 11.00 percentage poi")
    assert "b vs. no attention: +10.00 points of test accuracy (no CI" in said


def test_a_table_has_labels_and_what_is_better():
    errors = {
        "none": (0.090, 0.091, 0.092),
        "se": (0.080, 0.081, 0.082),
        "cbam": (0.060, 0.062, 0.064),
    }
    found = made(
        {name: dict(enumerate(values)) for name, values in errors.items()},
        baseline="se",
        measures=(
            study.Measure("top1", "top-1 error", lower_is_better=True),
            study.Measure("top5", "top-5 error", lower_is_better=True),
        ),
        sizes={"test": 1000},
        labels={"cbam": "CBAM & co"},
    )
    (table,) = found.tables()
    assert table.title == "Networks, mean over 3 seeds"
    # No network has a top-5 error.
    assert table.note.endswith("Lower top-1 error is better.")
    assert table.rows[2] == {
        "network": "CBAM & co",
        "parameters": "9,000",
        "top-1 error (%)": "6.20 \N{PLUS-MINUS SIGN} 0.20",
        'difference from "se"': "-1.90 [-2.15, -1.65]",
        "s / epoch": "1.0",
    }
    said = "CBAM & co improved top-1 error by 1.90 points over SE"
    assert said in found.verdict
