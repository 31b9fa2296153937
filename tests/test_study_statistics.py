"""Means, paired differences and verdicts over seeds."""

import dataclasses
import math

import numpy as np
import pytest
from study_checks import made

from cbam_keras import study
from cbam_keras.study import Measured, judge, verdict

pytest.importorskip("pandas", reason="what data frames are of")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

NONE = (0.850, 0.862, 0.841, 0.858)
CBAM = (0.871, 0.870, 0.859, 0.872)
COLUMNS = "variant seeds mean std difference low high parameters macs".split()


def measured(difference, ends, seeds=4):
    return Measured((), None, None, difference, ends, seeds)


def test_rows_are_those_of_a_paired_t_test():
    found = made({"none": dict(enumerate(NONE)), "cbam": dict(enumerate(CBAM))})
    frame = found.to_dataframe()
    assert list(frame.columns) == COLUMNS
    none, cbam = (frame.iloc[number] for number in (0, 1))
    assert none[["difference", "low", "high"]].isna().all()
    assert (none["mean"], cbam["mean"]) == (np.mean(NONE), np.mean(CBAM))
    assert cbam["std"] == pytest.approx(np.std(CBAM, ddof=1), abs=1e-12)
    assert cbam["difference"] == pytest.approx(np.mean(CBAM) - np.mean(NONE))
    expected = stats.ttest_rel(CBAM, NONE).confidence_interval(0.95)
    ends = cbam["low"], cbam["high"]
    assert ends == pytest.approx(tuple(expected), abs=1e-12)
    assert found.rows[1].seconds_per_epoch == 1.5


def test_differences_are_paired_by_the_seeds_that_both_have():
    given = {"cbam": {0: 0.7, 1: 0.9, 2: 0.8}, "none": {2: 0.5, 1: 0.65}}
    cbam, none = made(given).rows
    assert (cbam.seeds, none.seeds) == ((0, 1, 2), (2, 1))
    assert cbam.mean == pytest.approx(0.8)
    assert cbam.difference == pytest.approx((0.25 + 0.3) / 2)
    assert cbam.pairs == 2 and "over 2 seeds" in judge("cbam", cbam, "none")
    alone = made(given, None)
    assert (alone.rows[0].difference, alone.verdict) == (None, "")


@pytest.mark.parametrize(
    ("found", "clause"),
    [
        (
            measured(0.0124, (0.009, 0.0158)),
            "cbam is better than none by 1.24 points of test accuracy (95 % "
            "interval +0.90 to +1.58 over 4 seeds)",
        ),
        (
            measured(0.002, (-0.01, 0.014)),
            "cbam differs from none by +0.20 points of test accuracy, which "
            "may be chance (95 % interval -1.00 to +1.40 over 4 seeds)",
        ),
        (
            Measured.of(CBAM[:1], [0.021]),
            "cbam differs from none by +2.10 points of test accuracy with one "
            "seed, which gives no estimate of the variation between seeds",
        ),
        (
            measured(0.1, (0.09, 0.11), seeds=2),
            "cbam differs from none by +10.00 points of test accuracy (95 % "
            "interval +9.00 to +11.00 over 2 seeds; too few seeds to judge)",
        ),
        (
            # Equal but for rounding.
            Measured.of((0.1, 0.2, 0.3), (0.1 - 0.2, 0.2 - 0.3, 0.3 - 0.4)),
            "cbam differs from none by -10.00 points of test accuracy with "
            "each of 3 seeds, and equal differences give no estimate of the "
            "variation between seeds",
        ),
        (
            Measured.of(CBAM, [0.0] * 4, 100),
            "no difference seen between cbam and none in test accuracy over 4 "
            "seeds",
        ),
        (Measured.of(CBAM[:1], None), "cbam has no seed in common with none"),
        (
            measured(0.002, (-0.01, 0.014), seeds=10),
            "cbam differs from none by +0.20 points of test accuracy, which "
            "may be chance (95 % interval -1.00 to +1.40 over 5 folds x 2 "
            "seeds, corrected for overlapping training images)",
        ),
        (
            # Of the third seed one fold has a pair.
            measured(0.012, (0.001, 0.023), seeds=11),
            "cbam is better than none by 1.20 points of test accuracy (95 % "
            "interval +0.10 to +2.30 over 11 folds, corrected for overlapping "
            "training images)",
        ),
        (
            Measured.of(CBAM[:1], [0.021], folds=5),
            "cbam differs from none by +2.10 points of test accuracy with one "
            "fold, which gives no estimate of the variation between folds",
        ),
    ],
)
def test_a_verdict_is_a_clause(found, clause):
    folds = 5 if "fold" in clause else None
    assert judge("cbam", found, "none", folds=folds) == clause
    both = {"none": Measured.of(NONE, None), "cbam": found}
    said = verdict(both, "none", folds=folds)
    assert (said == f"{clause}.") == (found.pairs > 1)


def test_a_verdict_of_one_seed_lists_all_networks():
    found = Measured.of((0.5,), (0.01,), 100)
    said = verdict(dict.fromkeys("abc", found), "none")
    assert "changes with a by +1.00, b by +1.00 and c by +1.00 points" in said
    assert found.interval is None and found.p_value is None


@pytest.mark.parametrize(
    ("measure", "none", "cbam", "texts"),
    [
        (
            study.Measure("psnr", "PSNR", digits=1, scale=1, unit="dB"),
            *((30.4, 30.3, 30.7), (31.2, 31.0, 31.4)),
            "PSNR (dB) | 31.2 ± 0.2 | +0.7 [+0.6, +0.9] | are in dB | cbam is "
            "better than none by 0.7 dB of PSNR (95 % interval +0.6 to +0.9 "
            "over 3 seeds) | the PSNR changes with cbam by +0.8 dB; a single "
            "seed",
        ),
        (
            study.Measure("rmse", "RMSE", 10, "", True),
            *((0.42, 0.415, 0.425), (0.38, 0.37, 0.39)),
            "RMSE | 3.80 ± 0.10 | -0.40 [-0.52, -0.28] | cbam is better than "
            "none by 0.40 in RMSE (95 % interval -0.52 to -0.28 over 3 "
            "seeds) | A lower RMSE is better. | RMSE (lower is better) changes "
            "with cbam",
        ),
    ],
)
def test_results_are_in_the_unit_of_a_measure(measure, none, cbam, texts):
    by_seed = {"none": dict(enumerate(none)), "cbam": dict(enumerate(cbam))}
    found = made(by_seed, measures=(measure,), sizes={"test": 20})
    shown = found.markdown() + dataclasses.replace(found, seeds=(0,)).verdict
    assert [x for x in texts.split(" | ") if x not in shown] == []
    assert found.to_dataframe()["mean"][1] == pytest.approx(np.mean(cbam))


@pytest.mark.parametrize("name", ["scale", "unit", "lower_is_better"])
def test_a_measure_is_checked(name):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must be "):
        study.Measure("psnr", **{name: 0})


@pytest.mark.parametrize("seeds", [2, 3, 7, 100])
def test_an_interval_is_not_narrower_than_drawing_the_images_allows(seeds):
    # One more of the same 100 images with every seed: however many there
    # are, a proportion has this interval.
    differences = [0.01] * seeds
    found = Measured.of(differences, differences, 100)
    reach = stats.norm.interval(0.95, scale=math.sqrt(0.01 * 0.99 / 100))[1]
    ends = 0.01 - reach, 0.01 + reach
    assert found.interval == pytest.approx(ends)
    assert ends[0] < 0


def test_seeds_that_vary_more_than_the_images_decide():
    wide = [0.4, -0.2, 0.1]
    found = Measured.of(wide, wide, 100)
    assert found == Measured.of(wide, wide)
    expected = stats.ttest_1samp(wide, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("differences", "images"),
    [
        ([0.0] * 3, 100),
        # Equal but for rounding.
        ([0.34 - 0.35, 0.33 - 0.34, 0.3 - 0.31], None),
        # More than 1 by rounding.
        ([1 + 1e-7] * 3, 100),
    ],
)
def test_an_interval_of_no_width_is_none(differences, images):
    assert Measured.of(differences, differences, images).interval is None


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


def test_a_verdict_of_one_fold_waits_for_the_others():
    said = verdict({"a": Measured.of((0.5,), (0.01,))}, "none", folds=5)
    assert said.endswith(
        "a single fold gives no estimate of the variation between folds. The "
        "other folds give an interval."
    )


@pytest.mark.parametrize("images", [None, 20, 400])
def test_a_p_value_says_at_which_confidence_an_interval_excludes_zero(images):
    differences = np.subtract(CBAM, NONE)
    found = Measured.of(CBAM, differences.tolist(), images)
    mean = differences.mean()
    seeds = stats.ttest_rel(CBAM, NONE).pvalue
    drawn = math.sqrt(mean * (1 - mean) / (images or math.inf))
    expected = max(seeds, 2 * stats.norm.sf(mean / drawn) if drawn else 0)
    assert found.p_value == pytest.approx(expected)
    assert (found.p_value < 0.05) == (found.interval[0] > 0)
    assert Measured.of(CBAM, [0.0] * 4, 100).p_value is None


def test_two_comparisons_or_more_are_corrected_by_holms_method():
    # 0.01 < 0.05 / 4 and 0.015 < 0.05 / 3, but 0.03 > 0.05 / 2, and so the
    # next, which alone is less than 0.05, is not clear either.
    p_values = {"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.015}
    found = {
        name: dataclasses.replace(measured(0.02, (0.01, 0.03)), p_value=p_value)
        for name, p_value in p_values.items()
    }
    b, d, others = verdict(found, "none").split("; ")
    assert b.startswith("b is better than none") and d.startswith("d is better")
    assert others == (
        "2 of 4 differences from none may be chance (corrected for 4 "
        "comparisons by Holm's method)."
    )
    # One that is not judged counts as well: 0.02 < 0.05 / 2 and > 0.05 / 3.
    equal = Measured.of((0.1, 0.2, 0.3), (0.1, 0.1, 0.1))
    few = {"a": dataclasses.replace(found["a"], p_value=0.02), "b": equal}
    assert "a is better" in verdict(few, "none")
    said = verdict({**few, "c": equal}, "none")
    assert said.startswith("3 of 3 differences from none may be chance (corr")


# Networks that have not learned.


def compared(guess, *accuracies, measure="test_accuracy"):
    """Returns results of one network per accuracy, on 36 images."""
    names = ("none", *"abc")[: len(accuracies)]
    by_seed = {n: {0: x, 1: x} for n, x in zip(names, accuracies, strict=True)}
    measures = (study.Measure(measure, "accuracy"),)
    return made(by_seed, sizes={"test": 36}, guess=guess, measures=measures)


def test_networks_that_only_guess_have_not_learned():
    # Guessing is right about 0.5 +- 0.1633 of 36 images.
    said = compared(0.5, 18 / 36, 23 / 36).verdict
    assert said.startswith("No network is better than guessing: the highest")
    assert "63.89 %, and guessing gives 50.00 %, with luck up to 66.33" in said


def test_images_that_all_get_right_cannot_tell():
    said = compared(0.5, 1.0, 1.0).verdict
    assert said.startswith("Every network is right on all 36 test images, whi")


@pytest.mark.parametrize(
    "learned",
    [
        compared(1 / 2, 1.0, 35 / 36),
        compared(0.5, 18 / 36, 24 / 36),
        compared(0.4, 18 / 36, 23 / 36),
        compared(None, 0.1, 0.1),
        compared(0.5, 0.1, 0.1, measure="map"),
    ],
    ids=[
        "one mistake",
        "above luck",
        "more classes",
        "guess unknown",
        "another measure",
    ],
)
def test_other_networks_are_compared(learned):
    assert learned.describe_guessing() == ""
    assert "learned" not in learned.verdict


def test_a_network_with_one_seed_does_not_hide_the_others():
    several = Measured.of([0.9, 0.9, 0.9], [0.10, 0.11, 0.12])
    single = Measured.of([0.9], [0.1])
    said = verdict({"a": several, "b": single}, "none")
    assert said.startswith("a is better than none by 11.00 points")
    assert "1 of 2 differences from none may be chance" in said


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
    assert table.note.endswith("A lower top-1 error is better.")
    assert table.rows[2] == {
        "network": "CBAM & co",
        "parameters": "9,000",
        "top-1 error (%)": "6.20 \N{PLUS-MINUS SIGN} 0.20",
        'difference to "se"': "-1.90 [-2.15, -1.65]",
        "s / epoch": "1.0",
    }
    assert "CBAM & co is better than se by 1.90 points" in found.verdict
