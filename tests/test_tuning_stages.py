"""A search over stages, where the accuracy of all placements is known."""

import re

import numpy as np
import pytest
import tuning_checks

from benchmarks.when_it_helps import results
from cbam_keras import tuning

pytest.importorskip("keras_tuner")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

pytestmark = pytest.mark.usefixtures("few_digits")

# All sets of the three stages of the network "tiny".
STAGES = ("all", "1", "2", "3", "1,2", "1,3", "2,3")


def placement(model):
    """Returns the stages of a network that have attention."""
    names = [layer.name for layer in model.layers]
    found = {re.match(r"stage(\d)_\w+_attention", name) for name in names}
    return tuple(sorted(int(match[1]) for match in found - {None}))


def test_the_search_names_the_best_of_all_placements(tmp_path, monkeypatch):
    # Each was trained with ten seeds.
    study = results.results_of(results.stored()["digits-stages"])
    accuracies = {}
    for name in study.variants:
        stages = re.findall(r"\d", name) if "stage" in name else "123"
        key = tuple(map(int, "" if name == "none" else stages))
        accuracies[key] = study.values(name, "test_accuracy")
    assert len(accuracies) == 8
    means = {key: sum(x.values()) / len(x) for key, x in accuracies.items()}
    assert {len(x) for x in accuracies.values()} == {10}
    tuning_checks.without_training(monkeypatch)
    tuning_checks.score(monkeypatch, lambda model: means[placement(model)])
    hypermodel = tuning.CBAMHyperModel(
        attention=("none", "cbam"),
        reduction_ratio=4,
        kernel_size=7,
        stages=STAGES,
    )
    found = tuning_checks.search(
        tmp_path / "run", hypermodel=hypermodel, max_trials=8, confirm=2
    )
    # The trials are ranked as all seeds rank the placements.
    keys = {"none": (), "all": (1, 2, 3)}
    keys |= {x: tuple(map(int, x.split(","))) for x in STAGES[1:]}
    ranked = [keys[x.values.get("stages", "none")] for x in found.ranked]
    assert ranked == sorted(means, key=means.get, reverse=True)
    # Of those that so few images cannot tell apart, the cheapest is chosen,
    # and ten seeds cannot, either.
    chosen = found.best.values["stages"]
    best, other = accuracies[ranked[0]], accuracies[keys[chosen]]
    differences = [best[seed] - other[seed] for seed in best]
    half = stats.t.ppf(0.975, 9) * stats.sem(differences)
    assert abs(np.mean(differences)) < half
    assert found.code.endswith(f"stages={chosen!r})")
