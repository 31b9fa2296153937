"""Which class is explained, where the heat is, and for which models."""

import re

import keras
import numpy as np
import pytest
from explain_files_checks import (
    COLOURS,
    as_colours,
    colours,
    digit_network,
    explain,
    heat_of,
    picture,
)
from keras import layers
from PIL import Image

from cbam_keras import cli, data
from cbam_keras.layers import CBAM, SqueezeExcite


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


@pytest.mark.every_backend
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


@pytest.mark.every_backend
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
        "report.html",
    ]


def test_boxes_tell_whether_heat_is_on_the_object(here, few_digits, capsys):
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
    assert content["box_fraction"] == pytest.approx(share)
    out = capsys.readouterr().out
    assert "Means over 20 images" in out
    assert re.search(rf"│ uniform heat .*{share:.1%} .*{share:.1%} ", out)


def test_the_true_class_of_data_is_explained(here, few_digits):
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


def test_as_many_images_as_a_figure_holds_are_drawn(here):
    for number in range(33):
        picture(here / "many" / f"{number:02}.png")
    _, arrays = explain(
        "colours.keras", "many", "--count", "all", "--draw", "32"
    )
    assert len(arrays["images"]) == 32
