"""Images are loaded as a recipe says."""

import numpy as np
import pytest
from data_checks import arrays

from cbam_keras import data, training

RECIPE = training.Recipe(
    batch_size=7, seed=3, augment=("flip",), image_size=(6, 5)
)


@pytest.mark.parametrize("kind", ["arrays", "mapping"])
def test_the_recipe_decides_how_images_are_loaded(kind):
    given = arrays() if kind == "arrays" else {"train": arrays()}
    images = training.images_for(given, RECIPE)
    assert images.batch_size == 7
    assert images.seed == 3
    assert images.augment == ("flip",)
    assert images.image_shape == (6, 5, 3)


def test_data_options_decide_the_rest():
    given = {"validation_fraction": 0.5}
    images = training.images_for(arrays(), RECIPE, given)
    assert images.sizes == {"train": 25, "validation": 30, "test": 15}
    assert given == {"validation_fraction": 0.5}


def test_loaded_images_stay_as_they_are():
    images = data.load(arrays(), batch_size=4)
    assert training.images_for(images, RECIPE) is images


@pytest.mark.parametrize("name", ["batch_size", "seed", "augment", "boxes"])
def test_data_options_must_not_change_the_recipe(name):
    with pytest.raises(ValueError, match=f"data_options.*{name}"):
        training.images_for(arrays(), RECIPE, {name: 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "`images` must come in batches"),
        ({}, "`data_options` must be left out for images that are loaded"),
    ],
    ids=["whole", "options"],
)
def test_loaded_images_that_do_not_fit_are_refused(options, message):
    images = data.load(arrays(), **options)
    given = None if options else {"download": True}
    with pytest.raises(ValueError, match=message):
        training.images_for(images, RECIPE, given)


@pytest.mark.parametrize("images", [None, 5, np.zeros((3, 4, 4))])
def test_other_images_are_refused(images):
    with pytest.raises(TypeError, match="`images` must be the name of a data"):
        training.images_for(images, RECIPE)
