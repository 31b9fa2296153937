"""Models in files: their names, the images they take, their classes."""

import functools
import json
import sys

import keras
import numpy as np
import pytest
from data_checks import write_folder
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

from cbam_keras import cli, models
from cbam_keras.explain import models as explain_models
from cbam_keras.layers import SqueezeExcite
from cbam_keras.models import by_name
from cbam_keras.training import folder as training_folder


def test_names_of_models_are_distinguished_by_their_folders(here):
    picture(here / "it.png")
    for folder in "ab":
        (here / folder).mkdir()
        colours(
            f"{folder}/m.keras", attention=SqueezeExcite(1, name="attention")
        )
    content, arrays = explain("a/m.keras", "b/m.keras", "it.png")
    assert content["models"] == {"a/m": "a/m.keras", "b/m": "b/m.keras"}
    assert "b/m/heat_maps" in arrays
    assert (here / "out" / "attention-b-m.png").is_file()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x.keras"], ["x"]),
        (["a/x.keras", "b/y.keras"], ["x", "y"]),
        (["a/x.keras", "b/x.keras", "b/y.h5"], ["a/x", "b/x", "y"]),
        (["s/a/x.keras", "t/a/x.keras"], ["s/a/x", "t/a/x"]),
        (["a/x.keras", "a/x.h5"], ["x.keras", "x.h5"]),
        (["a-x.keras", "a/x.keras", "b/x.keras"], None),
    ],
)
def test_names_of_models_are_unique(tmp_path, paths, names):
    found = explain_models.unique_names([tmp_path / path for path in paths])
    assert len({name.replace("/", "-") for name in found}) == len(paths)
    assert names is None or found == names


def test_a_grey_model_gets_the_brightness_of_colours(here):
    brightness("grey.keras")
    image = picture(here / "it.png")
    _, arrays = explain("grey.keras", "it.png")
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


def test_a_grey_and_a_colour_model_see_the_same_image(here):
    brightness("grey.keras")
    colours("other.keras")
    grey = np.full((8, 8), 51, "uint8")
    Image.fromarray(grey).save("it.png")
    inputs = keras.Input((8, 8, 3))
    keras.Model(
        inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(inputs))
    ).save("flat.keras")
    assert cli.main(["explain", "grey.keras", "flat.keras", "it.png"]) == 2
    keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 1, kernel_initializer="ones"),
            layers.GlobalAveragePooling2D(),
        ]
    ).save("sum.keras")
    content, arrays = explain("grey.keras", "sum.keras", "it.png")
    assert arrays["images"].shape == (1, 8, 8, 1)
    np.testing.assert_allclose(arrays["sum/probabilities"], [[0.5, 0.5]])


@pytest.mark.every_backend
def test_a_model_can_take_channels_first(here):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on a CPU")
    first = {"data_format": "channels_first"}
    model = keras.Sequential(
        [
            keras.Input((3, 8, 8)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 1, use_bias=False, **first),
            layers.GlobalAveragePooling2D(**first),
            layers.Dense(3, use_bias=False),
        ]
    )
    model.layers[1].set_weights([np.eye(3)[None, None]])
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


def test_models_of_before_are_read(here):
    colours("old.h5")
    image = picture(here / "it.png")[None]
    _, arrays = explain("old.h5", "it.png")
    np.testing.assert_allclose(
        arrays["old/probabilities"], as_colours(image), atol=1e-5
    )


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ([(8, 12), (8, 12)], [], (8, 12)),
        ([(8, 12), (9, 12)], [], (224, 224)),
        ([(8, 12), (9, 12)], ["--image-size", "16"], (16, 16)),
    ],
    ids=["as_they_are", "different", "given"],
)
def test_models_of_any_size_get_images_of_one(here, sizes, options, expected):
    colours("any.keras", size=(None, None))
    for number, size in enumerate(sizes):
        picture(here / f"{number}.png", size=size)
    _, arrays = explain("any.keras", "0.png", "1.png", *options)
    assert arrays["any/heat_maps"].shape == (2, *expected)


def test_a_model_of_any_size_gets_that_of_another(here):
    colours("any.keras", size=(None, None))
    picture(here / "it.png", size=(20, 30))
    _, arrays = explain("any.keras", "colours.keras", "it.png")
    assert arrays["images"].shape == (1, 8, 8, 3)


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
    np.testing.assert_array_equal(arrays["images"], image)
    np.testing.assert_allclose(
        arrays["colours/probabilities"],
        as_colours(image[..., ::-1]),
        atol=1e-5,
    )
    assert content["settings"]["preprocess"] == "mine_to_explain:turn"


def test_functions_of_keras_preprocess(here):
    # To [-1, 1].
    colours("raw.keras", rescale=1.0)
    image = picture(here / "it.png")[None]
    _, arrays = explain(
        *("raw.keras", "it.png", "--preprocess"),
        "keras.applications.mobilenet_v2:preprocess_input",
    )
    np.testing.assert_allclose(
        arrays["raw/probabilities"],
        as_colours(255 * (image / 127.5 - 1)),
        atol=1e-5,
    )


def test_folders_name_the_classes_if_there_is_one_each(here):
    for number, name in enumerate("cab"):
        picture(here / "all" / name / "0.png", seed=number)
    content, _ = explain("colours.keras", "all")
    assert content["class_names"] == ["a", "b", "c"]


def test_other_folders_tell_nothing(here):
    for number, name in enumerate(("holidays", "work")):
        picture(here / "all" / name / "0.png", seed=number)
    content, _ = explain("colours.keras", "all")
    assert content["class_names"] is None
    assert {entry["true_class"] for entry in content["images"]} == {None}


def test_training_writes_the_names_of_classes_beside_models(here, monkeypatch):
    build = functools.partial(
        models.ResNet, (1,), block="basic", widths=(4,), stem_width=4
    )
    small = functools.partial(by_name._network, build)
    monkeypatch.setitem(by_name.NETWORKS, "tiny", small)
    write_folder(here / "pets", 5, ("cat", "dog", "eel"), size=(8, 8))
    given = ["--attention", "none", "--epochs", "1", "--output", "run"]
    assert cli.main(["train", "--data", "./pets", *given]) == 0
    picture(here / "it.png")
    content, _ = explain("run/none.keras", "it.png", "--class", "eel")
    assert content["class_names"] == ["cat", "dog", "eel"]
    assert content["images"][0]["models"]["none"]["class_index"] == 2


def test_a_run_of_before_resumes_without_names_of_classes(tmp_path):
    with training_folder.TrainingFolder(tmp_path, {}, ("a", "b")).opened():
        pass
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    assert content.pop("class_names") == ["a", "b"]
    file.write_text(json.dumps(content))
    folder = training_folder.TrainingFolder(tmp_path, {}, ("a", "b"))
    with folder.opened():
        assert folder.finished == []


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"class_names": ["a", "b"]}', '{"runs": []}']
)
def test_other_files_beside_a_model_are_passed_over(here, content):
    (here / "results.json").write_text(content)
    picture(here / "it.png")
    written, _ = explain("colours.keras", "it.png")
    assert written["class_names"] is None
