"""Images are loaded as a recipe says, or keep their own options."""

import json

import pretended
import pytest
from data_checks import arrays
from networks import linear

from cbam_keras import data, training

RECIPE = training.Recipe(
    batch_size=7, seed=3, augment=("flip",), image_size=(6, 5)
)


def test_the_recipe_and_data_options_decide_how_images_are_loaded():
    given = {"validation_fraction": 0.5}
    images = training.images_for(arrays(), RECIPE, given)
    assert images.batch_size == 7
    assert images.seed == 3
    assert images.augment == ("flip",)
    assert images.image_shape == (6, 5, 3)
    assert images.sizes == {"train": 25, "validation": 30, "test": 15}
    for name in ("batch_size", "boxes"):
        with pytest.raises(ValueError, match=f"data_options.*{name}"):
            training.images_for(arrays(), RECIPE, {name: 1})


def test_loaded_images_keep_their_options(tmp_path, few_digits, monkeypatch):
    pretended.install(monkeypatch)
    images = data.load("mnist5k", batch_size=10, seed=2, augment="crop")
    assert training.images_for(images, RECIPE) is images
    training.train({"linear": linear}, images, RECIPE, output=tmp_path)
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    for described in (settings["data"], settings["recipe"]):
        assert described["batch_size"] == 10
        assert described["augment"] == ["crop"]
    assert settings["data"]["seed"] == 2
    assert settings["data"]["image_shape"] == [28, 28, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "`images` must come in batches"),
        ({"boxes": True}, "`images` must hold images and labels.*boxes=True"),
        ({}, "`data_options` must be left out for images that are loaded"),
    ],
    ids=["whole", "boxes", "options"],
)
def test_loaded_images_that_do_not_fit_are_refused(
    few_digits, options, message
):
    images = data.load("cluttered_mnist", **options)
    given = None if options else {"download": True}
    with pytest.raises(ValueError, match=message):
        training.images_for(images, RECIPE, given)


def test_other_images_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`images` must be the name of a data"):
        training.train(linear(), arrays()[0], RECIPE, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
