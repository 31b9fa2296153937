"""Networks trained over seeds: folders, resuming, and what is refused."""

import dataclasses
import functools
import json

import pytest
from training_checks import SHORT, linear, numbers

from cbam_keras import data, training
from cbam_keras.training import check_seeds, train_over_seeds

pytestmark = pytest.mark.usefixtures("few_digits")

NETWORKS = {"linear": linear}


def train(output, seeds=(0, 3), networks=NETWORKS, recipe=SHORT, **options):
    return train_over_seeds(
        networks, "mnist5k", recipe, seeds=seeds, output=output, **options
    )


def content(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    ("seeds", "found"),
    [(1, (0,)), (3, (0, 1, 2)), ([5, 2], (5, 2)), ((7,), (7,))],
)
def test_seeds_are_a_number_of_seeds_or_seeds(seeds, found):
    assert check_seeds(seeds) == found


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (0, "`seeds` must be a positive integer. Received: seeds=0"),
        (True, "`seeds` must be a positive integer"),
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
    alone = training.train(
        NETWORKS,
        "mnist5k",
        dataclasses.replace(SHORT, seed=3),
        output=tmp_path / "alone",
    )
    assert numbers(found[3]) == numbers(alone)
    assert found[3].output == tmp_path / "run" / "seed-3"
    assert (found[3].output / "linear.keras").is_file()


def test_more_seeds_train_what_is_missing(tmp_path, monkeypatch):
    first = train(tmp_path, seeds=[0])
    trained, fit = [], training.fitting.fit

    def noting(model, name, images, recipe, *arguments, **options):
        trained.append(recipe.seed)
        return fit(model, name, images, recipe, *arguments, **options)

    monkeypatch.setattr(training.fitting, "fit", noting)
    both = train(tmp_path, seeds=[0, 3])
    assert trained == [3]
    assert both[0] == first[0]
    assert set(content(tmp_path)["settings"]["data"]) == {"0", "3"}


def test_images_loaded_already_are_those_of_the_first_seed(
    tmp_path, monkeypatch
):
    plain = train(tmp_path / "plain")
    loaded = training.images_for("mnist5k", SHORT)
    seeds, load = [], data.load

    @functools.wraps(load)
    def noting(name, **options):
        seeds.append(options["seed"])
        return load(name, **options)

    monkeypatch.setattr(data, "load", noting)
    given = train(tmp_path / "given", loaded=loaded)
    assert seeds == [3]
    assert [numbers(own) for own in given.values()] == [
        numbers(own) for own in plain.values()
    ]


def test_a_summary_is_written_at_the_end(tmp_path):
    train(
        tmp_path,
        summarize=lambda ends: {"seeds": tuple(ends), "mean": 0.5},
    )
    written = content(tmp_path)
    assert (written["seeds"], written["mean"]) == ([0, 3], 0.5)
    # And is no obstacle to resuming.
    train(tmp_path)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (
            {"recipe": dataclasses.replace(SHORT, epochs=2)},
            "recipe.epochs was 1, is 2",
        ),
        ({"settings": {"own": 2}}, "own was None, is 2"),
        (
            {"networks": {"linear": linear, "more": linear}},
            r"networks was \['linear'\]",
        ),
    ],
    ids=["recipe", "settings", "networks"],
)
def test_other_settings_are_refused(tmp_path, options, changed):
    train(tmp_path, seeds=[0])
    with pytest.raises(ValueError, match=f"changed: {changed}"):
        train(tmp_path, seeds=[0], **options)


def test_the_seed_of_the_recipe_does_not_matter(tmp_path):
    first = train(tmp_path, seeds=[0])
    other = dataclasses.replace(SHORT, seed=9)
    assert train(tmp_path, seeds=[0], recipe=other) == first


def test_overwriting_deletes_all_seeds(tmp_path):
    train(tmp_path, seeds=[0, 3])
    train(tmp_path, seeds=[5], overwrite=True)
    assert sorted(path.name for path in tmp_path.glob("seed-*/*.keras")) == [
        "linear.keras"
    ]
    assert set(content(tmp_path)["settings"]["data"]) == {"5"}


def test_loaded_images_are_refused(tmp_path):
    images = data.load("mnist5k")
    with pytest.raises(TypeError, match="each seed splits them differently"):
        train_over_seeds(
            NETWORKS, images, SHORT, seeds=[0, 1], output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(tmp_path):
    processes = training.Distribution("host:80", 2, 0)
    with pytest.raises(ValueError, match="cannot be shared among processes"):
        train(tmp_path / "run", distribute=processes)
    assert not (tmp_path / "run").exists()
