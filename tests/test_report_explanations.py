"""Which class is explained, where the heat is, and for which models."""

import re

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
    trained_on,
    written,
)
from insertion_checks import conv, vary
from keras import layers
from PIL import Image
from report_checks import change
from tuning_checks import warned

from cbam_keras import CBAM, SqueezeExcite, cli, data
from cbam_keras.explain import attention_maps, grad_cam
from cbam_keras.report import Settings, explain_files


def close(array, expected, atol=1e-5):
    np.testing.assert_allclose(array, expected, atol=atol)


def test_a_file_is_explained_for_the_class_that_is_predicted(here, capsys):
    image = picture(here / "it.png", brightest=1)[None]
    content, arrays = explain("colours.keras", "it.png")
    probabilities = as_colours(image)
    np.testing.assert_array_equal(arrays["images"], image)
    close(arrays["colours/probabilities"], probabilities)
    close(arrays["colours/heat_maps"], heat_of(image, 1))
    row = {"class": "class 1", "class_index": 1}
    row["probability"] = pytest.approx(probabilities[0, 1], abs=1e-5)
    row |= {f"predicted_{key}": value for key, value in row.items()}
    models = {"colours": row}
    assert content["images"] == [
        {"image": "it.png", "true_class": None, "models": models}
    ]
    printed = capsys.readouterr()
    assert printed.err == ""
    cells = rf"│ it.png +│ +│ class 1 \({probabilities[0, 1]:.0%}\) "
    assert re.search(cells, printed.out)
    # Whether it is right is not known.
    assert "\N{MULTIPLICATION SIGN}" not in printed.out
    assert printed.out.endswith("Files in out\n")


ASSUMED = "in the order of the models' classes.*grad_cam"


@pytest.mark.filterwarnings(f"ignore:.*{ASSUMED}:UserWarning")
def test_class_folders_tell_the_true_classes(here, capsys):
    # The second of three images is not what its folder says.
    whole = [
        picture(here / f"all/{name}/0.png", seed=i, brightest=[0, 2, 2][i])
        for i, name in enumerate("abc")
    ]
    content, arrays = explain("colours.keras", "all")
    assert content["class_names"] == ["a", "b", "c"]
    names = [entry["true_class"] for entry in content["images"]]
    assert sorted(names) == ["a", "b", "c"]
    place = names.index("b")
    row = content["images"][place]["models"]["colours"]
    assert (row["class"], row["predicted_class"]) == ("b", "c")
    assert content["summary"] == {"colours": {"accuracy": pytest.approx(2 / 3)}}
    close(arrays["colours/heat_maps"][place], heat_of(whole[1][None], 1)[0])
    assert arrays["labels"][place] == 1
    out = capsys.readouterr().out
    # What is wrong comes first.
    assert re.search(r"b/0.png +│ b +│ c \(\d+%\) × .*(?s:.*)a/0.png", out)
    assert "66.7" in out


def test_values_beyond_8_bits_are_seen_as_in_training(here):
    trained_on(("red", "green", "blue"), here / "run")
    change(here / "run", scale=data.Scale(-1024, 3071, 12))
    Image.fromarray(np.full((8, 8), 976, "int32")).save(here / "it.tif")
    _, arrays = explain("run", "it.tif", "--no-report")
    assert (arrays["images"] == (976 + 1024) // 16).all()
    with warned("not known how the images of training were scaled.*10 bits"):
        explain("colours.keras", "it.tif", "--no-report")


def test_folders_are_no_classes_unless_there_is_one_for_each(here):
    for name in ("a", "b"):
        picture(here / f"all/{name}/0.png")
    content, _ = explain("colours.keras", "all", "--no-report")
    assert content["class_names"] is None
    assert [entry["true_class"] for entry in content["images"]] == [None] * 2
    assert content["summary"] == {"colours": {}}


@pytest.fixture
def unordered(here):
    """Images of the classes of `colours.keras`, which are not alphabetical."""
    names = "red", "green", "blue"
    for seed, split in enumerate(("train", "validation", "test")):
        for colour, name in enumerate(names):
            path = here / "all" / split / name / "0.png"
            picture(path, seed, brightest=colour)
    trained_on(names, here / "run")
    return names


@pytest.mark.parametrize("images", [["--data", "./all"], ["all/test"]])
def test_true_classes_are_found_by_name(unordered, images):
    content, arrays = explain("run", *images)
    assert content["summary"]["none"]["accuracy"] == 1
    assert content["class_names"] == list(unordered)
    true = [entry["true_class"] for entry in content["images"]]
    assert [unordered[label] for label in arrays["labels"]] == true
    # The order is that of folders, unless it is known.
    with warned(ASSUMED):
        content, _ = explain("colours.keras", *images, "--no-report")
    assert content["class_names"] == sorted(unordered)


def test_a_folder_named_after_a_class_is_that_of_its_images(
    unordered, here, monkeypatch
):
    picture(here / "all/test/green/patient/1.png", brightest=1)
    picture(here / "others/0.png")
    for folder, label in (("all/test/green", 1), ("others", -1)):
        _, arrays = explain("run", folder, "--no-report")
        assert {*arrays["labels"]} == {label}
    monkeypatch.chdir(here / "all/test/blue")
    content, _ = explain(here / "run", ".", "--no-report", output=here / "out")
    assert [row["true_class"] for row in content["images"]] == ["blue"]


def test_one_unit_is_explained_where_something_says_what_it_is(here, capsys):
    image = picture(here / "photos/cat/0.png")
    picture(here / "photos/dog/0.png")
    inputs = keras.Input((8, 8, 3))
    x = conv(2, "conv")(layers.Rescaling(1 / 255)(inputs))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    one = "photos/cat/0.png", "--no-report"
    model.save("unknown.keras")
    assert cli.main(["explain", "unknown.keras", *one]) == 2
    with warned(ASSUMED):
        explain("unknown.keras", "photos", "--no-report")
    model.compile(loss="binary_crossentropy")
    model.save("logit.keras")
    _, arrays = explain("logit.keras", *one)
    logit = float(model(image[None])[0, 0])
    close(arrays["logit/probabilities"][0, 1], 1 / (1 + np.exp(-logit)))
    model.compile(loss="mse")
    model.save("value.keras")
    assert cli.main(["explain", "value.keras", "photos"]) == 2
    assert "must give classes" in capsys.readouterr().err


def test_classes_of_other_names_are_taken_in_their_order(unordered, here):
    trained_on("xyz", here / "other")
    with warned(f"blue, green, red, .*{ASSUMED}"):
        content, arrays = explain("other", "--data", "./all", "--no-report")
    assert content["class_names"] == ["x", "y", "z"]
    true = [entry["true_class"] for entry in content["images"]]
    # The folders in alphabetical order.
    colours = [{"x": 2, "y": 1, "z": 0}[name] for name in true]
    predicted = arrays["none/predicted"].tolist()
    assert sorted(colours) == [0, 1, 2] and predicted == colours
    assert content["summary"]["none"]["accuracy"] == pytest.approx(1 / 3)


def test_settings_reach_the_maps(here):
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "second")(conv(4, "first")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.GlobalMaxPooling2D()(x)
    model = vary(keras.Model(inputs, layers.Dense(2)(x)))
    model.save("deep.keras")
    image = picture(here / "it.png", brightest=2)[None]
    content, arrays = explain(
        *("deep.keras", "it.png", "--method", "hires_cam", "--class", "1"),
        *("--layer", "first"),
    )
    asked = {"method": "hires_cam", "layer": "first"}
    close(arrays["deep/heat_maps"], grad_cam(model, image, 1, **asked))
    assert arrays["deep/probabilities"].shape == (1, 2)
    assert asked.items() <= content["settings"].items()


def test_few_positions_and_the_method_are_said_beside_the_picture(here):
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv(4, "my conv")(inputs))
    x = layers.GlobalMaxPooling2D()(conv(4, "last")(x))
    keras.Model(inputs, layers.Dense(2)(x)).save("coarse.keras")
    picture(here / "it.png")
    with warned("resolution of 4 x 4"):
        explain("coarse.keras", "it.png", "--method", "hires_cam")
    page = (here / "out/report.html").read_text()
    assert "<figcaption>HiResCAM of coarse." in page
    assert (
        "coarse has few positions: --layer &#39;my conv&#39; explains" in page
    )
    explain(*("coarse.keras", "it.png", "--layer", "my conv"), output="finer")
    assert "few positions" not in (here / "finer/report.html").read_text()


def test_models_of_other_classes_and_sizes_stand_side_by_side(here):
    # A square of one colour stays what it is in other sizes.
    image = np.zeros((8, 8, 3), "uint8")
    image[:4, :4, 0] = 200
    Image.fromarray(image).save("it.png")
    paths = ["colours.keras", "turned/m.h5", "large/m.keras"]
    (here / "turned").mkdir()
    colours("turned/m.h5", turned=1)
    (here / "large").mkdir()
    colours("large/m.keras", size=(16, 16))
    content, arrays = explain(*paths, "it.png")
    assert [*content["models"].values()] == paths
    rows = content["images"][0]["models"]
    # Models of one name go by their folders.
    assert {name: rows[name]["class_index"] for name in rows} == {
        f"{here.name}/colours": 0,
        "turned/m": 1,
        "large/m": 0,
    }
    close(arrays["turned/m/probabilities"], as_colours(image[None], 1))
    close(arrays["turned/m/heat_maps"], heat_of(image[None], 0))
    # In the size of the first.
    assert arrays["images"].shape == (1, 8, 8, 3)
    (heat,) = arrays["large/m/heat_maps"]
    assert heat.shape == (8, 8)
    assert heat[:3, :3].min() > 0.9
    assert heat[5:].max() == heat[:, 5:].max() == 0


def test_attention_is_written_and_drawn(here):
    for number in range(5):
        picture(here / "all" / f"{number}.png", seed=number)
    gate, squeeze = CBAM(1, 3, name="gate"), SqueezeExcite(1, name="se")
    gated = colours("gated.keras", attention=lambda x: squeeze(gate(x)))
    _, arrays = explain(
        *("colours.keras", "gated.keras", "all", "--draw", "3"),
        *("--batch-size", "2"),
    )
    maps = attention_maps(gated, arrays["images"].astype("float32"))
    expected = {
        "gated/attention/gate/channel": maps["gate"][0],
        "gated/attention/gate/spatial": maps["gate"][1],
        "gated/attention/se/channel": maps["se"][0],
    }
    assert {key for key in arrays if "attention" in key} == set(expected)
    for key, values in expected.items():
        close(arrays[key], values)
    figures = {path.stem for path in (here / "out").glob("*.png")}
    assert figures == {"grad_cam", "attention-gated"}


def test_of_a_run_those_images_come_first_that_most_models_get_wrong(here):
    # Folders and files, and the strongest colour in them.
    seen = {"a/right": 0, "a/hard": 2, "b/right": 1, "c/hard": 1, "c/right": 2}
    for number, (name, colour) in enumerate(seen.items()):
        for split in ("train", "validation", "test"):
            path = here / "all" / split / f"{name}.png"
            picture(path, seed=number, brightest=colour)
    # Is wrong about all but the hard ones.
    colours("turned.keras", turned=1)
    colours("colours.h5")
    names = "colours.keras", "colours.h5", "turned.keras"
    with warned(ASSUMED):
        explain_files(
            [here / name for name in names],
            Settings(data="./all"),
            output="out",
            data_options={},
            described={},
            command="",
            mistakes=True,
        )
    content, _ = written()
    assert content["class_names"] == ["a", "b", "c"]
    found = [entry["image"] for entry in content["images"]]
    assert len(found) == 5
    wrong = sorted(f"all/test/{x}.png" for x in seen if "hard" in x)
    assert sorted(found[:2]) == wrong
    # For the report of the run.
    assert (here / "out" / "grad_cam.png").exists()


# Models, and the images they take.


def test_a_grey_model_gets_the_brightness_of_colours(here):
    brightness("grey.keras")
    image = picture(here / "it.png", brightest=1)
    _, arrays = explain("grey.keras", "it.png")
    # As Pillow turns colours to grey, up to rounding.
    grey = np.asarray(Image.fromarray(image).convert("L"), "float64")
    close(arrays["images"], grey[None, ..., None], atol=1)
    mean = grey.mean() / 255
    expected = softmax(2 * np.array([[mean, 1 - mean]]))
    close(arrays["grey/probabilities"], expected, atol=0.01)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["0.png"], (8, 12)),
        (["0.png", "1.png"], (224, 224)),
        (["0.png", "--image-size", "16"], (16, 16)),
        (["colours.keras", "0.png"], (8, 8)),
    ],
)
def test_models_of_any_size_get_images_of_one(here, given, expected):
    colours("any.keras", size=(None, None))
    for name, size in (("0.png", (8, 12)), ("1.png", (9, 12))):
        picture(here / name, size=size)
    _, arrays = explain("any.keras", *given, "--no-report")
    assert arrays["any/heat_maps"].shape[1:] == expected
