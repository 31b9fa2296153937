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


def content(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    ("seeds", "found"), [(3, (0, 1, 2)), ([5, 2], (5, 2)), ((7,), (7,))]
)
def test_seeds_are_a_number_of_seeds_or_seeds(seeds, found):
    assert check_seeds(seeds) == found


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (0, "`seeds` must be a positive integer. Received: seeds=0"),
        ("3", "`seeds` must be a positive integer. Received: seeds='3'"),
        ([], "`seeds` must be a number of seeds, or one or several"),
        ([1, 1], "different ones. Received: seeds=.1, 1."),
        ([-1], "`seeds` must be an integer from 0"),
    ],
)
def test_other_seeds_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        check_seeds(seeds)


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
    settings, expected = (
        content(folder)["settings"]
        for folder in (found[3].output, tmp_path / "alone")
    )
    assert settings == expected


def test_more_seeds_add_their_data_and_the_recipes_seed_does_not_matter(
    tmp_path,
):
    train(tmp_path, seeds=[0])
    other = dataclasses.replace(SHORT, seed=9)
    options = {"seeds": [0, 3], "output": tmp_path}
    train_over_seeds(NETWORKS, "mnist5k", other, **options)
    assert set(content(tmp_path)["settings"]["data"]) == {"0", "3"}


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
    assert set(content(tmp_path)["settings"]["data"]) == {"0", "3"}


def test_a_summary_is_written_at_the_end(tmp_path):
    train(
        tmp_path,
        summarize=lambda ends: {"seeds": tuple(ends), "mean": 0.5},
    )
    written = content(tmp_path)
    assert (written["seeds"], written["mean"]) == ([0, 3], 0.5)
    # And is no obstacle to resuming.
    train(tmp_path)


def test_loaded_images_and_several_processes_are_refused(tmp_path):
    with pytest.raises(TypeError, match="each seed splits them differently"):
        train(tmp_path / "run", images=data.load("mnist5k"))
    processes = training.Distribution("host:80", 2, 0)
    with pytest.raises(ValueError, match="cannot be shared among processes"):
        train(tmp_path / "run", distribute=processes)
    assert not (tmp_path / "run").exists()
