"""Which class is explained, where the heat is, and what is written of it."""

import re

import keras
import numpy as np
import pytest
from explain_files_checks import (
    COLOURS,
    as_colours,
    colours,
    explain,
    heat_of,
    picture,
    write_run,
)
from insertion_checks import conv, vary
from keras import layers
from PIL import Image
from report_checks import change
from tuning_checks import warned

from cbam_keras import CBAM, SqueezeExcite, cli, data
from cbam_keras.explain import attention_maps, grad_cam, heat_in_region


def close(array, expected, atol=1e-5):
    np.testing.assert_allclose(array, expected, atol=atol)


def test_a_file_is_explained_for_the_class_that_is_predicted(here, capsys):
    image = picture(here / "it.png", brightest=1)[None]
    content, arrays = explain("run", "--images", "it.png")
    probabilities = as_colours(image)
    np.testing.assert_array_equal(arrays["images"], image)
    close(arrays["none/probabilities"], probabilities)
    close(arrays["none/heat_maps"], heat_of(image, 1))
    row = {"class": "green", "class_index": 1}
    row["probability"] = pytest.approx(probabilities[0, 1], abs=1e-5)
    row |= {f"predicted_{key}": value for key, value in row.items()}
    assert content["images"] == [
        {"image": "it.png", "true_class": None, "models": {"none": row}}
    ]
    settings = content["settings"]
    assert (settings["data"], settings["images"]) == (None, ["it.png"])
    printed = capsys.readouterr()
    assert printed.err == ""
    cells = rf"│ it.png +│ +│ green \({probabilities[0, 1]:.0%}\) "
    assert re.search(cells, printed.out)
    # Whether it is right is not known.
    assert "\N{MULTIPLICATION SIGN}" not in printed.out
    assert printed.out.endswith("Files in out\n")


def test_class_folders_tell_the_true_classes(here, capsys):
    # The second of three images is not what its folder says.
    whole = {
        name: picture(here / f"all/{name}/0.png", brightest=colour)
        for name, colour in zip(COLOURS, (0, 2, 2), strict=True)
    }
    content, arrays = explain("run", "--images", "all")
    assert content["class_names"] == [*COLOURS]
    names = [entry["true_class"] for entry in content["images"]]
    assert sorted(names) == sorted(COLOURS)
    place = names.index("green")
    row = content["images"][place]["models"]["none"]
    assert (row["class"], row["predicted_class"]) == ("green", "blue")
    # The network may have been trained with them.
    assert content["summary"] == {"none": {}}
    expected = heat_of(whole["green"][None], 1)[0]
    close(arrays["none/heat_maps"][place], expected)
    assert arrays["labels"][place] == 1
    out = capsys.readouterr().out
    # What is wrong comes first.
    wrong = r"green/0.png +│ green +│ blue \(\d+%\) × .*(?s:.*)red/0.png"
    assert re.search(wrong, out)
    assert "accuracy" not in out


def test_a_folder_named_after_a_class_is_that_of_its_images(here, monkeypatch):
    picture(here / "all/green/patient/1.png", brightest=1)
    picture(here / "others/0.png")
    for folder, label in (("all/green", 1), ("others", -1)):
        _, arrays = explain("run", "--images", folder, "--no-report")
        assert {*arrays["labels"]} == {label}
    monkeypatch.chdir(here / "all/green")
    content, _ = explain(here / "run", "--images", ".", output=here / "out")
    assert [row["true_class"] for row in content["images"]] == ["green"]


def test_images_are_seen_as_in_training(here):
    """In one size and its channels, and on one scale of values."""
    change(here / "run", scale=data.Scale(-1024, 3071, 12))
    Image.fromarray(np.full((8, 8), 976, "int32")).save("it.tif")
    given = "--images", "it.tif", "--no-report"
    _, arrays = explain("run", *given)
    assert (arrays["images"] == (976 + 1024) // 16).all()
    change(here / "run", scale=None)
    with warned("does not say how values beyond 8 bits are scaled.*10 bits"):
        explain("run", *given)
    inputs = keras.Input((8, 8, 1))
    x = conv(2, "conv")(layers.Rescaling(1 / 255)(inputs))
    outputs = layers.Dense(1)(layers.GlobalAveragePooling2D()(x))
    model = vary(keras.Model(inputs, outputs))
    write_run(here / "gray", ["no", "yes"], none=model)
    image = np.zeros((12, 8, 3), "uint8")
    image[2:10] = picture(here / "it.png")
    Image.fromarray(image).save("it.png")
    _, arrays = explain("gray", "--images", "it.png", "--no-report")
    gray = np.asarray(Image.fromarray(image[2:10]).convert("L"))
    # As Pillow turns colours to gray, up to rounding.
    close(arrays["images"], gray[None, ..., None], atol=1)
    # A single unit is a logit of two classes.
    logit = float(model(arrays["images"])[0, 0])
    close(arrays["none/probabilities"][0, 1], 1 / (1 + np.exp(-logit)))


def test_settings_reach_the_maps_and_the_page_says_them(here):
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv(4, "my conv")(layers.Rescaling(1)(inputs)))
    x = layers.GlobalMaxPooling2D()(conv(4, "last")(x))
    model = vary(keras.Model(inputs, layers.Dense(3)(x)))
    write_run(here / "coarse", none=model)
    image = picture(here / "it.png", brightest=2)[None]
    given = "--images", "it.png", "--method", "hires_cam", "--class", "1"
    with warned("resolution of 4 x 4"):
        explain("coarse", *given)
    page = (here / "out/report.html").read_text()
    assert "<figcaption>HiResCAM of none." in page
    assert "none has few positions: --layer &#39;my conv&#39; explains" in page
    assert "1 image is explained." in page
    content, arrays = explain(
        "coarse", *given, "--layer", "my conv", output="finer"
    )
    asked = {"method": "hires_cam", "layer": "my conv"}
    close(arrays["none/heat_maps"], grad_cam(model, image, 1, **asked))
    assert asked.items() <= content["settings"].items()
    assert "few positions" not in (here / "finer/report.html").read_text()


def test_attention_is_written_and_drawn(here):
    for number in range(5):
        picture(here / "all" / f"{number}.png", seed=number)
    gate, squeeze = CBAM(1, 3, name="gate"), SqueezeExcite(1, name="se")
    gated = colours(attention=lambda x: squeeze(gate(x)))
    write_run(here / "run", none=colours(), cbam=gated)
    _, arrays = explain(
        *("run", "--images", "all", "--draw", "3", "--batch-size", "2"),
    )
    assert len(arrays["cbam/heat_maps"]) == 3
    maps = attention_maps(gated, arrays["images"].astype("float32"))
    expected = {
        "cbam/attention/gate/channel": maps["gate"][0],
        "cbam/attention/gate/spatial": maps["gate"][1],
        "cbam/attention/se/channel": maps["se"][0],
    }
    assert {key for key in arrays if "attention" in key} == set(expected)
    for key, values in expected.items():
        close(arrays[key], values)
    figures = {path.stem for path in (here / "out").glob("*.png")}
    assert figures == {"grad_cam", "attention-cbam"}


def test_images_come_first_that_most_networks_get_wrong(here):
    # Folders and files, and the strongest colour in them.
    seen = {
        **{"red/right": 0, "red/hard": 2, "green/right": 1},
        **{"blue/hard": 1, "blue/right": 2},
    }
    for number, (name, colour) in enumerate(seen.items()):
        picture(here / f"all/{name}.png", seed=number, brightest=colour)
    # Is wrong about all but the hard ones.
    other = colours(turned=1)
    write_run(here / "run", none=colours(), cbam=colours(), se=other)
    content, _ = explain("run", "--images", "all", "--mistakes")
    found = [entry["image"] for entry in content["images"]]
    assert len(found) == 5
    wrong = sorted(f"all/{x}.png" for x in seen if "hard" in x)
    assert sorted(found[:2]) == wrong
    given = "--images", "all", "--mistakes", "--draw", "4"
    few = explain("run", *given)[0]["images"]
    assert [entry["image"] for entry in few] == [*found[:3], found[4]]


# Masks of the images, by which heat is measured.


def test_heat_is_measured_against_regions_as_evaluation_crops_them(here):
    """Of another shape, the sides of the images are cut off."""
    images, regions = [], []
    for number, name in enumerate(("red/1", "green/1", "blue/2")):
        image = picture(here / f"all/{name}.png", number, (8, 12))
        region = np.random.default_rng(number).integers(0, 2, (8, 12), "uint8")
        path = here / f"masks/{name}_mask.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(255 * region).save(path)
        images.append(image[:, 2:10])
        regions.append(region[:, 2:10])
    # Means of the mistakes that are drawn would be others.
    given = "--images", "all", "--regions", "masks", "--draw", "1"
    given += ("--mistakes",)
    content, _ = explain("run", *given, "--class", "red", "--batch-size", "2")
    heat = heat_of(np.stack(images), 0)
    frame = heat_in_region(heat, regions)
    expected = {f"region_{x}": frame[x].mean() for x in frame}
    assert content["summary"]["none"] == pytest.approx(expected, rel=1e-5)
    page = (here / "out/report.html").read_text()
    assert "Means over 3 images" in page
    assert f"{100 * frame['iou'].mean():.1f}" in page
    table = (here / "out/tables/heat.csv").read_text()
    assert table.startswith("network,region_energy,region_iou,region_hit\nnone")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "1 mask, and without one .*1.png"),
        ({"1": (4, 4)}, "1.png.* of 4 x 4 for an image of 8 x 8"),
    ],
    ids=["missing", "size"],
)
def test_regions_that_do_not_fit_are_errors(here, masks, message, capsys):
    picture(here / "all/1.png")
    (here / "masks").mkdir()
    for name, size in ({"2": (8, 8)} | masks).items():
        region = Image.fromarray(np.eye(*size, dtype="uint8"))
        region.save(here / f"masks/{name}.png")
    given = "--images", "all", "--regions", "masks", "--output", "out"
    assert cli.main(["explain", "run", *given]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (here / "out").exists()
