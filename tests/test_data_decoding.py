"""Encoded images become arrays: formats, orientation, sizes, damage."""

import io

import numpy as np
import pytest
from data_checks import (
    as_set,
    assert_same,
    epoch,
    joined,
    together,
    write_folder,
)
from PIL import Image

from cbam_keras import data

NOISE = np.random.default_rng(3).integers(0, 256, (24, 30, 3)).astype("uint8")
GREY = Image.fromarray(NOISE[..., 0])
COLOUR = Image.fromarray(NOISE)
SMOOTH = Image.fromarray(np.kron(NOISE[::6, ::6], np.ones((6, 6, 1), "uint8")))
ALPHA = Image.fromarray(np.concatenate([NOISE, NOISE[..., :1]], axis=-1))
PALETTE = COLOUR.quantize(16)
# Pillow's image by the name of its file.
PICTURES = {
    "alpha.png": ALPHA,
    "alpha.webp": ALPHA,
    "bits.bmp": COLOUR.convert("1"),
    "bits.png": GREY.convert("1"),
    "grey.png": GREY,
    "moving.webp": COLOUR,
    "palette.gif": PALETTE,
    "palette.png": PALETTE,
    "plain.bmp": COLOUR,
    # Lossy, so compared with what Pillow reads.
    "plain.jpg": SMOOTH,
    "plain.png": COLOUR,
}
OPTIONS = {
    "alpha.webp": {"lossless": True, "exact": True},
    "moving.webp": {
        "lossless": True,
        "save_all": True,
        "append_images": [ALPHA],
    },
    # Without this Pillow warns that it drops the transparency.
    "palette.png": {"transparency": bytes(range(16))},
}


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "files"])
def test_files_of_every_format_are_read_as_pillow_reads_them(
    tmp_path, in_memory
):
    write_folder(tmp_path / "train", per_class=3, size=(24, 30))
    for label in ("cat", "dog"):
        folder = tmp_path / "test" / label
        folder.mkdir(parents=True)
        for name, picture in PICTURES.items():
            picture.save(folder / name, **OPTIONS.get(name, {}))
        # Only the higher byte is kept.
        wide = Image.fromarray(NOISE[..., 0].astype("uint16") * 256 + 7)
        wide.save(folder / "wide.png")
    loaded = data.load(tmp_path, in_memory=in_memory)
    found = joined(epoch(loaded.test))[0][: len(PICTURES) + 1]
    for name, image in zip([*PICTURES, "wide.png"], found, strict=True):
        expected = PICTURES.get(name, GREY)
        if name == "plain.jpg":
            expected = Image.open(folder / name)
        expected = np.asarray(expected.convert("RGB"))
        np.testing.assert_array_equal(image, expected, err_msg=name)


def test_grey_images_alone_have_one_channel(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number, picture in enumerate((GREY, GREY.convert("1"), GREY)):
            picture.save(tmp_path / label / f"{number}.png")
    assert data.load(tmp_path).image_shape == (24, 30, 1)


# Orientation.

# What EXIF 2.3 says of each orientation, as operations on the stored pixels.
UPRIGHT = {
    2: np.fliplr,
    3: lambda image: image[::-1, ::-1],
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("byte_order", ["<", ">"], ids=["little", "big"])
def test_images_are_turned_as_the_camera_was_held(tmp_path, byte_order):
    # Square, so that images of all orientations have one shape.
    square = SMOOTH.crop((0, 0, 24, 24))
    write_folder(tmp_path / "train", per_class=3, size=(24, 24))
    exif = Image.Exif()
    exif.endian = byte_order
    for label in ("cat", "dog"):
        folder = tmp_path / "test" / label
        folder.mkdir(parents=True)
        for orientation in UPRIGHT:
            exif[0x0112] = orientation
            square.save(folder / f"{orientation}.jpg", exif=exif)
    stored = np.asarray(Image.open(tmp_path / "test" / "cat" / "2.jpg"))
    found = joined(epoch(data.load(tmp_path).test))[0][: len(UPRIGHT)]
    for turn, image in zip(UPRIGHT.values(), found, strict=True):
        np.testing.assert_array_equal(image, turn(stored))


def test_random_crops_are_taken_from_the_upright_image(tmp_path):
    # Black above, white below, and stored lying on its side.
    stored = np.zeros((40, 80, 3), "uint8")
    stored[:, 40:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            path = tmp_path / name / f"{number}.jpg"
            Image.fromarray(stored).save(path, exif=exif)
    loaded = data.load(
        tmp_path, batch_size=2, image_size=32, augment="random_resized_crop"
    )
    images, _ = epoch(loaded.train)[0]
    # Each row is of one level, but for the transform of JPEG.
    assert np.ptp(images, axis=2).max() < 60


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_orientation_leaves_the_image_as_it_is(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            path = tmp_path / name / f"{number}.jpg"
            SMOOTH.save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert data.load(tmp_path).image_shape == (24, 30, 3)


# Sizes.


@pytest.mark.parametrize("axis", [1, 2], ids=["down", "right"])
def test_resizing_keeps_the_middle_at_the_right_scale(axis):
    given, size = (110, 120), (160, 130)
    # Grows by 2 a pixel. Linear in, linear out: the value tells the place.
    ramp = 2 * np.indices(given)[axis - 1]
    images = np.repeat(ramp[None, ..., None], 10, axis=0).astype("uint8")
    loaded = data.load(
        (images, np.arange(10) % 2), image_size=size, batch_size=None
    )
    image = loaded.test[0][0, ..., 0].astype("float64")
    covered = [round(side * 256 / 224) for side in size]
    pixel = min(given[0] / covered[0], given[1] / covered[1])
    place = np.arange(size[axis - 1]) + 0.5 - size[axis - 1] / 2
    expected = 2 * (given[axis - 1] / 2 + place * pixel - 0.5)
    # At the borders there is nothing beyond to average with.
    inner = slice(3, -3)
    found = image.mean(axis=2 - axis)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.51)


def test_resizing_equals_pillows(tmp_path):
    written = write_folder(tmp_path, per_class=3, size=(24, 32))
    whole = data.load(tmp_path, image_size=(12, 20), batch_size=None)
    # The largest part of that ratio, from the middle.
    options = {"box": (0, 2.4, 32, 21.6), "resample": Image.Resampling.BILINEAR}
    expected = [
        np.asarray(Image.fromarray(image).resize((20, 12), **options))
        for image in written.values()
    ]
    found = np.concatenate([images for images, _ in whole]).astype("float64")
    distances = [
        np.abs(found - image).max(axis=(1, 2, 3)) for image in expected
    ]
    assert np.min(distances, axis=1).max() == 0


def test_files_are_augmented_again_the_same_and_shared_out(tmp_path):
    write_folder(tmp_path)
    options = {"image_size": 8, "batch_size": 4, "in_memory": False}
    options["augment"] = ("random_resized_crop", "flip")
    whole = data.load(tmp_path, **options).sharded(0, 1, 2)
    second = [epoch(whole.train) for _ in range(2)][1]
    images = joined(second)[0]
    assert len(as_set(images)) > len(images) / 2
    # Whole levels, as in memory.
    np.testing.assert_array_equal(images, np.round(images))
    parts = [data.load(tmp_path, **options).sharded(i, 2, 2) for i in range(2)]
    for part in parts:
        part.set_epoch(1)
    assert_same(together(parts, "train"), second)
    assert_same(together(parts, "test"), epoch(whole.test))


# What cannot be read.


def damage(root):
    """Puts five files beside the images that look like some."""
    whole, jpeg = io.BytesIO(), io.BytesIO()
    COLOUR.save(whole, "PNG")
    COLOUR.save(jpeg, "JPEG")
    contents = {
        "empty.png": b"",
        "text.jpg": b"<html>not found</html>",
        "cut.png": whole.getvalue()[:-200],
        "cut.jpg": jpeg.getvalue()[:-200],
        # Its head is whole.
        "middle.png": whole.getvalue()[:600] + whole.getvalue()[900:],
    }
    for name, content in contents.items():
        (root / "dog" / name).write_bytes(content)
    return sorted(f"dog/{name}" for name in contents)


def test_what_cannot_be_read_is_left_out_with_one_warning(tmp_path):
    write_folder(tmp_path)
    damaged = damage(tmp_path)
    with pytest.warns(UserWarning, match="5 images could not be") as caught:
        images = data.load(tmp_path, image_size=8)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert any(name in str(caught[0].message) for name in damaged)
    assert sorted(images.skipped) == damaged
    # The one that looked well is found out after the division.
    assert sum(images.sizes.values()) == 20
    assert [len(joined(epoch(split))[0]) for split in images] == [
        *images.sizes.values()
    ]


def test_image_bombs_and_links_to_nothing_are_left_out(tmp_path, monkeypatch):
    write_folder(tmp_path, size=(8, 8))
    # Twice as many are an error of Pillow's.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    COLOUR.save(tmp_path / "dog" / "bomb.png")
    (tmp_path / "dog" / "link.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match="out: dog/bomb.png, dog/link.png"):
        images = data.load(tmp_path)
    assert sum(images.sizes.values()) == 20


def test_a_file_that_fails_later_is_named(tmp_path):
    write_folder(tmp_path)
    for name in damage(tmp_path):
        if name != "dog/middle.png":
            (tmp_path / name).unlink()
    images = data.load(tmp_path, image_size=8, in_memory=False, batch_size=4)
    with pytest.raises(ValueError, match="middle.png cannot be decoded"):
        for split in images:
            epoch(split)
