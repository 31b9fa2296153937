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
    written,
)
from insertion_checks import conv, vary
from keras import layers
from layer_checks import to_numpy
from PIL import Image

from cbam_keras import CBAM, SqueezeExcite, data
from cbam_keras.explain import explain_run, from_data, grad_cam


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


def test_a_class_can_be_asked_for_by_its_name_rather_than_its_index(here):
    image = picture(here / "it.png")[None]
    given = ("colours.keras", "it.png", "--class-names", "names.txt")
    (here / "names.txt").write_text("red\ngreen\nblue")
    content, arrays = explain(*given, "--class", "blue")
    row = content["images"][0]["models"]["colours"]
    assert (row["class"], row["predicted_class"]) == ("blue", "red")
    np.testing.assert_allclose(
        arrays["colours/heat_maps"], heat_of(image, 2), atol=1e-5
    )
    # Replaces the files.
    (here / "names.txt").write_text("2\n1\n0\n")
    content, _ = explain(*given, "--class", "2")
    assert content["images"][0]["models"]["colours"]["class_index"] == 0


def test_settings_reach_the_maps(here):
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "second")(conv(4, "first")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.GlobalMaxPooling2D()(x)
    heads = [layers.Dense(n, name=f"head{n}")(x) for n in (3, 2)]
    model = vary(keras.Model(inputs, heads))
    model.save("both.keras")
    image = picture(here / "it.png")[None].astype("float32")
    content, arrays = explain(
        *("both.keras", "it.png", "--method", "hires_cam", "--class", "1"),
        *("--layer", "first", "--head", "head2"),
    )
    asked = {"class_index": 1, "layer": "first", "method": "hires_cam"}
    asked["output"] = "head2"
    heat = grad_cam(model, image, **asked)
    np.testing.assert_allclose(arrays["both/heat_maps"], heat, atol=1e-5)
    assert arrays["both/probabilities"].shape == (1, 2)
    settings = content["settings"]
    assert [settings[key] for key in ("method", "layer", "head")] == [
        "hires_cam",
        "first",
        "head2",
    ]
    # So that each of them is seen.
    others = [
        grad_cam(model, image, **{**asked, **change})
        for change in (
            {"class_index": 0},
            {"layer": "second"},
            {"method": "grad_cam"},
            {"output": "head3"},
        )
    ]
    assert min(np.abs(heat - other).max() for other in others) > 0.01


def test_models_of_other_classes_and_sizes_stand_side_by_side(here, capsys):
    # A square of one colour stays what it is in other sizes.
    image = np.zeros((8, 8, 3), "uint8")
    image[:4, :4, 0] = 200
    Image.fromarray(image).save("it.png")
    colours("turned.h5", turned=1)
    colours("large.keras", size=(16, 16))
    content, arrays = explain(
        "colours.keras", "turned.h5", "large.keras", "it.png"
    )
    assert list(content["models"]) == ["colours", "turned", "large"]
    rows = content["images"][0]["models"]
    assert [rows[name]["class_index"] for name in rows] == [0, 1, 0]
    np.testing.assert_allclose(
        arrays["turned/probabilities"], as_colours(image[None], 1), atol=1e-5
    )
    np.testing.assert_allclose(
        arrays["turned/heat_maps"], heat_of(image[None], 0), atol=1e-5
    )
    # In the size of the first.
    assert arrays["images"].shape == (1, 8, 8, 3)
    (heat,) = arrays["large/heat_maps"]
    assert heat.shape == (8, 8)
    assert heat[:3, :3].min() > 0.9
    assert heat[5:].max() == heat[:, 5:].max() == 0
    out = capsys.readouterr().out
    assert re.search(r"colours +┃ turned +┃ large", out)


def test_attention_is_written_and_drawn(here):
    for number in range(5):
        picture(here / "all" / f"{number}.png", seed=number)
    gated = colours("gated.keras", attention=CBAM(1, 3, name="gate"))
    squeezed = colours("se.keras", attention=SqueezeExcite(1, name="gate"))
    _, arrays = explain(
        *("colours.keras", "gated.keras", "se.keras", "all", "--draw", "3"),
        *("--batch-size", "2"),
    )
    features = arrays["images"].astype("float32") / 255
    channel, spatial = gated.get_layer("gate").attention_maps(features)
    expected = {
        "gated/attention/gate/channel": channel[:, 0, 0],
        "gated/attention/gate/spatial": spatial[..., 0],
        "se/attention/gate/channel": squeezed.get_layer("gate").attention_map(
            features
        )[:, 0, 0],
    }
    own = {key: arrays[key] for key in arrays if "attention" in key}
    assert set(own) == set(expected)
    for key, maps in expected.items():
        np.testing.assert_allclose(own[key], to_numpy(maps), atol=1e-5)
    files = sorted(path.name for path in (here / "out").iterdir())
    assert files == [
        "arrays.npz",
        "attention-gated.png",
        "attention-se.png",
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
    assert content["class_names"] == [str(digit) for digit in range(10)]
    for entry, place in zip(content["images"], places, strict=True):
        assert entry["true_class"] == str(labels[place])
        assert entry["models"]["cbam"]["class"] == entry["true_class"]
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
    # The title of a narrow table goes over several lines.
    assert "first 6 of 20 images" in " ".join(out.split())
    assert re.search(rf"│ uniform heat .*{share:.1%} .*{share:.1%} ", out)


def test_of_a_run_those_images_come_first_that_most_models_get_wrong(here):
    # Folders and files, and the strongest colour in them.
    seen = {"a/right": 0, "a/hard": 2, "b/right": 1, "c/hard": 1, "c/right": 2}
    for number, (name, colour) in enumerate(seen.items()):
        for split in ("train", "validation", "test"):
            path = here / "all" / split / f"{name}.png"
            picture(path, seed=number, brightest=colour)
    # Is wrong about all but the hard ones.
    colours("turned.keras", turned=1)
    examples = from_data("./all", "test", None, 0, {})
    models = [here / "colours.keras", here / "colours.h5"]
    colours("colours.h5")
    explain_run([*models, here / "turned.keras"], examples, here / "out", {})
    content, _ = written()
    assert content["class_names"] == ["a", "b", "c"]
    found = [entry["image"] for entry in content["images"]]
    wrong = sorted(f"all/test/{x}.png" for x in seen if "hard" in x)
    assert sorted(found[:2]) == wrong
    assert len(found) == 5
