"""The images to explain: read from files, folders and datasets, and chosen."""

import pathlib

import keras
import numpy as np
import pytest
from data_checks import builder, write_folder
from explain_files_checks import (
    COLOURS,
    brightness,
    digit_network,
    explain,
    picture,
)
from keras import layers
from PIL import Image

from cbam_keras import cli, data
from cbam_keras.data import tfds
from cbam_keras.explain import images as explain_images


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


def test_the_middle_of_an_image_is_seen(here):
    image = picture(here / "it.png", size=(8, 20))
    _, arrays = explain("colours.keras", "it.png")
    np.testing.assert_array_equal(arrays["images"][0], image[:, 6:14])


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
        found = explain_images.from_paths([pathlib.Path("all")], 8, 0)
    assert found.names == ["all/a.png"]


@pytest.mark.parametrize("count", [1, 4, 10, 13, None])
def test_images_are_spread_evenly_over_classes(count):
    labels = np.repeat(np.arange(5), [2, 3, 1, 4, 30])
    chosen = explain_images.balanced_sample(labels, count, 0)
    assert len(set(chosen)) == len(chosen) == min(count or 40, 40)
    counts = np.bincount(labels[chosen], minlength=5)
    # None has two more than another that has any left.
    left = np.bincount(labels, minlength=5) - counts
    assert counts.max() - counts[left > 0].min(initial=counts.max()) <= 1


def test_a_smaller_choice_is_the_beginning_of_a_larger_one():
    labels = np.random.default_rng(0).integers(0, 7, 100)
    large = explain_images.balanced_sample(labels, 60, 3)
    np.testing.assert_array_equal(
        explain_images.balanced_sample(labels, 9, 3), large[:9]
    )
    assert list(explain_images.balanced_sample(labels, 60, 4)) != list(large)


def test_images_without_classes_stay_in_order():
    chosen = explain_images.balanced_sample([""] * 100, 10, 0)
    assert list(chosen) == sorted(chosen)
    assert chosen[0] < 50 < chosen[-1]


@pytest.mark.parametrize(
    ("split", "size"), [("train", 140), ("validation", 10), ("test", 20)]
)
def test_the_split_is_that_of_training(here, few_digits, split, size):
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


def test_boxes_follow_images_to_another_size(here, few_digits):
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
    batch = explain_images.Batch(
        0,
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
