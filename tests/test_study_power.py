"""What studies can see: power, and how many seeds it takes."""

import dataclasses
import math

import numpy as np
import pytest
from study_checks import made, planned

from cbam_keras import study
from cbam_keras.study.results import power
from cbam_keras.study.running.estimate import describe_few_seeds

stats = pytest.importorskip("scipy.stats", reason="power needs SciPy")


def normal(networks, seeds):
    return np.random.default_rng(0).normal(0.8, 0.01, (networks, seeds))


def results_of(values, images=10**6):
    names = ("none", *"abcdefgh")[: len(values)]
    by_name = {
        name: dict(enumerate(row.tolist()))
        for name, row in zip(names, values, strict=True)
    }
    return made(by_name, sizes={"test": images})


@pytest.mark.parametrize(
    ("effect", "seeds", "comparisons", "expected"),
    [
        # TTestPower().power(effect, seeds, 0.05 / comparisons), statsmodels.
        (1.0, 5, 7, 0.09753989731521877),
        (0.5, 20, 3, 0.37250530248149594),
    ],
)
def test_power_is_that_of_statsmodels(effect, seeds, comparisons, expected):
    found = power.power_of(effect * math.sqrt(seeds), seeds, comparisons)
    assert found == pytest.approx(expected, abs=1e-5)


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


def test_a_detectable_difference_is_found_in_80_percent_of_studies():
    found = results_of(normal(4, 4))
    error = np.sqrt(np.mean([x.standard_error**2 for x in found.rows[1:]]))
    # One network differs; deviations are as they were estimated.
    changes = np.random.default_rng(0).normal(
        found.detectable, error * 2, (20_000, 4)
    )
    estimated = changes.std(axis=1, ddof=1)
    critical = stats.t.isf(0.05 / 3 / 2, 3)
    claimed = abs(changes.mean(axis=1)) > critical * estimated / 2
    assert claimed.mean() == pytest.approx(0.8, abs=0.01)
    points = f"{100 * found.detectable:.2f} points"
    seen = f"80 % of studies with 4 seeds would detect a difference of {points}"
    assert f"; {seen}." in found.verdict
    assert seen in found.markdown()


def test_results_say_how_many_seeds_they_need():
    found = results_of(normal(2, 9))
    deviation = found.rows[1].standard_error * 3
    expected = study.seeds_needed(deviation, 0.02, 3)
    assert study.seeds_needed(found, 0.02, 3) == expected
    assert results_of(normal(2, 2)).detectable is None


@pytest.mark.parametrize("images", [850, 1000, 4000])
def test_seeds_needed_find_a_difference_on_test_images_that_were_drawn(images):
    found, random = results_of(normal(2, 9), images), np.random.default_rng(1)
    deviation = 3 * found.rows[1].standard_error
    seeds = study.seeds_needed(found)
    # All seeds share the images, whose least error has the mean of all.
    drawn = random.normal(0.01, math.sqrt(0.01 * 0.99 / images), 20_000)
    means = random.normal(drawn, deviation / math.sqrt(seeds))
    estimated = deviation**2 * random.chisquare(seeds - 1, 20_000) / (seeds - 1)
    errors = np.sqrt(estimated / seeds), np.sqrt(0.01 * 0.99 / images)
    claimed = (means > stats.t.isf(0.025, seeds - 1) * errors[0]) & (
        means > stats.norm.isf(0.025) * errors[1]
    )
    assert 0.79 < claimed.mean() < 0.84
    assert seeds > study.seeds_needed(deviation) or images == 4000


def test_no_number_of_seeds_replaces_test_images():
    found = results_of(normal(2, 9), 600)
    message = "must be of 778 test images or more: .* Received: 600 test images"
    with pytest.raises(ValueError, match=message):
        study.seeds_needed(found)
    # Many seeds leave only the error of drawing the images.
    for images, is_enough in ((770, False), (778, True)):
        shift = 0.01 / math.sqrt(0.01 * 0.99 / images)
        assert (stats.norm.sf(1.96 - shift) > 0.8) == is_enough


def test_verdicts_say_what_was_trained_and_what_would_settle_it():
    accuracies = {
        "none": {0: 0.80, 1: 0.82, 2: 0.81},
        "a": {0: 0.83, 1: 0.80, 2: 0.79},
    }
    found = made(
        accuracies,
        sizes={"test": 10**6, "train": 7200},
        outcome={"history": [{"epoch": 1}, {"epoch": 2}]},
    )
    needed = study.seeds_needed(found)
    assert found.verdict.startswith("No difference is seen: a differs from no")
    assert found.verdict.endswith(
        "Each network was trained for 2 epochs of 7,200 images; "
        f"{needed} seeds would find a difference of a point."
    )
    few = dataclasses.replace(found, sizes={"test": 200, "train": 7200})
    assert few.verdict.endswith(
        "; a difference of a point takes 778 test images."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "`results` must be a positive"),
        ((0.01, 0), "`difference` must be a positive"),
        ((0.01, 0.01, 0), "`comparisons` must be a positive integer"),
        ((0.01, 0.01, 1, 1), "`power` must be from 0.1 to 0.999. Received: po"),
        ((1, 1e-4), "must be found with at most 10,000 seeds. Received: diff"),
        ((results_of(normal(2, 1)),), "`results` must be of several seeds"),
    ],
)
def test_seeds_cannot_be_counted_for(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        study.seeds_needed(*arguments)


def test_few_seeds_of_many_networks_are_told():
    def told(count=8, seeds=3, **options):
        variants = [study.Variant(f"v{x}", None) for x in range(count)]
        plan = planned(*variants, seeds=range(seeds), baseline="v0", **options)
        return describe_few_seeds(plan)

    # 10 and 52 % in simulations: `benchmarks.simulations`.
    assert told() == (
        "Few seeds: with 3 of them, 10 % of studies of 7 comparisons find a "
        "difference of three standard deviations of a training; with 5 it is "
        "51 %"
    )
    assert "2 of them, 0 %" in told(seeds=2)
    assert told(3) == told(seeds=5) == ""
