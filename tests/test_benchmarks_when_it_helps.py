"""The studies on when attention helps: their task, what is stored, tables."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks import camvid, when_it_helps
from cbam_keras import training

RESULTS = {
    "format": 3,
    "kind": "train",
    "command": "cbam-keras train",
    "source": {"name": "/home/me/photographs"},
    "settings": {
        "recipe": {},
        "variants": {"none": {}},
        "data": {"0": {"name": "photographs", "sizes": {"test": 100}}},
    },
    "measures": [{"key": "test_accuracy", "heading": "test accuracy"}],
    "comparisons": [{"baseline": "none", "variants": []}],
    "labels": {},
    "seeds": [0],
    "cells": [],
}


def trained(accuracy):
    """Returns the content of an output folder with one trained network."""
    cell = {"variant": "none", "seed": 0, "status": "finished", "file": "x"}
    history = [{"val_accuracy": 0.5}, {"val_accuracy": accuracy}]
    metrics = {"test_accuracy": accuracy}
    return RESULTS | {
        "cells": [{**cell, "metrics": metrics, "history": history}]
    }


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Returns a function that stores runs by name, and reads the results."""
    monkeypatch.setattr(when_it_helps, "STORED", tmp_path / "stored.jsonl")
    when_it_helps.STORED.touch()

    def store(**runs):
        for name, content in runs.items():
            folder = tmp_path / name.replace("_", "-")
            folder.mkdir(exist_ok=True)
            (folder / "results.json").write_text(json.dumps(content))
        when_it_helps.store(tmp_path)
        (content,) = when_it_helps.stored().values()
        return when_it_helps.results_of(content)

    return store


def test_a_study_that_is_stored_again_replaces_the_one_before(stored):
    stored(bccd=trained(0.25))
    assert [row.values for row in stored(bccd=trained(0.75)).rows] == [(0.75,)]


def test_the_network_trained_for_longer_is_compared_in_the_same_study(stored):
    for _ in range(2):
        found = stored(bccd=trained(0.5), bccd_longer=trained(0.75))
        rows = {row.network: row for row in found.rows}
        assert [*rows] == ["none", "none-longer"]
        assert rows["none-longer"].difference == 0.25


def test_seeds_without_a_trained_network_are_not_stored(stored):
    untrained = RESULTS | {"seeds": [0, 1, 2]}
    found = stored(bccd=trained(0.5) | {"seeds": [0, 1, 2]}, camvid=untrained)
    assert found.seeds == (0,)


def test_no_place_on_a_machine_is_stored(stored):
    stored(bccd=trained(0.5))
    assert "/home/me" not in when_it_helps.STORED.read_text()


@pytest.fixture
def streets(tmp_path):
    """Returns a folder of two photographs a split, the second one all void."""
    for split in ("train", "val", "test"):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / split / kind).mkdir(parents=True)
            for number, label in enumerate((2, camvid.VOID)):
                image = np.full((180, 240), label, "uint8")
                image[:, :120] = label if number else 1
                path = tmp_path / split / kind / f"{number}.png"
                Image.fromarray(image).convert(mode).save(path)
    return tmp_path


def test_pixels_of_no_class_are_not_counted(streets):
    task, recipe = camvid.Segmentation(streets), training.Recipe(batch_size=2)
    loaded = task.load(recipe)
    images = keras.Input(loaded.image_shape)
    # It takes void for some class, and sees all others.
    seen = keras.ops.equal(images[..., :1], np.arange(11, dtype="float32"))
    seen = keras.ops.cast(seen, "float32")
    model = keras.Model(images, keras.layers.Dense(11, "softmax")(100 * seen))
    model.layers[-1].set_weights([np.eye(11), np.zeros(11)])
    task.compile(model, recipe, loaded)
    assert task.evaluate(model, loaded) == {"test_miou": 1.0}


def test_photographs_are_mirrored_with_their_pixels(streets):
    loaded = camvid.Segmentation(streets).load(training.Recipe(batch_size=4))
    ((images, labels),) = loaded.train
    np.testing.assert_array_equal(images[..., 0], labels)
    left_out = [x for x in labels[:, 0].tolist() if x[0] == 2]
    assert loaded.sizes["train"] == 4 and len(left_out) == 1
