"""Which trials a search runs, by each algorithm."""

import dataclasses
import itertools

import networks
import numpy as np
import pytest
from tuning_checks import ONE, search

from cbam_keras import tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits", "quick")


def space(**options):
    """Returns a space of kinds of attention over one and the same network."""
    return tuning.CBAMHyperModel(
        model=lambda attention: networks.linear(), **options
    )


def rates(hp):
    hp.Choice("learning_rate", [10**-x for x in np.linspace(1, 3, 99)])
    return networks.linear()


def units_of(model):
    return model.layers[-2].units


def values(output, hypermodel, algorithm="random", **options):
    found = search(output, algorithm, hypermodel=hypermodel, **options)
    return [trial.values for trial in found.trials]


def test_the_default_search_is_all_of_its_space(tmp_path):
    names = "attention", "reduction_ratio", "kernel_size"
    found = values(tmp_path, space(), max_trials=None)
    points = [tuple(map(own.get, names)) for own in found]
    first = [("none", None, None), ("se", 4, None), ("cbam", 16, 7)]
    assert points[:3] == first
    cbam = [("cbam", r, k) for r in (2, 4, 8, 16) for k in (3, 5, 7)]
    assert sorted(points[2:]) == cbam


def test_another_seed_is_another_search(tmp_path):
    first, again, other = (
        values(
            tmp_path / str(number),
            rates,
            max_trials=3,
            recipe=dataclasses.replace(ONE, seed=seed),
        )
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again
    # The defaults come first.
    assert len({own["learning_rate"] for own in first + other}) == 5


def small(hp):
    units = hp.Choice("units", [2, 3])
    return networks.mlp(units, use_bias=hp.Boolean("bias", default=True))


@pytest.mark.parametrize("name", ["random", "grid"])
def test_a_small_space_is_searched_to_its_end_without_repetition(
    tmp_path, name
):
    found = values(tmp_path, small, name, max_trials=50)
    handed = [(own["units"], own["bias"]) for own in found]
    # The defaults come first.
    assert handed[0] == (2, True)
    assert sorted(handed) == sorted(itertools.product([2, 3], [False, True]))
