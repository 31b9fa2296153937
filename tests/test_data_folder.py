"""Folders of images become datasets, or errors that name what is wrong."""

import io
import os
import pathlib

import keras
import numpy as np
import pytest
from data_checks import (
    SPLITS,
    as_set,
    assert_same,
    epoch,
    joined,
    write_bomb,
    write_folder,
)
from PIL import Image

from cbam_keras import data
from cbam_keras.data import preloading

TENSORFLOW = keras.backend.backend() == "tensorflow"
NOISE = np.random.default_rng(3).integers(0, 256, (24, 30, 3)).astype("uint8")


def _splits(root, *names, **options):
    return {
        name: write_folder(root / name, seed=i, **options)
        for i, name in enumerate(names)
    }


def _fill(root, images, mode=None):
    """Writes twelve images of each kind, the first of a class each."""
    for name, image in images.items():
        folder = root / name.split(".")[0]
        folder.mkdir()
        for number in range(12):
            path = folder / f"{number}.{name.split('.')[1]}"
            image.save(path)


# Layouts.


def test_class_folders_are_divided_among_the_splits(tmp_path):
    written = write_folder(tmp_path, size=(9, 11))
    whole = data.load(tmp_path, batch_size=None)
    assert whole.sizes == {"train": 14, "validation": 2, "test": 4}
    assert whole.class_names == ("cat", "dog")
    assert whole.image_shape == (9, 11, 3)
    kept = [as_set(split[0]) for split in whole]
    assert set.union(*kept) == as_set(written.values())
    labels = {i.tobytes(): "dog" in name for name, i in written.items()}
    for images, given in whole:
        assert [labels[image.tobytes()] for image in images] == given.tolist()


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_folders_of_splits_are_taken_as_they_are(tmp_path, validation):
    written = _splits(tmp_path, "train", validation, "test", size=(9, 11))
    whole = data.load(tmp_path, batch_size=None)
    for split, folder in zip(whole, written, strict=True):
        assert as_set(split[0]) == as_set(written[folder].values())


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("train",), {"train": 14, "validation": 2, "test": 4}),
        (("train", "test"), {"train": 18, "validation": 2, "test": 20}),
        (("train", "val"), {"train": 16, "validation": 20, "test": 4}),
    ],
    ids=lambda names: "+".join(names),
)
def test_splits_that_are_missing_come_from_training(tmp_path, folders, sizes):
    _splits(tmp_path, *folders)
    assert data.load(tmp_path, image_size=8).sizes == sizes


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_a_folder_is_named_after_itself(tmp_path, as_path):
    write_folder(tmp_path / "pets")
    images = data.load(as_path(tmp_path / "pets"), image_size=8)
    assert images.name == "pets"


def test_a_folder_in_the_working_directory_needs_no_separator(
    tmp_path, monkeypatch
):
    write_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    assert data.load("pets", image_size=8).name == "pets"


def test_what_is_no_image_is_left_alone(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("soft")
    (tmp_path / "cat" / ".hidden.png").write_text("")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    images = data.load(tmp_path, image_size=8)
    assert images.sizes == {"train": 14, "validation": 2, "test": 4}
    assert images.skipped == ()


# Decoding.


def test_images_of_different_sizes_become_224_wide(tmp_path):
    write_folder(tmp_path, per_class=3)
    assert data.load(tmp_path).image_shape == (224, 224, 3)


@pytest.mark.parametrize("side", [130, 9], ids=["large", "small"])
@pytest.mark.parametrize("in_memory", [False, None], ids=["files", "memory"])
def test_images_of_the_right_size_are_left_alone(tmp_path, side, in_memory):
    written = write_folder(tmp_path, per_class=3, size=(side, side))
    images = data.load(tmp_path, image_size=side, in_memory=in_memory)
    found = joined(epoch(images.train))[0].astype("uint8")
    assert as_set(found) < as_set(written.values())


@pytest.mark.every_backend
@pytest.mark.parametrize("in_memory", [True, False, None])
@pytest.mark.parametrize("split", SPLITS)
def test_in_memory_or_not_the_images_are_the_same(tmp_path, in_memory, split):
    write_folder(tmp_path)
    images = data.load(
        tmp_path, image_size=10, batch_size=4, in_memory=in_memory
    )
    whole = data.load(tmp_path, image_size=10, batch_size=None)
    batches = joined(epoch(getattr(images, split)))
    arrays = getattr(whole, split)
    assert as_set(batches[0]) == as_set(arrays[0].astype("float32"))
    assert sorted(batches[1]) == sorted(arrays[1])


@pytest.mark.every_backend
@pytest.mark.parametrize("size", [16, (12, 20)], ids=["square", "wide"])
def test_resizing_equals_pillows(tmp_path, size):
    written = write_folder(tmp_path, per_class=3, size=(24, 32))
    whole = data.load(tmp_path, image_size=size, batch_size=None)
    height, width = (size, size) if isinstance(size, int) else size
    # The largest part of that ratio, from the middle.
    part = min(24 / height, 32 / width)
    top, left = (24 - height * part) / 2, (32 - width * part) / 2
    box = (left, top, 32 - left, 24 - top)
    expected = [
        np.asarray(
            Image.fromarray(image).resize(
                (width, height), Image.Resampling.BILINEAR, box=box
            )
        )
        for image in written.values()
    ]
    found = np.concatenate([images for images, _ in whole])
    distances = [
        min(np.abs(image - f.astype("float64")).max() for f in found)
        for image in expected
    ]
    # They round to whole levels after one direction, or after both.
    assert max(distances) <= 1


@pytest.mark.every_backend
@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "webp"])
def test_formats_without_loss_are_read_exactly(tmp_path, ending):
    # A palette of 24 colours, which a GIF keeps.
    levels = np.repeat((NOISE[..., :1] % 24) * 10, 3, axis=-1)
    image = Image.fromarray(levels)
    options = {"lossless": True} if ending == "webp" else {}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            image.save(tmp_path / name / f"{number}.{ending}", **options)
    found = data.load(tmp_path, batch_size=None).train[0][0]
    np.testing.assert_array_equal(found, np.broadcast_to(levels, found.shape))


@pytest.mark.every_backend
def test_jpeg_is_read_as_pillow_reads_it(tmp_path):
    smooth = Image.fromarray(NOISE).resize((200, 150), Image.Resampling.BICUBIC)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            smooth.save(tmp_path / name / f"{number}.jpg", quality=90)
    found = data.load(tmp_path, batch_size=None).train[0][0]
    expected = np.asarray(Image.open(tmp_path / "cat" / "0.jpg"))
    # Libraries may differ in the last bits of the transform.
    np.testing.assert_allclose(found, expected, atol=3)


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


@pytest.mark.every_backend
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_as_the_camera_was_held(
    tmp_path, orientation, byte_order
):
    smooth = Image.fromarray(NOISE).resize((64, 48), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x0112] = orientation
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            smooth.save(tmp_path / name / f"{number}.jpg", exif=exif)
    found = data.load(tmp_path, batch_size=None).train[0][0]
    stored = np.asarray(Image.open(tmp_path / "cat" / "0.jpg"))
    expected = UPRIGHT[orientation](stored)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3)


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
    for images, _ in loaded.train:
        pixels = np.asarray(images)
        # Each row is of one level, but for the transform of JPEG.
        assert np.ptp(pixels, axis=2).max() < 60
        break


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_orientation_leaves_the_image_as_it_is(tmp_path):
    smooth = Image.fromarray(NOISE).resize((64, 48), Image.Resampling.BICUBIC)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            path = tmp_path / name / f"{number}.jpg"
            smooth.save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert data.load(tmp_path).image_shape == (48, 64, 3)


GREY = Image.fromarray(NOISE[..., 0])
COLOUR = Image.fromarray(NOISE)
ALPHA = Image.fromarray(np.concatenate([NOISE, NOISE[..., :1]], axis=-1))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("first", "second", "channels", "expected"),
    [
        (GREY, GREY, 1, NOISE[..., :1]),
        (GREY, COLOUR, 3, np.repeat(NOISE[..., :1], 3, axis=-1)),
        (ALPHA, COLOUR, 3, NOISE),
        (
            Image.fromarray(NOISE[..., 0].astype("uint16") * 256),
            GREY,
            1,
            NOISE[..., :1],
        ),
        (
            Image.fromarray(NOISE[..., 0] > 99),
            GREY,
            1,
            (NOISE[..., :1] > 99) * 255,
        ),
    ],
    ids=["grey", "mixed", "alpha", "16_bits", "1_bit"],
)
def test_images_of_any_mode_get_one_number_of_channels(
    tmp_path, first, second, channels, expected
):
    _fill(tmp_path, {"first.png": first, "second.png": second})
    images, labels = data.load(tmp_path, batch_size=None).train
    assert images.shape[1:] == (24, 30, channels)
    np.testing.assert_array_equal(images[labels == 0][0], expected)


@pytest.mark.every_backend
def test_palettes_become_colours(tmp_path):
    image = COLOUR.quantize(16)
    image.info["transparency"] = bytes(range(16))
    _fill(tmp_path, {"first.png": image, "second.png": GREY})
    images, labels = data.load(tmp_path, batch_size=None).train
    np.testing.assert_array_equal(
        images[labels == 0][0], np.asarray(COLOUR.quantize(16).convert("RGB"))
    )


@pytest.mark.every_backend
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("name", "picture", "options"),
    [
        ("alpha.webp", ALPHA, {"lossless": True, "exact": True}),
        (
            "moving.webp",
            COLOUR,
            {"lossless": True, "save_all": True, "append_images": [ALPHA]},
        ),
        ("bits.bmp", COLOUR.convert("1"), {}),
    ],
    ids=["webp_alpha", "webp_moving", "bmp_1_bit"],
)
def test_rare_kinds_of_formats_are_read(
    tmp_path, name, picture, options, in_memory
):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(3):
            picture.save(tmp_path / label / f"{number}{name}", **options)
    images = data.load(tmp_path, in_memory=in_memory)
    expected = np.asarray(picture.convert("RGB"))
    for split in images:
        batch = joined(epoch(split))[0]
        assert (batch == expected[..., : batch.shape[-1]]).all()


@pytest.mark.every_backend
def test_random_crops_read_parts_of_every_format(tmp_path):
    _fill(tmp_path, {"cat.jpg": COLOUR, "dog.png": COLOUR})
    images = data.load(tmp_path, image_size=6, augment="random_resized_crop")
    batch = joined(epoch(images.train))[0]
    assert batch.shape == (images.sizes["train"], 6, 6, 3)
    assert len(as_set(batch)) > len(batch) / 2
    # Whole levels, as in memory.
    np.testing.assert_array_equal(batch, np.round(batch))


# What cannot be read.


def _damage(root):
    """Puts five files beside the images that look like some."""
    whole = io.BytesIO()
    Image.fromarray(NOISE).save(whole, "PNG")
    jpeg = io.BytesIO()
    Image.fromarray(NOISE).save(jpeg, "JPEG")
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


@pytest.mark.every_backend
def test_what_cannot_be_read_is_left_out_with_one_warning(tmp_path):
    write_folder(tmp_path)
    damaged = _damage(tmp_path)
    with pytest.warns(
        UserWarning, match="5 images could not be read"
    ) as caught:
        images = data.load(tmp_path, image_size=8)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert any(name in str(caught[0].message) for name in damaged)
    assert sorted(images.skipped) == damaged
    # The one that looked well is found out after the division.
    assert sum(images.sizes.values()) == 20
    assert (
        sum(len(part) for part, _ in epoch(images.test))
        == (images.sizes["test"])
    )


def test_a_class_that_cannot_be_read_is_named(tmp_path):
    write_folder(tmp_path, classes=("cat", "dog", "eel"))
    for path in (tmp_path / "eel").iterdir():
        path.write_text("no")
    with pytest.raises(ValueError, match='"train" has none of class "eel"'):
        data.load(tmp_path, image_size=8)


@pytest.mark.every_backend
@pytest.mark.parametrize("in_memory", [True, False])
def test_an_image_bomb_is_left_out(tmp_path, in_memory):
    write_folder(tmp_path, size=(8, 8))
    write_bomb(tmp_path / "dog" / "bomb.png")
    with pytest.warns(UserWarning, match="left out: dog/bomb.png"):
        images = data.load(tmp_path, in_memory=in_memory)
    assert sum(images.sizes.values()) == 20


def test_a_link_to_nothing_is_left_out(tmp_path):
    write_folder(tmp_path, size=(8, 8))
    (tmp_path / "dog" / "link.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match="left out: dog/link.png"):
        images = data.load(tmp_path)
    assert sum(images.sizes.values()) == 20


@pytest.mark.parametrize("name", ["first.tif", "first.JFIF", "deep/first.png"])
def test_images_in_other_places_are_reported(tmp_path, name):
    write_folder(tmp_path, size=(8, 8))
    (tmp_path / "cat" / "deep").mkdir()
    (tmp_path / "cat" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=f"left out: cat/{name}"):
        images = data.load(tmp_path)
    assert images.skipped == (f"cat/{name}",)


@pytest.mark.every_backend
@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("in_memory", [True, False])
def test_names_of_any_bytes_are_read(tmp_path, in_memory):
    write_folder(tmp_path, size=(8, 8))
    path = tmp_path / "dog" / "0.png"
    os.rename(path, os.fsencode(path.parent) + b"/\xff.png")
    images = data.load(tmp_path, in_memory=in_memory)
    read = [len(part) for split in images for part, _ in epoch(split)]
    assert sum(read) == 20


def test_truncated_files_are_seen_without_decoding(tmp_path):
    write_folder(tmp_path)
    _damage(tmp_path)
    files = [str(tmp_path / "dog" / f) for f in ("cut.png", "cut.jpg", "0.png")]
    heads = preloading.headers(files, "Looking")
    assert heads == [None, None, (16, 19, False)]


# Fingerprints.


def test_the_fingerprint_is_of_names_and_sizes(tmp_path):
    for copy in ("first", "second"):
        write_folder(tmp_path / copy)
    codes = [
        data.load(tmp_path / copy, image_size=8, seed=i).fingerprint
        for i, copy in enumerate(("first", "second"))
    ]
    assert codes[0] == codes[1]
    path = tmp_path / "second" / "cat" / "0.png"
    Image.fromarray(NOISE).save(path)
    changed = data.load(tmp_path / "second", image_size=8).fingerprint
    assert changed != codes[0]


@pytest.mark.every_backend
def test_a_folder_gives_the_same_epochs_again(tmp_path):
    write_folder(tmp_path)
    options = {"image_size": 8, "batch_size": 4, "in_memory": False}
    first, again = (data.load(tmp_path, **options) for _ in range(2))
    assert_same(epoch(first.train), epoch(again.train))
    assert_same(epoch(first.train), epoch(again.train))


# Mistakes.


def _remove(path):
    for file in path.iterdir():
        file.unlink()


def _no_class(root):
    (root / "notes.png").write_text("")


def _one_class(root):
    write_folder(root, classes=("cat",))


def _empty_class(root):
    write_folder(root)
    _remove(root / "dog")


def _missing_class(root):
    _splits(root, "train", "test")
    _remove(root / "test" / "dog")
    (root / "test" / "dog").rmdir()


def _unknown_class(root):
    _splits(root, "train")
    write_folder(root / "val", classes=("cat", "dog", "eel"))


def _two_validations(root):
    _splits(root, "train", "val", "valid")


def _few_images(root):
    write_folder(root, per_class=2)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (_no_class, 'without folders for the split "train"'),
        (_one_class, "at least two classes.*has 1: cat"),
        (_empty_class, 'whose folder "dog" of the split "train" has none'),
        (_missing_class, 'split "test" has no folder "dog"'),
        (_unknown_class, 'split "train" has no folder "eel"'),
        (_two_validations, 'with "val" and "valid"'),
        (_few_images, 'at least 3 training images.*"cat", "dog"'),
    ],
)
def test_folders_that_make_no_dataset_are_refused(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(tmp_path, image_size=8)
    assert f'Received: name="{tmp_path}"' in str(caught.value)


def test_names_of_splits_may_be_capitals(tmp_path):
    for name in ("Train", "VAL", "Test"):
        write_folder(tmp_path / name, per_class=3, size=(8, 8))
    images = data.load(tmp_path)
    assert images.sizes == dict.fromkeys(SPLITS, 6)
    assert images.class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere", "/nowhere"])
def test_a_missing_folder_is_refused(name):
    with pytest.raises(ValueError, match="must be a folder that exists"):
        data.load(name)


@pytest.mark.every_backend
@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow's error names no file")
def test_a_file_that_fails_later_is_named(tmp_path):
    write_folder(tmp_path)
    _damage(tmp_path)
    for name in ("empty.png", "text.jpg", "cut.png", "cut.jpg"):
        (tmp_path / "dog" / name).unlink()
    images = data.load(tmp_path, image_size=8, in_memory=False, batch_size=4)
    with pytest.raises(ValueError, match="middle.png cannot be decoded"):
        for split in images:
            epoch(split)
