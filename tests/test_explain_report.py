"""`cbam-keras explain`: images to models, to figures, arrays and tables."""

import functools
import importlib
import json
import pathlib
import re
import sys

import digits
import keras
import numpy as np
import pytest
from data_checks import builder, write_folder
from keras import layers
from PIL import Image

from cbam_keras import cli, data, models
from cbam_keras.data import tfds
from cbam_keras.explain_report import images as explain_report_images
from cbam_keras.explain_report import models as classifiers
from cbam_keras.layers import CBAM, SqueezeExcite
from cbam_keras.models import by_name
from cbam_keras.training import folder as training_folder

COLOURS = ("red", "green", "blue")


def colours(
    path, size=(8, 8), turned=0, attention=None, scale=4.0, rescale=1 / 255
):
    """Saves a model whose evidence for class k is the colour k + turned.

    Its logits are the mean of each colour in [0, 1], times `scale`, and its
    heat map of a class is that colour itself over its maximum.
    """
    inputs = keras.Input((*size, 3))
    x = layers.Rescaling(rescale)(inputs)
    x = layers.Conv2D(3, 1, use_bias=False, name="features")(x)
    if attention is not None:
        x = attention(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(3, use_bias=False, activation="softmax")(x)
    model = keras.Model(inputs, outputs, name="colours")
    model.get_layer("features").set_weights([np.eye(3)[None, None]])
    kernel = scale * np.roll(np.eye(3), turned, axis=1)
    model.layers[-1].set_weights([kernel])
    model.save(path)
    return model


def brightness(path, size=(8, 8)):
    """Saves a grey model of the classes bright and dark."""
    model = keras.Sequential(
        [
            keras.Input((*size, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 1, name="features"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, use_bias=False),
        ]
    )
    model.get_layer("features").set_weights(
        [np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])]
    )
    # Not such that the logits sum to 1, as probabilities do.
    model.layers[-1].set_weights([2 * np.eye(2)])
    model.save(path)


def digit_network(path, attention=None):
    """Saves a network of cluttered digits, with random weights."""
    models.ResNet(
        (1,),
        block="basic",
        widths=(4,),
        stem_width=4,
        stem="small",
        input_shape=(48, 48, 1),
        classes=10,
        attention=attention,
    ).save(path)


def picture(path, seed=0, size=(8, 8), brightest=0):
    """Writes a picture of random colours, one of them the strongest."""
    image = np.random.default_rng(seed).integers(0, 120, (*size, 3))
    image[..., brightest] += 100
    image = image.astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def as_colours(images, turned=0, scale=4.0):
    """Returns what the model of colours thinks, by the formula."""
    means = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    return softmax(scale * np.roll(means, turned, axis=-1))


def heat_of(images, colour):
    return images[..., colour] / images[..., colour].max(
        axis=(1, 2), keepdims=True
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Goes into an empty folder with a model of colours."""
    monkeypatch.chdir(tmp_path)
    colours("colours.keras")
    return tmp_path


def explain(*arguments, output="out"):
    """Runs the command, and returns what it has written."""
    given = [str(argument) for argument in arguments]
    assert cli.main(["explain", *given, "--output", str(output)]) == 0
    return written(output)


def written(output="out"):
    with open(f"{output}/explain.json") as file:
        content = json.load(file)
    with np.load(f"{output}/arrays.npz") as file:
        arrays = dict(file)
    return content, arrays


# What is explained.


def test_a_file_is_explained_for_the_class_that_is_predicted(here, capsys):
    image = picture(here / "it.png", brightest=1)[None]
    content, arrays = explain("colours.keras", "it.png")
    probabilities = as_colours(image)
    np.testing.assert_array_equal(arrays["images"], image)
    np.testing.assert_allclose(
        arrays["colours/probabilities"], probabilities, atol=1e-5
    )
    np.testing.assert_allclose(
        arrays["colours/heat_maps"], heat_of(image, 1), atol=1e-5
    )
    (entry,) = content["images"]
    assert entry == {
        "image": "it.png",
        "true_class": None,
        "models": {
            "colours": {
                "class": "class 1",
                "class_index": 1,
                "probability": pytest.approx(probabilities[0, 1], abs=1e-5),
                "predicted_class": "class 1",
                "predicted_class_index": 1,
                "predicted_probability": pytest.approx(
                    probabilities[0, 1], abs=1e-5
                ),
            }
        },
    }
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.search(
        rf"│ it.png │ class 1 {probabilities[0, 1]:.1%} ", printed.out
    )
    assert printed.out.endswith("Files in out\n")


def test_class_folders_tell_the_true_classes(here, capsys):
    # Of three images, the second is not what its folder says.
    whole = [
        picture(here / f"all/{name}/0.png", seed=i, brightest=[0, 2, 2][i])
        for i, name in enumerate(COLOURS)
    ]
    (here / "names.txt").write_text("red\ngreen\nblue\n")
    content, arrays = explain(
        *("colours.keras", "all", "--class-names", "names.txt")
    )
    by_class = {entry["true_class"]: entry for entry in content["images"]}
    assert set(by_class) == set(COLOURS)
    row = by_class["green"]["models"]["colours"]
    assert row["class"] == "green"
    assert row["predicted_class"] == "blue"
    assert content["summary"] == {"colours": {"accuracy": pytest.approx(2 / 3)}}
    place = [entry["image"] for entry in content["images"]].index(
        "all/green/0.png"
    )
    np.testing.assert_allclose(
        arrays["colours/heat_maps"][place],
        heat_of(whole[1][None], 1)[0],
        atol=1e-5,
    )
    assert arrays["labels"][place] == 1
    out = capsys.readouterr().out
    assert re.search(r"│ green/0.png │ green .*\(predicts blue ", out)
    assert "66.7%" in out


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


@pytest.mark.parametrize("asked", ["blue", "2"])
def test_a_class_can_be_asked_for(here, asked):
    image = picture(here / "it.png")[None]
    (here / "names.txt").write_text("red\ngreen\nblue")
    content, arrays = explain(
        *("colours.keras", "it.png", "--class", asked),
        *("--class-names", "names.txt"),
    )
    row = content["images"][0]["models"]["colours"]
    assert (row["class"], row["predicted_class"]) == ("blue", "red")
    np.testing.assert_allclose(
        arrays["colours/heat_maps"], heat_of(image, 2), atol=1e-5
    )


def test_a_name_comes_before_an_index(here):
    picture(here / "it.png")
    (here / "names.txt").write_text("2\n1\n0\n")
    content, _ = explain(
        *("colours.keras", "it.png", "--class", "2"),
        *("--class-names", "names.txt"),
    )
    assert content["images"][0]["models"]["colours"]["class_index"] == 0


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam++", "hires_cam"])
def test_methods_are_passed_on(here, method):
    image = picture(here / "it.png")
    content, arrays = explain("colours.keras", "it.png", "--method", method)
    assert content["settings"]["method"] == method
    # With a gradient that is the same everywhere they agree.
    np.testing.assert_allclose(
        arrays["colours/heat_maps"], heat_of(image[None], 0), atol=1e-5
    )


def test_a_layer_can_be_named(here):
    image = picture(here / "it.png")
    layer = layers.Conv2D(2, 1, use_bias=False, name="later")

    def both(x):
        return layers.Concatenate()([x, layer(x)])[..., :3]

    colours("two.keras", attention=both)
    content, arrays = explain("two.keras", "it.png", "--layer", "features")
    assert content["settings"]["layer"] == "features"
    np.testing.assert_allclose(
        arrays["two/heat_maps"], heat_of(image[None], 0), atol=1e-5
    )


def test_a_model_with_several_outputs_needs_a_head(here, capsys):
    model = colours("one.keras")
    other = layers.Dense(2, name="other")(model.layers[-2].output)
    both = {"colour": model.output, "other": other}
    keras.Model(model.input, both).save("both.keras")
    picture(here / "it.png")
    assert cli.main(["explain", "both.keras", "it.png"]) == 2
    assert re.search(
        r"`head` must be one of .*other.*head=None", capsys.readouterr().err
    )
    _, arrays = explain("both.keras", "it.png", "--head", "1")
    assert arrays["both/probabilities"].shape == (1, 2)


# Several models.


def test_models_stand_side_by_side(here, capsys):
    image = picture(here / "it.png", brightest=0)[None]
    colours("turned.keras", turned=1)
    content, arrays = explain("colours.keras", "turned.keras", "it.png")
    assert list(content["models"]) == ["colours", "turned"]
    rows = content["images"][0]["models"]
    assert [rows[name]["class_index"] for name in rows] == [0, 1]
    np.testing.assert_allclose(
        arrays["turned/probabilities"], as_colours(image, 1), atol=1e-5
    )
    np.testing.assert_allclose(
        arrays["turned/heat_maps"], heat_of(image, 0), atol=1e-5
    )
    assert re.search(r"colours +┃ turned", capsys.readouterr().out)


def test_each_model_gets_its_size_and_is_drawn_in_that_of_the_first(here):
    # Squares of one colour each stay what they are in other sizes.
    image = np.zeros((8, 8, 3), "uint8")
    image[:4, :4, 0] = 200
    Image.fromarray(image).save("it.png")
    colours("large.keras", size=(16, 16))
    _, arrays = explain("colours.keras", "large.keras", "it.png")
    assert arrays["images"].shape == (1, 8, 8, 3)
    assert arrays["large/heat_maps"].shape == (1, 8, 8)
    heat = arrays["large/heat_maps"][0]
    assert heat[:3, :3].min() > 0.9
    assert heat[5:].max() == heat[:, 5:].max() == 0


def test_names_of_models_are_told_apart_by_their_folders(here):
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
    found = classifiers.unique_names([tmp_path / path for path in paths])
    assert len({name.replace("/", "-") for name in found}) == len(paths)
    assert names is None or found == names


# Attention.


@pytest.mark.parametrize(
    ("attention", "kinds"),
    [
        (CBAM(1, 3, name="gate"), {"channel": (3, 3), "spatial": (3, 8, 8)}),
        (SqueezeExcite(1, name="gate"), {"channel": (3, 3)}),
    ],
    ids=["cbam", "se"],
)
def test_attention_is_written_and_drawn(here, attention, kinds):
    for number in range(5):
        picture(here / "all" / f"{number}.png", seed=number)
    model = colours("gated.keras", attention=attention)
    _, arrays = explain(
        *("colours.keras", "gated.keras", "all", "--draw", "3"),
        *("--batch-size", "2"),
    )
    own = {
        key.removeprefix("gated/attention/gate/"): array.shape
        for key, array in arrays.items()
        if "attention" in key
    }
    assert own == kinds
    features = arrays["images"].astype("float32") / 255
    maps = model.get_layer("gate")
    maps = (
        maps.attention_maps(features)
        if "spatial" in kinds
        else (maps.attention_map(features),)
    )
    for kind, expected in zip(kinds, maps, strict=True):
        np.testing.assert_allclose(
            arrays[f"gated/attention/gate/{kind}"],
            keras.ops.convert_to_numpy(expected).reshape(kinds[kind]),
            atol=1e-5,
        )
    files = sorted(path.name for path in (here / "out").iterdir())
    assert files == [
        "arrays.npz",
        "attention-gated.png",
        "explain.json",
        "grad_cam.png",
    ]


# Images of files.


def test_images_of_any_kind_are_read_as_data_are(here):
    grey = np.random.default_rng(0).integers(0, 256, (8, 8)).astype("uint8")
    colour = picture(here / "a_colour.bmp")
    alpha = np.dstack([colour, grey])
    Image.fromarray(grey).save("b_grey.png")
    Image.fromarray(alpha).save("c_alpha.png")
    Image.fromarray(grey.astype("uint16") * 256 + 9).save("d_sixteen.png")
    Image.fromarray(grey).save(
        "e_animated.gif",
        save_all=True,
        append_images=[Image.fromarray(255 - grey)],
    )
    Image.fromarray(colour).save("f_webp.webp", lossless=True)
    names = sorted(path.name for path in here.glob("?_*"))
    _, arrays = explain("colours.keras", *names)
    threefold = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(
        arrays["images"],
        [colour, threefold, colour, threefold, threefold, colour],
    )


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


def test_the_middle_of_an_image_is_seen(here):
    image = picture(here / "it.png", size=(8, 20))
    _, arrays = explain("colours.keras", "it.png")
    np.testing.assert_array_equal(arrays["images"][0], image[:, 6:14])


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ([(8, 12), (8, 12)], [], (8, 12)),
        ([(8, 12), (9, 12)], [], (224, 224)),
        ([(8, 12), (9, 12)], ["--image-size", "16"], (16, 16)),
    ],
    ids=["as_they_are", "different", "told"],
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


# How many images.


def test_files_are_taken_all_and_folders_in_part(here, capsys):
    for number in range(12):
        picture(here / "all" / f"{number:02}.png", seed=number)
        picture(here / f"{number:02}.png", seed=number)
    named = [f"{number:02}.png" for number in range(12)]
    content, arrays = explain("colours.keras", *named, "all", "--count", "2")
    assert [entry["image"] for entry in content["images"]][:12] == named
    assert len(content["images"]) == 14
    assert len(arrays["images"]) == 8
    # The title of a narrow table goes over several lines.
    printed = " ".join(capsys.readouterr().out.split())
    assert "first 8 of 14 images" in printed


def test_images_are_found_in_folders_within(here):
    names = ["a/z.png", "b/c/x.PNG", "y.jpg"]
    for number, name in enumerate((*names, ".hidden.png", ".git/x.png")):
        picture(here / "all" / name, seed=number)
    (here / "all" / "notes.txt").write_text("none")
    content, _ = explain("colours.keras", "all", "--count", "all")
    found = {entry["image"] for entry in content["images"]}
    assert found == {f"all/{name}" for name in names}


def test_what_cannot_be_read_in_a_folder_is_left_out(here):
    picture(here / "all" / "a.png")
    whole = (here / "all" / "a.png").read_bytes()
    (here / "all" / "b.png").write_bytes(whole[:-20])
    with pytest.warns(UserWarning, match="1 images could not be read.*b.png"):
        found = explain_report_images.from_paths([pathlib.Path("all")], 8, 0)
    assert found.names == ["all/a.png"]


@pytest.mark.parametrize("count", [1, 4, 10, 13, None])
def test_images_are_spread_evenly_over_classes(count):
    labels = np.repeat(np.arange(5), [2, 3, 1, 4, 30])
    chosen = explain_report_images.spread(labels, count, 0)
    assert len(set(chosen)) == len(chosen) == min(count or 40, 40)
    counts = np.bincount(labels[chosen], minlength=5)
    # None has two more than another that has any left.
    left = np.bincount(labels, minlength=5) - counts
    assert counts.max() - counts[left > 0].min(initial=counts.max()) <= 1


def test_a_smaller_choice_is_the_beginning_of_a_larger_one():
    labels = np.random.default_rng(0).integers(0, 7, 100)
    large = explain_report_images.spread(labels, 60, 3)
    np.testing.assert_array_equal(
        explain_report_images.spread(labels, 9, 3), large[:9]
    )
    assert list(explain_report_images.spread(labels, 60, 4)) != list(large)


def test_images_without_classes_stay_in_order():
    chosen = explain_report_images.spread([""] * 100, 10, 0)
    assert list(chosen) == sorted(chosen)
    assert chosen[0] < 50 < chosen[-1]


# Data sets.


@pytest.fixture
def few(monkeypatch):
    digits.replace(digits.few, monkeypatch.setattr)


def test_boxes_tell_whether_heat_is_on_the_object(here, few, capsys):
    digit_network("none.keras")
    digit_network("cbam.keras", "cbam")
    content, arrays = explain(
        *("none.keras", "cbam.keras", "--data", "cluttered_mnist"),
        *("--count", "all", "--draw", "6", "--batch-size", "10"),
    )
    images, labels, boxes = data.load(
        "cluttered_mnist", batch_size=None, boxes=True
    ).test
    names = [entry["image"] for entry in content["images"]]
    places = [int(name.removeprefix("test ")) for name in names]
    assert sorted(places) == list(range(len(images))) == list(range(20))
    assert [entry["box"] for entry in content["images"]] == boxes[
        places
    ].tolist()
    assert list(arrays["names"]) == names[:6]
    places = places[:6]
    np.testing.assert_array_equal(arrays["images"], images[places])
    np.testing.assert_array_equal(arrays["labels"], labels[places])
    np.testing.assert_array_equal(arrays["boxes"], boxes[places])
    rows = [entry["models"]["cbam"] for entry in content["images"]]
    heat = arrays["cbam/heat_maps"].astype("float64")
    for own, box, row in zip(heat, boxes[places], rows[:6], strict=True):
        top, left, bottom, right = box
        inside = own[top:bottom, left:right]
        # Where nothing speaks for the class, all heat is 0.
        share = inside.sum() / max(own.sum(), 1e-9)
        assert row["energy"] == pytest.approx(share, abs=1e-6)
        assert row["hit"] == (0 < own.max() == inside.max())
    summary = content["summary"]["cbam"]
    hits = [row["hit"] for row in rows]
    assert summary["hit_rate"] == pytest.approx(np.mean(hits))
    sides = boxes[:, 2:] - boxes[:, :2]
    share = sides.prod(axis=1).mean() / 48**2
    assert content["share_of_boxes"] == pytest.approx(share)
    out = capsys.readouterr().out
    assert "Means over 20 images" in out
    assert re.search(rf"│ even heat .*{share:.1%} .*{share:.1%} ", out)


def test_the_true_class_of_data_is_explained(here, few):
    digit_network("none.keras")
    content, arrays = explain(
        "none.keras", "--data", "cluttered_mnist", "--count", "10"
    )
    assert content["class_names"] == [str(digit) for digit in range(10)]
    assert sorted(arrays["labels"]) == sorted(set(arrays["labels"]))
    entries = content["images"]
    assert sorted(entry["true_class"] for entry in entries) == list(
        "0123456789"
    )
    for entry in entries:
        assert entry["models"]["none"]["class"] == entry["true_class"]


@pytest.mark.parametrize(
    ("split", "size"), [("train", 140), ("validation", 10), ("test", 20)]
)
def test_the_split_is_that_of_training(here, few, split, size):
    digit_network("none.keras")
    content, arrays = explain(
        *("none.keras", "--data", "cluttered_mnist", "--seed", "3"),
        *("--split", split, "--count", "all", "--draw", "1"),
    )
    assert len(content["images"]) == size
    images, _ = getattr(
        data.load("cluttered_mnist", batch_size=None, seed=3), split
    )
    number = int(arrays["names"][0].removeprefix(f"{split} "))
    np.testing.assert_array_equal(arrays["images"][0], images[number])


def test_boxes_follow_images_to_another_size(here, few):
    brightness("grey.keras", size=(24, 24))
    model = keras.saving.load_model("grey.keras")
    dense = layers.Dense(10, use_bias=False)(model.layers[-2].output)
    keras.Model(model.inputs[0], dense).save("ten.keras")
    _, arrays = explain(
        "ten.keras", "--data", "cluttered_mnist", "--count", "4"
    )
    *_, boxes = data.load("cluttered_mnist", batch_size=None, boxes=True).test
    places = [int(name.removeprefix("test ")) for name in arrays["names"]]
    half = boxes[places] / 2
    outer = np.concatenate([np.floor(half[:, :2]), np.ceil(half[:, 2:])], 1)
    np.testing.assert_array_equal(arrays["boxes"], outer)


def test_a_box_that_is_cut_off_keeps_a_pixel():
    batch = explain_report_images.Batch(
        slice(0, 1),
        [np.zeros((10, 20, 3), "uint8")],
        [(0.0, 5.0, 10.0, 10.0)],
        np.array([[2, 0, 6, 3]]),
    )
    np.testing.assert_array_equal(batch.boxes((20, 20)), [[4, 0, 12, 1]])


def test_data_can_be_a_folder(here):
    images = write_folder(here / "all", 10, COLOURS, size=(8, 8))
    content, arrays = explain(
        "colours.keras", "--data", "./all", "--count", "3"
    )
    assert content["class_names"] == sorted(COLOURS)
    for entry, image in zip(content["images"], arrays["images"], strict=True):
        name = entry["image"].removeprefix("all/")
        assert entry["true_class"] == name.split("/")[0]
        np.testing.assert_array_equal(image, images[name])
    assert "boxes" not in arrays


@pytest.fixture
def insects(tmp_path):
    """Prepares a set of TensorFlow Datasets of 30 grey pictures."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8, 1)).astype("uint8")
    rows = [
        {"image": image, "label": number % 2}
        for number, image in enumerate(images)
    ]
    builder(
        "insects",
        {"train": rows[:20], "test": rows[20:]},
        tmp_path / "tfds",
        image=tfds.features.Image(shape=(8, 8, 1)),
        label=tfds.features.ClassLabel(names=["ant", "bee"]),
    )
    return {image.tobytes() for image in images[20:]}


@pytest.mark.parametrize("streamed", [False, True])
def test_data_can_be_of_tensorflow_datasets(
    here, insects, monkeypatch, streamed
):
    brightness("grey.keras")
    if streamed:
        monkeypatch.setattr(tfds, "STREAMED_BYTES", 0)
    content, arrays = explain(
        *("grey.keras", "--data", "insects", "--data-dir", "tfds"),
        *("--count", "4"),
    )
    assert content["class_names"] == ["ant", "bee"]
    assert sorted(arrays["labels"]) == [0, 0, 1, 1]
    assert {image.tobytes() for image in arrays["images"]} < insects


def test_all_of_what_is_too_large_for_memory_is_refused(
    here, insects, monkeypatch, capsys
):
    brightness("grey.keras")
    monkeypatch.setattr(tfds, "STREAMED_BYTES", 0)
    given = ["--data", "insects", "--data-dir", "tfds", "--count", "all"]
    assert cli.main(["explain", "grey.keras", *given]) == 2
    assert "`count` must be a number" in capsys.readouterr().err


# Names of classes.


def test_training_writes_the_names_of_classes_beside_models(here, monkeypatch):
    build = functools.partial(
        models.ResNet, (1,), block="basic", widths=(4,), stem_width=4
    )
    small = functools.partial(by_name._network, build)
    monkeypatch.setitem(by_name.NETWORKS, "small", small)
    write_folder(here / "pets", 5, ("cat", "dog", "eel"), size=(8, 8))
    given = ["--attention", "none", "--epochs", "1", "--output", "run"]
    assert cli.main(["train", "--data", "./pets", *given]) == 0
    picture(here / "it.png")
    content, _ = explain("run/none.keras", "it.png", "--class", "eel")
    assert content["class_names"] == ["cat", "dog", "eel"]
    assert content["images"][0]["models"]["none"]["class_index"] == 2


def test_a_run_of_before_goes_on_without_names_of_classes(tmp_path):
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


# The command line.


def test_paths_may_stand_anywhere(here):
    picture(here / "a.png")
    picture(here / "b.png")
    given = ["a.png", "--output", "x", "colours.keras", "--seed", "1", "b.png"]
    assert cli.main(["explain", *given]) == 0
    content, _ = written("x")
    names = {entry["image"] for entry in content["images"]}
    assert names == {"a.png", "b.png"}


def test_output_is_named_after_the_first_model(here, capsys):
    picture(here / "it.png")
    assert cli.main(["explain", "colours.keras", "it.png"]) == 0
    files = sorted(path.name for path in (here / "runs").rglob("*.*"))
    assert files == ["arrays.npz", "explain.json", "grad_cam.png"]
    assert (here / "runs" / "explain-colours").is_dir()
    assert "Files in runs" in capsys.readouterr().out


def test_a_second_run_replaces_the_files(here):
    picture(here / "it.png")
    explain("colours.keras", "it.png", "--class", "0")
    content, _ = explain("colours.keras", "it.png", "--class", "1")
    assert content["images"][0]["models"]["colours"]["class_index"] == 1


def test_layers_of_the_users_are_imported(here, monkeypatch):
    (here / "mine_to_import.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Own(keras.layers.Identity):\n"
        "    pass\n"
    )
    monkeypatch.setattr("sys.path", [str(here), *sys.path])
    own = importlib.import_module("mine_to_import").Own(name="own")
    colours("own.keras", attention=own)
    keras.saving.get_custom_objects().pop("mine>Own")
    sys.modules.pop("mine_to_import")
    picture(here / "it.png")
    assert cli.main(["explain", "own.keras", "it.png"]) == 2
    explain("own.keras", "it.png", "--import", "mine_to_import")


def test_ctrl_c_promises_nothing(here, monkeypatch, capsys):
    picture(here / "it.png")

    def interrupted(*arguments, **arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    assert cli.main(["explain", "colours.keras", "it.png"]) == 130
    assert capsys.readouterr().err == "cbam-keras explain: interrupted\n"


def test_help_tells_files_and_arrays(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explain", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for text in ("arrays.npz", "heat_maps (D, H, W)", "(default: grad_cam)"):
        assert text in printed


# Mistakes of the user's.

MISTAKES = {
    "no_model": (["it.png"], "at least one model"),
    "nothing": ([], "at least one model"),
    "no_images": (["colours.keras"], "--data NAME"),
    "both": (["colours.keras", "it.png", "--data", "mnist5k"], "not both"),
    "no_such_model": (["colors.keras", "it.png"], '"colors.keras", which does'),
    "no_such_image": (["colours.keras", "that.png"], '"that.png", which does'),
    "no_image": (["colours.keras", "notes.txt"], "Received: notes.txt"),
    "cut_off": (["colours.keras", "half.png"], "Received: half.png"),
    "damaged": (
        ["colours.keras", "damaged.png"],
        '"damaged.png" cannot be decoded',
    ),
    "empty_folder": (["colours.keras", "empty"], "which holds none"),
    "broken_model": (["broken.keras", "it.png"], "whole file .*broken.keras"),
    "model_twice": (["colours.keras", "./colours.keras", "it.png"], "once"),
    "no_images_taken": (["table.keras", "it.png"], r"\(None, 4\)"),
    "two_inputs": (["two.keras", "it.png"], "as its one input"),
    "five_channels": (["five.keras", "it.png"], r"\(None, 8, 8, 5\)"),
    "other_classes": (
        ["colours.keras", "grey.keras", "it.png"],
        'same classes.*"colours" with 3, "grey" with 2',
    ),
    "other_data": (
        ["grey.keras", "--data", "cluttered_mnist"],
        "models of 2 classes, data of 10",
    ),
    "no_such_data": (["colours.keras", "--data", "mnist6k"], '"mnist5k"'),
    "unknown_class": (
        [*("colours.keras", "it.png", "--class", "rad")]
        + ["--class-names", "names.txt"],
        'Did you mean "red"',
    ),
    "nameless_class": (
        ["colours.keras", "it.png", "--class", "red"],
        "give --class-names FILE",
    ),
    "class_too_high": (
        ["colours.keras", "it.png", "--class", "3"],
        "index from 0 to 2",
    ),
    "class_below_0": (
        ["colours.keras", "it.png", "--class", "-1"],
        "index from 0 to 2",
    ),
    "too_few_names": (
        ["grey.keras", "it.png", "--class-names", "names.txt"],
        "3 names, models of 2 classes",
    ),
    "no_names": (
        ["colours.keras", "it.png", "--class-names", "nowhere.txt"],
        "text file with a name per line.*nowhere.txt",
    ),
    "unknown_layer": (
        ["colours.keras", "it.png", "--layer", "featurs"],
        "`layer` must .*features",
    ),
    "unknown_layer_of_one": (
        ["gated.keras", "colours.keras", "it.png", "--layer", "gate"],
        "`layer` must .*model colours.keras",
    ),
    "no_feature_map": (["flat.keras", "it.png"], "feature map"),
    "unknown_head": (
        ["colours.keras", "it.png", "--head", "top"],
        "`head` must be one of",
    ),
    "no_module": (
        ["colours.keras", "it.png", "--preprocess", "nowhere:turn"],
        "`preprocess` must be MODULE:FUNCTION.*No module",
    ),
    "no_function": (
        ["colours.keras", "it.png", "--preprocess", "math:pi"],
        "`preprocess` must be MODULE:FUNCTION.*float",
    ),
    "other_shape": (
        ["colours.keras", "it.png", "--preprocess", "numpy:mean"],
        "`preprocess` must return images of the shape",
    ),
    "no_import": (
        ["colours.keras", "it.png", "--import", "nowhere"],
        "`import` must be a module",
    ),
    "other_size": (
        ["colours.keras", "it.png", "--image-size", "16"],
        "which takes 8 x 8 pixels",
    ),
    "no_size": (
        ["colours.keras", "it.png", "--image-size", "0"],
        "`image_size` must be a positive integer",
    ),
    "count_in_words": (
        ["colours.keras", "it.png", "--count", "many"],
        "`count` must be a positive integer, or all",
    ),
    "count_of_0": (
        ["colours.keras", "it.png", "--count", "0"],
        "`count` must be a positive integer, or all",
    ),
    "draw_0": (["colours.keras", "it.png", "--draw", "0"], "`draw` must"),
    "draw_33": (
        ["colours.keras", "it.png", "--draw", "33"],
        "`draw` must be at most 32",
    ),
    "batch_of_0": (
        ["colours.keras", "it.png", "--batch-size", "0"],
        "`batch_size` must",
    ),
    "negative_seed": (
        ["colours.keras", "it.png", "--seed", "-1"],
        "`seed` must",
    ),
    "output_is_a_file": (
        ["colours.keras", "it.png", "--output", "names.txt"],
        "`output` must be a folder that can be written to",
    ),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Returns a folder with models and images, good and bad."""
    folder = tmp_path_factory.mktemp("mistaken")
    colours(folder / "colours.keras")
    colours(folder / "gated.keras", attention=SqueezeExcite(1, name="gate"))
    brightness(folder / "grey.keras")
    picture(folder / "it.png")
    whole = (folder / "it.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    # Its head and its end are whole.
    (folder / "damaged.png").write_bytes(
        whole[:60] + bytes(len(whole) - 80) + whole[-20:]
    )
    (folder / "notes.txt").write_text("no image")
    (folder / "names.txt").write_text("red\ngreen\nblue\n")
    (folder / "empty").mkdir()
    (folder / "broken.keras").write_bytes(b"PK no model")
    table = keras.Input((4,))
    keras.Model(table, layers.Dense(3)(table)).save(folder / "table.keras")
    five = keras.Input((8, 8, 5))
    flat = layers.GlobalAveragePooling2D()(five)
    keras.Model(five, layers.Dense(3)(flat)).save(folder / "five.keras")
    images = keras.Input((8, 8, 3))
    flat = layers.Dense(3)(layers.Flatten()(images))
    keras.Model(images, flat).save(folder / "flat.keras")
    both = layers.Concatenate()([flat, table])
    keras.Model([images, table], layers.Dense(3)(both)).save(
        folder / "two.keras"
    )
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(
    mistaken, few, monkeypatch, capsys, mistake
):
    arguments, message = MISTAKES[mistake]
    monkeypatch.chdir(mistaken)
    before = sorted(mistaken.rglob("*"))
    assert cli.main(["explain", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras explain: error: ")
    assert re.search(message, line)
    assert sorted(mistaken.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "cam"], "invalid choice: 'cam'"),
        (["--split", "tests"], "invalid choice: 'tests'"),
        (["--draw", "some"], "invalid int value"),
        (["--colour", "red"], "unrecognized arguments: --colour"),
    ],
)
def test_the_parser_tells_a_mistake(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explain", "colours.keras", "it.png", *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_bug_in_a_users_function_keeps_its_traceback(here, monkeypatch):
    picture(here / "it.png")
    (here / "mine_with_a_bug.py").write_text(
        "def turn(images):\n    return images + 'x'\n"
    )
    monkeypatch.setattr("sys.path", ["", *sys.path])
    with pytest.raises(TypeError):
        cli.main(
            [
                *("explain", "colours.keras", "it.png"),
                *("--preprocess", "mine_with_a_bug:turn"),
            ]
        )
    assert not (here / "runs").exists()


def test_as_many_images_as_a_figure_holds_are_drawn(here):
    for number in range(33):
        picture(here / "many" / f"{number:02}.png")
    _, arrays = explain(
        "colours.keras", "many", "--count", "all", "--draw", "32"
    )
    assert len(arrays["images"]) == 32
