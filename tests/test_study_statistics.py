"""Means, paired differences and verdicts over seeds."""

import math
import pathlib
import statistics as python_statistics

import numpy as np
import pytest

from cbam_keras import study
from cbam_keras.study import Measured, judge, verdict

pytest.importorskip("pandas", reason="what data frames are of")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

NONE = (0.850, 0.862, 0.841, 0.858)
CBAM = (0.871, 0.870, 0.859, 0.872)
COLUMNS = "variant seeds mean std difference low high parameters macs".split()


def results(baseline="none", **by_seed):
    """Returns results of a mapping of seeds to accuracies per network."""
    cells = [
        study.Outcome(
            *(name, seed, "finished"),
            metrics={"test_accuracy": value},
            seconds_per_epoch=seed,
        )
        for name, values in by_seed.items()
        for seed, value in values.items()
    ]
    return study.Results(
        *(pathlib.Path("run"), tuple(cells), tuple(by_seed), (0, 1, 2, 3)),
        *(baseline, "test_accuracy", "test accuracy", "mnist5k", {}),
    )


def measured(difference, ends, values=CBAM, more=None):
    return Measured(values, 0.868, None, difference, ends, more)


def test_rows_are_those_of_a_paired_t_test():
    found = results(none=dict(enumerate(NONE)), cbam=dict(enumerate(CBAM)))
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
    cbam, none = results(**given).rows
    assert (cbam.seeds, none.seeds) == ((0, 1, 2), (2, 1))
    assert cbam.mean == pytest.approx(0.8)
    assert cbam.difference == pytest.approx((0.25 + 0.3) / 2)
    assert cbam.pairs == 2 and "over 2 seeds" in judge("cbam", cbam, "none")
    alone = results(None, **given)
    assert (alone.rows[0].difference, alone.verdict) == (None, "")


def test_seeds_to_tell_are_those_of_a_search_by_hand():
    differences = (0.3, 0.1, -0.35, 0.2, -0.1)
    many = Measured.of(differences, differences).seeds_to_tell
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
    "differences", [[1.0, 1.01, 1.02], [1.0, -1.0], [100.0, -99.999]]
)
def test_there_may_be_no_number_of_seeds_to_tell(differences):
    assert Measured.of(differences, differences).seeds_to_tell is None


@pytest.mark.parametrize(
    ("found", "clause"),
    [
        (
            measured(0.0124, (0.009, 0.0158)),
            "cbam is ahead of none by 1.24 points of test accuracy (95 % "
            "interval +0.90 to +1.58 over 4 seeds)",
        ),
        (
            measured(0.002, (-0.01, 0.014), more=12),
            "cbam differs from none by +0.20 points of test accuracy, which "
            "may be chance (95 % interval -1.00 to +1.40 over 4 seeds; to "
            "show a difference of this size takes about 12 seeds)",
        ),
        (
            Measured.of(CBAM[:1], [0.021]),
            "cbam differs from none by +2.10 points of test accuracy with one "
            "seed, which gives no estimate of the variation between seeds",
        ),
        (
            Measured.of((0.9, 0.9), (0.1, 0.1)),
            "cbam differs from none by +10.00 points of test accuracy (95 % "
            "interval +10.00 to +10.00 over 2 seeds; too few seeds to judge)",
        ),
        (
            Measured.of(CBAM, [0.0] * 4, 100),
            "no difference seen between cbam and none in test accuracy over 4 "
            "seeds",
        ),
    ],
)
def test_a_verdict_is_a_clause(found, clause):
    assert judge("cbam", found, "none") == clause
    if found.interval is not None:
        networks = {"none": Measured.of(NONE, None), "cbam": found}
        assert verdict(networks, "none") == f"{clause}."


def test_a_verdict_of_one_seed_lists_all_networks():
    found = Measured.of((0.5,), (0.01,))
    said = verdict(dict.fromkeys("abc", found), "none")
    assert "changes with a by +1.00, b by +1.00 and c by +1.00 points" in said


def test_a_verdict_names_the_measure():
    found = Measured.of((0.342, 0.33, 0.336), (-0.01, -0.01, -0.01))
    assert judge("cbam", found, "none", "mAP@.5", digits=1) == (
        "cbam is behind none by 1.0 points of mAP@.5 (95 % interval -1.0 to "
        "-1.0 over 3 seeds)"
    )
    assert found.mean_cell(digits=1) == "33.6 \N{PLUS-MINUS SIGN} 0.6"
    assert found.difference_cell(digits=1) == "-1.0 points [-1.0, -1.0]"


@pytest.mark.parametrize("unit", [1, 100])
def test_an_interval_is_not_narrower_than_drawing_the_images_allows(unit):
    differences = [0.01 * unit] * 4
    found = Measured.of(differences, differences, 100, unit)
    # One of 100 images.
    spread = unit * math.sqrt(0.01 * 0.99 / 100)
    reach = stats.t.ppf(0.975, 3) * spread / 2
    ends = 0.01 * unit - reach, 0.01 * unit + reach
    assert found.interval == pytest.approx(ends)
    assert "may be chance" in judge("cbam", found, "none")
    wide = [0.4 * unit, -0.2 * unit, 0.1 * unit]
    assert Measured.of(wide, wide, 100, unit) == Measured.of(wide, wide)
