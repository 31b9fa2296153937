"""Models in files: their names, the images they take, their classes."""

import sys

import keras
import numpy as np
import pytest
from explain_files_checks import (
    as_colours,
    brightness,
    colours,
    explain,
    heat_of,
    picture,
    softmax,
)
from keras import layers
from PIL import Image

from cbam_keras import SqueezeExcite
from cbam_keras.explain.models import unique_names


def test_models_of_one_name_go_by_their_folders(here):
    picture(here / "it.png")
    gate = SqueezeExcite(1, name="attention")
    # Of none of these files are the names of the classes.
    for folder, content in {
        "a": "{",
        "b": '{"class_names": ["a", "b"]}',
        "c": '{"runs": []}',
    }.items():
        (here / folder).mkdir()
        (here / folder / "results.json").write_text(content)
        colours(f"{folder}/m.keras", attention=gate if folder == "b" else None)
    content, arrays = explain(
        "a/m.keras", "b/m.keras", "c/m.keras", "it.png", "--no-report"
    )
    assert content["models"] == {f"{x}/m": f"{x}/m.keras" for x in "abc"}
    assert content["class_names"] is None
    assert "b/m/heat_maps" in arrays
    assert (here / "out" / "attention-b-m.png").is_file()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.keras", "b/y.keras"], ["x", "y"]),
        (["a/x.keras", "b/x.keras", "b/y.h5"], ["a/x", "b/x", "y"]),
        (["s/a/x.keras", "t/a/x.keras"], ["s/a/x", "t/a/x"]),
        (["a/x.keras", "a/x.h5"], ["x.keras", "x.h5"]),
        (["a-x.keras", "a/x.keras", "b/x.keras"], None),
    ],
)
def test_names_of_models_are_unique(tmp_path, paths, names):
    found = unique_names([tmp_path / path for path in paths])
    assert len({name.replace("/", "-") for name in found}) == len(paths)
    assert names is None or found == names


def test_a_grey_model_gets_the_brightness_of_colours(here):
    brightness("grey.keras")
    image = picture(here / "it.png", brightest=1)
    red_or_green = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 1, use_bias=False),
            layers.GlobalAveragePooling2D(),
        ]
    )
    red_or_green.set_weights([np.eye(3)[None, None, :, :2] / 255])
    red_or_green.save("colour.keras")
    _, arrays = explain("grey.keras", "colour.keras", "it.png")
    # As Pillow turns colours to grey, up to rounding.
    grey = np.asarray(Image.fromarray(image).convert("L"), "float64")
    assert arrays["images"].shape == (1, 8, 8, 1)
    np.testing.assert_allclose(arrays["images"][0, ..., 0], grey, atol=1)
    mean = grey.mean() / 255
    np.testing.assert_allclose(
        arrays["grey/probabilities"],
        softmax(2 * np.array([[mean, 1 - mean]])),
        atol=0.01,
    )
    # The other one sees colours.
    means = image.mean(axis=(0, 1))[None, :2] / 255
    np.testing.assert_allclose(
        arrays["colour/probabilities"], softmax(means), atol=1e-5
    )


def test_a_model_can_take_channels_first(here):
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = layers.ReLU()(layers.Rescaling(1 / 255)(inputs))
    x = layers.GlobalAveragePooling2D(**first)(x)
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(x))
    model.layers[-1].set_weights([np.eye(3)])
    model.save("first.keras")
    image = picture(here / "it.png")[None]
    _, arrays = explain("first.keras", "colours.keras", "it.png")
    np.testing.assert_array_equal(arrays["images"], image)
    np.testing.assert_allclose(
        arrays["first/heat_maps"], heat_of(image, 0), atol=1e-5
    )
    np.testing.assert_allclose(
        arrays["first/probabilities"], as_colours(image, scale=1.0), atol=1e-5
    )


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ([(8, 12), (8, 12)], [], (8, 12)),
        ([(8, 12), (9, 12)], [], (224, 224)),
        ([(8, 12), (9, 12)], ["--image-size", "16"], (16, 16)),
        ([(20, 30)], ["colours.keras"], (8, 8)),
    ],
    ids=["as_they_are", "different", "given", "of_another_model"],
)
def test_models_of_any_size_get_images_of_one(here, sizes, given, expected):
    colours("any.keras", size=(None, None))
    names = [f"{number}.png" for number in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        picture(here / name, size=size)
    _, arrays = explain("any.keras", *given, *names, "--no-report")
    assert arrays["any/heat_maps"].shape == (len(sizes), *expected)


def test_images_are_preprocessed(here, monkeypatch):
    (here / "mine_to_explain.py").write_text(
        "def turn(images):\n"
        "    images[:] = images[..., ::-1].copy()\n"
        "    return images\n"
    )
    image = picture(here / "it.png", brightest=2)[None]
    monkeypatch.setattr("sys.path", ["", *sys.path])
    content, arrays = explain(
        *("colours.keras", "it.png", "--preprocess", "mine_to_explain:turn")
    )
    # Those that are drawn are not changed.
    np.testing.assert_array_equal(arrays["images"], image)
    np.testing.assert_allclose(
        arrays["colours/probabilities"],
        as_colours(image[..., ::-1]),
        atol=1e-5,
    )
    assert content["settings"]["preprocess"] == "mine_to_explain:turn"


@pytest.mark.parametrize(
    ("folders", "names"),
    [("cab", ["a", "b", "c"]), (("holidays", "work"), None)],
    ids=["one_for_each_class", "others"],
)
def test_folders_name_the_classes_if_there_is_one_each(here, folders, names):
    for number, name in enumerate(folders):
        picture(here / "all" / name / "0.png", seed=number)
    content, _ = explain("colours.keras", "all", "--no-report")
    assert content["class_names"] == names
    classes = {entry["true_class"] for entry in content["images"]}
    assert classes == set(names or [None])
