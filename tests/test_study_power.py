"""What studies can see: Dunnett's test, power, and how many seeds it takes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from study_checks import NARROW, WIDE, made, planned

from cbam_keras import study
from cbam_keras.study import Measured, dunnett, power
from cbam_keras.study.estimate import describe_few_seeds

stats = pytest.importorskip("scipy.stats", reason="power needs SciPy")


def normal(networks, seeds):
    return np.random.default_rng(0).normal(0.8, 0.01, (networks, seeds))


def results_of(values, test="dunnett", **options):
    names = ("none", *"abcdefgh")[: len(values)]
    by_name = {
        name: dict(enumerate(row.tolist()))
        for name, row in zip(names, values, strict=True)
    }
    sizes, settings = {"test": 10**6}, {"test": test}
    return made(by_name, sizes=sizes, settings=settings, **options)


@pytest.mark.parametrize(("count", "seeds"), [(1, 3), (2, 3), (7, 3), (11, 5)])
def test_dunnetts_tail_is_that_of_scipy_without_blocks(count, seeds):
    baseline, *others = values = normal(count + 1, seeds)
    others[0] += 0.02
    expected = stats.dunnett(
        *others, control=baseline, random_state=np.random.default_rng(0)
    )
    degrees = (count + 1) * (seeds - 1)
    error = math.sqrt(values.var(axis=1, ddof=1).mean() * 2 / seeds)
    tails = [
        dunnett.tail(abs(x.mean() - baseline.mean()) / error, count, degrees)
        for x in others
    ]
    np.testing.assert_allclose(tails, expected.pvalue, atol=1e-3)
    critical = dunnett.critical_value(count, degrees)
    assert dunnett.tail(critical, count, degrees) == pytest.approx(0.05)
    student = 2 * stats.t.sf(1.5, degrees)
    assert dunnett.tail(1.5, 1, degrees) == pytest.approx(student)


def test_seeds_are_blocks():
    values = normal(4, 3) + [0, 0.5, -0.5]
    # Least squares with a mean for each network and each seed.
    design = np.array(
        [[*np.eye(4)[i], *np.eye(3)[j]] for i in range(4) for j in range(3)]
    )
    fitted = design @ np.linalg.lstsq(design, values.ravel())[0]
    variance = np.sum((values.ravel() - fitted) ** 2) / 6
    t = (values[1:].mean(axis=1) - values[0].mean()) / math.sqrt(
        variance * 2 / 3
    )
    joint = stats.multivariate_t(shape=0.5 + np.eye(3) / 2, df=6, seed=0)
    found = results_of(values)
    for row, x in zip(found.rows[1:], abs(t), strict=True):
        inside = joint.cdf([x] * 3, lower_limit=[-x] * 3)
        assert row.p_value == pytest.approx(1 - inside, abs=1e-3)
        low, high = row.interval
        assert (low + high) / 2 == pytest.approx(row.difference)
        assert (row.p_value < 0.05) == (low > 0 or high < 0)
    assert "for 3 comparisons by Dunnett's test, which assumes" in found.verdict
    assert '"test": "dunnett"' in found.json()


@pytest.mark.parametrize("folds", [None, 3])
def test_dunnetts_test_of_one_network_is_a_paired_one(folds):
    values = normal(2, 6)
    differences = (values[1] - values[0]).tolist()
    one = Measured.of(values[1], differences, folds=folds)
    compared = {"none": Measured.of(values[0], None), "a": one}
    by_seed = [dict(enumerate(row)) for row in values]
    tested = dunnett.compare(
        compared, dict(zip(compared, by_seed, strict=True)), "none", folds
    )
    assert tested["a"].interval == pytest.approx(one.interval)
    assert tested["a"].p_value == pytest.approx(one.p_value)


def test_dunnetts_test_is_over_the_seeds_that_all_share():
    values = normal(3, 4)
    whole = results_of(values)
    by_name = {n: whole.values(n, "test_accuracy") for n in whole.variants}
    del by_name["b"][2]
    lacking = made(by_name, settings={"test": "dunnett"})
    shared = results_of(np.delete(values, 2, axis=1))
    assert lacking.rows[1].interval == shared.rows[1].interval
    assert [row.pairs for row in lacking.rows] == [0, 3, 3]
    alone = results_of(values[:, :1])
    assert alone.rows[1].interval is alone.detectable is None
    assert "a single seed gives no estimate" in alone.verdict


def test_deviations_that_differ_are_told():
    values = normal(5, 8)
    assert "Brown" not in results_of(values).verdict
    values[4] = 0.8 + 20 * (values[4] - 0.8)
    assert "differ by more than chance (p = " in results_of(values).verdict
    assert "Brown" not in results_of(values, "holm").verdict


def test_tables_of_errors_have_simultaneous_intervals():
    errors = (study.Measure("test_accuracy", "error", is_error=True),)
    options = {"kind": study.ErrorTables, "measures": errors}
    said, by_holm = (
        results_of(normal(4, 3), test, **options).verdict
        for test in ("dunnett", "holm")
    )
    assert "any of a table does in 5 %, by Dunnett's test" in said
    assert "With 3 seeds a difference of" in by_holm


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
    assert found == pytest.approx(expected, abs=1e-6)


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


@pytest.mark.parametrize("test", ["holm", "dunnett"])
def test_a_detectable_difference_is_found_in_80_percent_of_studies(test):
    found = results_of(normal(4, 4), test)
    error = found.rows[1].standard_error
    if test == "holm":
        error = np.sqrt(np.mean([x.standard_error**2 for x in found.rows[1:]]))
    # One network differs; deviations are as they were estimated.
    trainings = np.random.default_rng(0).normal(0, 1, (20_000, 4, 4))
    trainings *= error * math.sqrt(4 / 2)
    trainings[:, 1] += found.detectable
    changes = trainings[:, 1] - trainings[:, 0]
    estimated = changes.std(axis=1, ddof=1)
    critical = stats.t.isf(0.05 / 3 / 2, 3)
    if test == "dunnett":
        rest = trainings - trainings.mean(axis=2, keepdims=True)
        rest -= rest.mean(axis=1, keepdims=True)
        estimated = np.sqrt(2 * np.sum(rest**2, axis=(1, 2)) / 9)
        critical = dunnett.critical_value(3, 9)
    claimed = abs(changes.mean(axis=1)) > critical * estimated / 2
    assert claimed.mean() == pytest.approx(0.8, abs=0.01)
    seen = f"4 seeds a difference of {100 * found.detectable:.2f} points would"
    assert f"; with {seen} have been found in 80 % of studies." in found.verdict
    assert f"With {seen}" in found.markdown()


def test_results_say_how_many_seeds_they_need():
    found = results_of(normal(2, 9), "holm")
    deviation = found.rows[1].standard_error * 3
    expected = study.seeds_needed(deviation, 0.02, 3)
    assert study.seeds_needed(found, 0.02, 3) == expected
    assert results_of(normal(2, 2), "holm").detectable is None


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

    # 10, 52 and 75 % in simulations: `benchmarks.simulations`.
    assert told() == (
        "Few seeds: with 3 of them, 10 % of studies of 7 comparisons find a "
        "difference of three standard deviations of a training; with 5 it is "
        "51 %, and with 3 by Dunnett's test (--test dunnett) 75 %"
    )
    assert "2 of them, 0 %" in told(seeds=2)
    assert told(3) == told(seeds=5) == told(test="dunnett") == ""


def test_a_run_is_not_resumed_with_another_test():
    described = SimpleNamespace(get=lambda key, default: default)
    by_test = [
        planned(NARROW, WIDE, test=test).settings_to_compare(described)
        for test in ("holm", "dunnett")
    ]
    assert "test" not in by_test[0] and by_test[1].pop("test") == "dunnett"
    assert by_test[0] == by_test[1]
    with pytest.raises(ValueError, match="`test` must be one of .*holm.*dunn"):
        planned(NARROW, test="tukey")
