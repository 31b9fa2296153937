"""Means, paired differences and verdicts over seeds."""

import dataclasses
import math
import statistics as python_statistics

import numpy as np
import pytest

from cbam_keras.training import Measured, Run, compared, judge

stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

IMAGES = 1000
NONE = (0.850, 0.862, 0.841, 0.858)
CBAM = (0.871, 0.870, 0.859, 0.872)


def run(name, accuracy, seconds=1.0, parameters=7):
    # As Keras returns it: in float32.
    return Run(
        network=name,
        parameters=parameters,
        best_epoch=1,
        best_validation_accuracy=accuracy - 0.5,
        test_accuracy=float(np.float32(accuracy)),
        seconds_per_epoch=seconds,
        file=f"{name}.keras",
    )


def rows(baseline="none", **accuracies):
    runs = {
        name: [run(name, value, second) for second, value in enumerate(values)]
        for name, values in accuracies.items()
    }
    return compared(runs, IMAGES, baseline)


def row(difference, ends, accuracies=CBAM, more=None):
    (base, own) = rows(none=NONE, cbam=CBAM)
    return dataclasses.replace(
        own,
        difference=difference,
        interval=ends,
        test_accuracies=accuracies,
        seeds_to_tell=more,
    )


def test_rows_have_mean_and_deviation():
    none, cbam = rows(none=NONE, cbam=CBAM)
    assert none.network == "none"
    assert none.parameters == 7
    # Exactly, although Keras computes in float32.
    assert none.test_accuracies == NONE
    assert none.test_accuracy == pytest.approx(np.mean(NONE), abs=1e-12)
    assert none.deviation == pytest.approx(np.std(NONE, ddof=1), abs=1e-12)
    assert none.validation_accuracy == pytest.approx(np.mean(NONE) - 0.5)
    assert none.seconds_per_epoch == 1.5
    assert (none.difference, none.interval) == (None, None)
    assert cbam.difference == pytest.approx(np.mean(CBAM) - np.mean(NONE))
    # Wherever the baseline is, and without one.
    assert rows(cbam=CBAM, none=NONE)[0].difference == cbam.difference
    assert rows(None, cbam=CBAM)[0].difference is None
    with pytest.raises(ValueError, match="not compared with itself"):
        judge("none", none.measured, "none")


def test_the_interval_is_that_of_a_paired_t_test():
    _, cbam = rows(none=NONE, cbam=CBAM)
    expected = stats.ttest_rel(CBAM, NONE).confidence_interval(0.95)
    assert cbam.interval == pytest.approx(tuple(expected), abs=1e-12)


def test_one_seed_has_neither_deviation_nor_interval():
    _, cbam = rows(none=NONE[:1], cbam=CBAM[:1])
    assert cbam.difference == pytest.approx(0.021)
    assert (cbam.deviation, cbam.interval, cbam.seeds_to_tell) == (None,) * 3


def test_seeds_to_tell_are_those_of_a_search_by_hand():
    differences = (0.3, 0.1, -0.35, 0.2, -0.1)
    many = Measured.of(differences, [0] * len(differences)).seeds_to_tell
    mean = abs(python_statistics.fmean(differences))
    spread = python_statistics.stdev(differences)

    def excludes_zero(seeds):
        _, high = stats.t.interval(
            0.95, seeds - 1, loc=0, scale=spread / math.sqrt(seeds)
        )
        return high < mean

    assert excludes_zero(many)
    assert not any(map(excludes_zero, range(len(differences), many)))


@pytest.mark.parametrize(
    "differences",
    [[1.0, 1.01, 1.02], [1.0, -1.0], [100.0, -99.999]],
    ids=["told", "no_difference", "more_than_1000"],
)
def test_there_may_be_no_number_of_seeds_to_tell(differences):
    found = Measured.of(differences, [0] * len(differences))
    assert found.seeds_to_tell is None


@pytest.mark.parametrize(
    ("found", "clause"),
    [
        (
            row(0.0124, (0.009, 0.0158)),
            "cbam is ahead of none by 1.24 points of test accuracy (95 % "
            "interval +0.90 to +1.58 over 4 seeds)",
        ),
        (
            row(0.002, (-0.01, 0.014), more=12),
            "cbam differs from none by +0.20 points of test accuracy, which "
            "may be chance (95 % interval -1.00 to +1.40 over 4 seeds; to "
            "show a difference of this size takes about 12 seeds)",
        ),
        (
            row(0.021, None, CBAM[:1]),
            "cbam differs from none by +2.10 points of test accuracy with one "
            "seed, which tells nothing about chance",
        ),
    ],
    ids=["ahead", "untold", "one_seed"],
)
def test_a_verdict_is_a_clause(found, clause):
    assert judge("cbam", found.measured, "none") == clause


def test_a_verdict_names_the_measure():
    found = Measured.of((0.342, 0.33), (0.352, 0.34))
    assert judge("cbam", found, "none", "mAP@.5", digits=1) == (
        "cbam is behind none by 1.0 points of mAP@.5 (95 % interval -1.0 to "
        "-1.0 over 2 seeds)"
    )
    assert found.mean_cell(digits=1) == "33.6 \N{PLUS-MINUS SIGN} 0.8"
    assert found.difference_cell(digits=1) == "-1.0 points [-1.0, -1.0]"
