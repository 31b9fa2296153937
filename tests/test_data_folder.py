"""Folders of images become datasets: layouts, formats, sizes, damage."""

import os

import numpy as np
import pytest
from data_checks import as_set, epoch, joined, whole, write_folder
from PIL import Image

from cbam_keras import data
from cbam_keras.data import loading

PETS = ("cat", "dog")


@pytest.fixture(params=["memory", "files"])
def source(request, monkeypatch):
    """Images are decoded at once, or when they are needed."""
    if request.param == "files":
        monkeypatch.setattr(loading, "DECODED_BYTES", 0)


both_sources = pytest.mark.usefixtures("source")


def _save(root, pictures, classes=PETS, **options):
    """Saves Pillow's images, by file name, in each class folder."""
    for label in classes:
        (root / label).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            picture.save(root / label / name, **options)


def test_class_folders_are_divided_among_the_splits(tmp_path):
    # As archives have it, with a folder in a folder.
    written = write_folder(tmp_path / "pets/a/b", size=(9, 11))
    loaded = whole(tmp_path / "pets")
    assert loaded.name == "pets"
    assert loaded.sizes == {"train": 14, "validation": 2, "test": 4}
    assert loaded.class_names == PETS
    assert loaded.image_shape == (9, 11, 3)
    kept = [as_set(split[0]) for split in loaded]
    assert set.union(*kept) == as_set(written.values())
    labels = {i.tobytes(): "dog" in name for name, i in written.items()}
    for images, given in loaded:
        assert [labels[image.tobytes()] for image in images] == given.tolist()


@pytest.mark.parametrize(
    ("per_class", "sizes"),
    [
        ({"train": 10, "val": 10}, (16, 20, 4)),
        # One test image of each class is enough.
        ({"train": 2, "test": 1}, (2, 2, 2)),
    ],
)
def test_a_missing_split_takes_no_images_for_one_that_is_there(
    tmp_path, per_class, sizes
):
    for seed, (name, count) in enumerate(per_class.items()):
        write_folder(tmp_path / name, count, size=(9, 11), seed=seed)
    loaded = data.load(tmp_path, validation_fraction=0.5)
    assert tuple(loaded.sizes.values()) == sizes


def test_an_embedded_dataset_comes_before_a_folder_of_its_name(
    tmp_path, monkeypatch, few_digits
):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "mnist5k", size=(8, 8))
    assert data.load("mnist5k").class_names == tuple("0123456789")
    assert data.load("./mnist5k").class_names == PETS


def test_files_in_other_places_are_left_alone(tmp_path):
    # They differ in size, so that all are resized.
    write_folder(tmp_path)
    for name in (".cache", "__MACOSX", "cat/.thumbnails", "run"):
        (tmp_path / name).mkdir()
    files = "cat/notes.txt cat/.hidden.png cat/.thumbnails/1.png run/study.json"
    for name in files.split():
        (tmp_path / name).write_text("")
    images = data.load(tmp_path)
    assert images.notes == ("1 left out: 1 .txt",)
    assert sum(images.sizes.values()) == 20
    assert images.image_shape == (224, 224, 3)


def test_a_copy_has_the_same_fingerprint_and_a_renamed_file_another(tmp_path):
    for copy in ("first", "second"):
        write_folder(tmp_path / copy, size=(8, 8))
    first = data.load(tmp_path / "first").fingerprint
    path = tmp_path / "second" / "cat" / "0.png"
    # As `cp -r` leaves it.
    os.utime(path, (1, 1))
    assert data.load(tmp_path / "second", seed=1).fingerprint == first
    path.rename(path.with_name("00.png"))
    assert data.load(tmp_path / "second").fingerprint != first


# A frame of one colour.
FRAME = np.pad(np.zeros((8, 8, 3), "uint8"), ((64, 64), (64, 64), (0, 0)))


@pytest.mark.parametrize("ending", [".bmp", ".png", ".tif"])
def test_another_image_of_the_same_name_and_size_is_noticed(tmp_path, ending):
    found = []
    for level in (1, 2):
        image = FRAME.copy()
        image[66, 66] = level
        # Not compressed, so that both have the same number of bytes.
        options = {"compress_level": 0} if ending == ".png" else {}
        pictures = {f"{i}{ending}": Image.fromarray(image) for i in range(3)}
        _save(tmp_path, pictures, **options)
        size = (tmp_path / "cat" / f"0{ending}").stat().st_size
        found.append((size, data.load(tmp_path).fingerprint))
    (first, one), (second, other) = found
    assert first == second
    assert one != other


NOISE = np.random.default_rng(3).integers(0, 256, (24, 30, 3)).astype("uint8")
GREY = Image.fromarray(NOISE[..., 0])
COLOUR = Image.fromarray(NOISE)
SMOOTH = Image.fromarray(np.kron(NOISE[::6, ::6], np.ones((6, 6, 1), "uint8")))
ALPHA = Image.fromarray(np.concatenate([NOISE, NOISE[..., :1]], axis=-1))
PALETTE = COLOUR.quantize(16)
WEBP = {"lossless": True, "exact": True}
# Held upright, by the orientation in their EXIF data.
LEFT = Image.Exif()
LEFT[0x0112] = 8
# Pillow's image by the name of its file, and how it is saved.
PICTURES = {
    "alpha.png": (ALPHA, {}),
    "alpha.webp": (ALPHA, WEBP),
    "bits.bmp": (COLOUR.convert("1"), {}),
    "bits.png": (GREY.convert("1"), {}),
    "grey.png": (GREY, {}),
    "moving.webp": (COLOUR, WEBP | {"save_all": 1, "append_images": [ALPHA]}),
    "palette.gif": (PALETTE, {}),
    # Pillow must not warn that it drops the transparency.
    "palette.png": (PALETTE, {"transparency": bytes(range(16))}),
    "plain.bmp": (COLOUR, {}),
    # Lossy, so compared with the stored pixels.
    "plain.jfif": (SMOOTH, {}),
    "plain.jpg": (SMOOTH, {}),
    "plain.jp2": (COLOUR, {}),
    "plain.png": (COLOUR, {}),
    "plain.ppm": (COLOUR, {}),
    "plain.tif": (COLOUR, {"compression": "tiff_lzw"}),
    "plain.tiff": (GREY, {}),
}


@both_sources
def test_files_of_every_format_are_read_as_pillow_reads_them(tmp_path):
    write_folder(tmp_path / "train", per_class=3, size=(24, 30))
    for name, (picture, options) in PICTURES.items():
        _save(tmp_path / "test", {name: picture}, **options)
    found = joined(epoch(data.load(tmp_path).test))[0][: len(PICTURES)]
    for name, image in zip(sorted(PICTURES), found, strict=True):
        expected = PICTURES[name][0]
        if name.endswith((".jpg", ".jfif")):
            expected = Image.open(tmp_path / "test" / "cat" / name)
        expected = np.asarray(expected.convert("RGB"))
        np.testing.assert_array_equal(image, expected, err_msg=name)


def test_a_png_may_say_after_its_pixels_how_it_was_held(tmp_path):
    """As exiftool writes it."""
    _save(tmp_path, {f"{i}.png": COLOUR for i in range(3)}, exif=LEFT)
    for path in tmp_path.rglob("*.png"):
        content = path.read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4])
        # The last chunk has 12 bytes.
        parts = content[:start], content[end:-12], content[start:end]
        path.write_bytes(b"".join((*parts, content[-12:])))
    images, _ = whole(tmp_path).test
    expected = np.rot90(np.asarray(COLOUR))
    np.testing.assert_array_equal(images[0], expected)


def test_grey_images_alone_have_one_channel(tmp_path):
    pictures = {"0.png": GREY, "1.png": GREY.convert("1"), "2.png": GREY}
    _save(tmp_path, pictures)
    assert data.load(tmp_path).image_shape == (24, 30, 1)


@pytest.mark.parametrize(
    ("size", "box"),
    # The largest part of that ratio, from the middle; from 128 pixels on
    # without a margin of 16 in 256.
    [((12, 20), (0, 2.4, 32, 21.6)), ((140, 150), (4.75, 1.5, 27.25, 22.5))],
)
def test_resizing_equals_pillows(tmp_path, size, box):
    written = write_folder(tmp_path, per_class=3, size=(24, 32))
    loaded = whole(tmp_path, image_size=size)
    options = {"box": box, "resample": Image.Resampling.BILINEAR}
    expected = {
        np.asarray(Image.fromarray(x).resize(size[::-1], **options)).tobytes()
        for x in written.values()
    }
    assert set.union(*(as_set(images) for images, _ in loaded)) == expected
