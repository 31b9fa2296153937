"""Networks trained over seeds; resuming is in test_resuming.py."""

import dataclasses
import functools
import json

import pretended
import pytest
from training_checks import SHORT, linear, numbers

from cbam_keras import data, training
from cbam_keras.training import check_seeds, train_over_seeds

NETWORKS = {"linear": linear}


@pytest.fixture(autouse=True)
def quick(few_digits, monkeypatch):
    pretended.install(monkeypatch)


def train(output, seeds=(0, 3), images="mnist5k", **options):
    return train_over_seeds(
        NETWORKS, images, SHORT, seeds=seeds, output=output, **options
    )


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (0, "`seeds` must be a positive integer. Received: seeds=0"),
        ([], "`seeds` must be a number of seeds, or one or several"),
        ([1, 1], "different ones. Received: seeds=.1, 1."),
        ([-1], "`seeds` must be an integer from 0"),
    ],
)
def test_seeds_are_a_number_of_seeds_or_seeds(seeds, message):
    assert check_seeds(3) == (0, 1, 2)
    assert check_seeds([5, 2]) == (5, 2)
    with pytest.raises(ValueError, match=message):
        check_seeds(seeds)


def settings(folder):
    return json.loads((folder / "results.json").read_text())["settings"]


def test_each_seed_is_one_run(tmp_path, capsys):
    found = train(tmp_path / "run")
    assert list(found) == [0, 3]
    assert "Seed 3 (2 of 2)" in capsys.readouterr().out
    recipe = dataclasses.replace(SHORT, seed=3)
    alone = training.train(
        NETWORKS, "mnist5k", recipe, output=tmp_path / "alone"
    )
    assert numbers(found[3]) == numbers(alone) != numbers(found[0])
    assert found[3].output == tmp_path / "run" / "seed-3"
    assert settings(found[3].output) == settings(alone.output)


def test_more_seeds_add_their_data_and_a_summary_is_no_obstacle(tmp_path):
    def summarize(ends):
        return {"seeds": tuple(ends), "mean": 0.5}

    train(tmp_path, seeds=[0], summarize=summarize)
    # Nor is the seed of the recipe.
    other = dataclasses.replace(SHORT, seed=9)
    options = {"seeds": [0, 3], "output": tmp_path, "summarize": summarize}
    train_over_seeds(NETWORKS, "mnist5k", other, **options)
    written = json.loads((tmp_path / "results.json").read_text())
    assert (written["seeds"], written["mean"]) == ([0, 3], 0.5)
    assert set(written["settings"]["data"]) == {"0", "3"}


def test_images_loaded_already_are_those_of_the_first_seed(
    tmp_path, monkeypatch
):
    loaded = training.images_for("mnist5k", SHORT)
    seeds, load = [], data.load

    @functools.wraps(load)
    def noting(name, **options):
        seeds.append(options["seed"])
        return load(name, **options)

    monkeypatch.setattr(data, "load", noting)
    train(tmp_path, loaded=loaded)
    assert seeds == [3]


def test_loaded_images_and_several_processes_are_refused(tmp_path):
    with pytest.raises(TypeError, match="each seed splits them differently"):
        train(tmp_path / "run", images=data.load("mnist5k"))
    processes = training.Distribution("host:80", 2, 0)
    with pytest.raises(ValueError, match="cannot be shared among processes"):
        train(tmp_path / "run", distribute=processes)
    assert not (tmp_path / "run").exists()
