"""Masks as people have them: drawn here, loaded, compared."""

import contextlib
import os
import pathlib
import re
import textwrap

import keras
import numpy as np
import pandas
import pytest
from data_checks import epoch, joined, plain_json
from PIL import Image

from cbam_keras.data import Source, load_masks

# The class of each pixel of ten masks, each with all classes.
TRUTH = np.random.default_rng(0).integers(0, 3, (10, 8, 6)).astype("uint8")
TRUTH[:, 0, :3] = range(3)
# An image holds twenty times its number.
IMAGES = np.repeat(np.arange(0, 200, 20, "uint8"), 144).reshape(10, 8, 6, 3)
SPLITS = {"train": [*range(6)], "validation": [6, 7], "test": [8, 9]}
NAMES = ["sky", "road", "car"]
NAMED, TWO = {"class_names": NAMES}, {"class_names": ["sky", "car"]}
# The first color is gray, and the others differ in one channel.
RGB = np.array([(9, 9, 9), (128, 64, 128), (128, 64, 0)], "uint8")
COLORED = {"colors": dict(zip(NAMES, RGB, strict=True))}
GRAY = {"colors": {"sky": 7, "road": 3 * [65535], "car": 0}}
# As CVAT writes it, and without its last fields.
TEXT = "# label:color_rgb:parts:actions\nsky:9,9,9::\nroad:128,64,128\n\n"
TEXT += "car:128,64,0:\n"
FILE = {"colors": "a.txt"}
BLACK, WHITE = np.uint8([0, 255, 255]), "background foreground"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _save(name, content):
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        pathlib.Path(name).write_text(content)
        return
    image = content if hasattr(content, "save") else Image.fromarray(content)
    image.save(name, quality=95, exif=image.getexif())


def _write(masks=TRUTH, image="images/{i}.png", mask="masks/{i}.png"):
    """Writes images and masks by number, split and patient (of two each)."""
    for i, each in enumerate(zip(IMAGES, masks, strict=True)):
        names = {"i": i, "p": f"dev{i // 2}", "s": [*SPLITS][(i > 5) + (i > 7)]}
        _save(image.format(**names), each[0])
        _save(mask.format(**names), each[1])


def _check(loaded):
    """Compares all masks, and returns the sorted numbers of each split."""
    splits, names = [], loaded.class_names
    # Of two classes, the second one of three is ignored, or all are white.
    of_two = [0, 255, 1] if "car" in names else [0, 1, 1]
    truth = TRUTH if len(names) == 3 else np.uint8(of_two)[TRUTH]
    for split in loaded:
        images, masks = split if isinstance(split, tuple) else joined([*split])
        rows = np.round(images.mean(axis=(1, 2, 3)) / 20).astype(int)
        side = masks.shape[1] // 8
        expected = truth[rows].repeat(side, axis=1).repeat(side, axis=2)
        np.testing.assert_array_equal(masks, expected)
        assert images.shape[1:] == loaded.image_shape
        splits.append(sorted(rows.tolist()))
    assert sorted(sum(splits, [])) == [*range(10)]
    counts = np.bincount(truth[splits[0]].ravel())[: len(names)]
    # Those of batches are of masks that are not resized.
    assert {*(loaded.class_counts / counts)} <= {1, side**2}
    if loaded.source is not None:
        with contextlib.chdir("/"):
            again = Source.from_description(plain_json(loaded.source)).read()
        assert again.fingerprint == loaded.fingerprint
        assert again.class_names == names
    return splits


def _turned(pixels):
    """Returns an image upside down that says so."""
    image = Image.fromarray(pixels).rotate(180)
    image.getexif()[0x0112] = 3
    return image


def _palette(mask, colors=RGB):
    image = Image.fromarray(mask)
    image.putpalette(np.ravel(colors).tolist())
    return image


@pytest.mark.parametrize(
    ("values", "ending", "options", "names"),
    [
        (np.uint8([0, 1, 2]), "png", {}, "0 1 2"),
        (None, "png", NAMED, "sky road car"),
        (None, "png", COLORED, "sky road car"),
        (RGB, "bmp", FILE, "sky road car"),
        (np.uint16([7, 65535, 0]), "tif", GRAY, "sky road car"),
        (RGB, "png", COLORED | {"ignore_index": 1}, "sky car"),
        (np.uint8([0, 1, 2]), "png", NAMED | {"ignore_index": 1}, "sky car"),
        (np.uint8([0, 255, 1]), "png", TWO | {"ignore_index": 255}, "sky car"),
        (BLACK, "png", {}, WHITE),
        (BLACK[:, None].repeat(3, axis=1), "jpg", {}, WHITE),
        (BLACK > 0, "png", {}, "0 1"),
    ],
)
def test_masks_of_all_forms(values, ending, options, names):
    pathlib.Path("a.txt").write_text(TEXT)
    masks = map(_palette, TRUTH) if values is None else values[TRUTH]
    _write(masks, mask="masks/{i}." + ending)
    for others in ({}, {"image_size": (16, 12), "batch_size": None}):
        loaded = load_masks("images", "masks", **options, **others)
        assert " ".join(loaded.class_names) == names
        _check(loaded)


@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("masks", "options"),
    [
        (TRUTH, {"image_size": (16, 12)}),
        (TRUTH[..., None].astype("float32"), {"batch_size": None}),
        (RGB[TRUTH], {"batch_size": None, **COLORED}),
    ],
)
def test_arrays_and_batches_of_masks(masks, options, order):
    keras.config.set_image_data_format(order)
    _check(load_masks(IMAGES, masks, **options))
    splits = {x: (IMAGES[rows], masks[rows]) for x, rows in SPLITS.items()}
    assert _check(load_masks(splits, **options)) == [*SPLITS.values()]
    if keras.backend.backend() == "tensorflow":
        from tensorflow.data import Dataset

        pairs = Dataset.from_tensor_slices((IMAGES, masks)).shuffle(10)
        _check(load_masks(pairs.batch(3), **options))


def test_tables_of_masks():
    _write()
    rows = [(f"images/{i}.png", f"masks/{i}.png", i // 2) for i in range(10)]
    table = pandas.DataFrame(rows, columns=["image", "mask", "group"])
    splits = _check(load_masks(table))
    assert len({x // 2 for x in splits[2]}) == 1
    named = table.rename(columns={"mask": "gt_path"})
    named.assign(mask="masks/0.png").to_csv("table.csv", index=False)
    assert _check(load_masks("table.csv", mask_column="gt_path")) == splits
    tables = {x: table.iloc[rows] for x, rows in SPLITS.items()}
    assert _check(load_masks(tables)) == [*SPLITS.values()]
    with pytest.raises(ValueError, match="1 with several: 0.png"):
        load_masks(table.replace("images/1.png", "images/0.png"))


@pytest.mark.parametrize(
    ("image", "mask", "folders"),
    [
        ("images/{i}.png", "masks/{i}.bmp", "images masks"),
        ("images/{s}/{i}.png", "masks/{s}/{i}.png", "images masks"),
        ("images/{s}/{i}.png", "m/{s}_set/{i}.PNG", "images m"),
        (
            "JPEGImages/{i}.jpg",
            "JPEGImages/x/{i}.png",
            "JPEGImages ./JPEGImages/x",
        ),
    ],
)
def test_folders_of_masks_of_the_same_names(image, mask, folders):
    _write(image=image, mask=mask)
    folder, masks = folders.split()
    given = folder, os.path.abspath(masks)
    is_given = _check(load_masks(*given)) == [*SPLITS.values()]
    assert is_given == ("{s}" in image)
    folds = [_check(load_masks(*given, folds=5, fold=i))[2] for i in range(5)]
    assert sorted(sum(folds, [])) == [*range(10)]


@pytest.mark.parametrize(
    ("image", "mask", "folders", "patterns"),
    [
        ("a/{i}.jpg", "b/{i}_segmentation.png", "a b", "{name} {name}_segm"),
        ("a/img_{i}.png", "b/mask_{i}.PNG", "a b", "img_{name} mask_{name}"),
        ("a/{i}.png", "a/masks/{i}_L.png", "a a/masks", "{name} {name}_L"),
        ("{i}.png", "{i}_mask.png", ". .", "{name} {name}_mask"),
        ("a/{s}/images/{i}.png", "a/{s}/masks/{i}.png", ". .", "{split}/ma"),
        # CamVid, Cityscapes, DRIVE, LGG, BUSI, and what labelme writes.
        ("{s}/{i}.png", "{s}annot/{i}.png", ". .", "{split}/ {split}annot/"),
        ("{s}/{i}_l.png", "m/{s}/{i}_gtFine.png", ". m", "{split}/{name}_l"),
        ("i/2{i}_training.tif", "m/2{i}_m1.gif", "i m", "{name}_tr {name}_m1"),
        ("{p}/{i}.png", "{p}/{i}_mask.png", ". .", "{name} {name}_mask"),
        ("i/k{p}/{i}.png", "m/k{p}/{i}.png", "i m", "{name}.png m/"),
        ("x ({i}).png", "x ({i})_mask.png", ". .", "{name})_mask"),
    ],
)
def test_other_folders_are_refused_with_patterns(
    image, mask, folders, patterns
):
    _write(image=image, mask=mask)
    with pytest.raises(ValueError, match="Copy the line") as caught:
        load_masks(*folders.split())
    found = re.findall(
        'data="(.*)", images="(.*)", masks="(.*?)" +10 images',
        str(caught.value),
    )
    assert len(found) == 1
    for folder, images, masks in found:
        both = f"images={images} masks={masks}"
        is_whole = "{group}" in both
        assert is_whole or all(x in both for x in patterns.split())
        named = {"images": images, "masks": masks}
        splits = _check(load_masks(folder, **named))
        assert (splits == [*SPLITS.values()]) == ("{s}" in image)
        folds = [
            _check(load_masks(folder, **named, folds=5, fold=i))[2]
            for i in range(5)
        ]
        assert sorted(sum(folds, [])) == [*range(10)]
        assert is_whole == all(x // 2 == y // 2 for x, y in folds)


@pytest.mark.parametrize(
    ("ignored", "names"), [(2, "0 1"), (0, "1 2"), (1, "0 2")]
)
def test_what_is_ignored_is_no_class(ignored, names):
    loaded = load_masks(IMAGES, TRUTH, ignore_index=ignored, batch_size=None)
    assert " ".join(loaded.class_names) == names
    part = f"{100 * (TRUTH == ignored).mean():.3g}% of pixels ignored"
    assert loaded.notes == (part,)
    values = {*np.unique(loaded.train[1])}
    assert values == {0, 1, loaded.ignore_index} == {0, 1, 255}


def test_fingerprint_is_of_masks_and_their_meaning():
    def load(**options):
        return load_masks("images", "masks", **options).fingerprint

    _write()
    values = {"a": 0, "b": 1, "c": 2}
    others = [load(), load(**NAMED), load(colors=values)]
    others += [load(colors=values | {"b": 2, "c": 1})]
    others += [load(**NAMED, ignore_index=2)]
    for path in pathlib.Path().rglob("*.png"):
        os.utime(path, (0, 0))
    assert load() == others[0]
    _save("masks/4.png", TRUTH[5])
    assert len({*others, load(), load(**NAMED)}) == 7


@pytest.mark.parametrize("of_files", [False, True])
@pytest.mark.parametrize("augment", ["flip", "crop", "random_resized_crop"])
def test_augmentation_moves_masks_with_images(monkeypatch, of_files, augment):
    masks = BLACK[TRUTH[:, :4, :3]].repeat(6, axis=1).repeat(8, axis=2)
    monkeypatch.setitem(globals(), "IMAGES", np.stack(3 * [masks], axis=-1))
    _write(masks)
    given = ("images", "masks") if of_files else (IMAGES, masks)
    loaded, plain = (
        load_masks(*given, augment=x, image_size=(48, 24))
        for x in (augment, ())
    )
    for split in ("validation", "test"):
        np.testing.assert_equal(*([*vars(x)[split]] for x in (loaded, plain)))
    moved = [joined(epoch(loaded.train)) for _ in range(4)]
    assert len({masks.tobytes() for _, masks in moved}) == 4
    for images, masks in [*moved, joined([*loaded.test])]:
        # Images are blended where they change, in float32.
        images = images[..., 0].round(2)
        is_whole = np.isin(images, (0, 255))
        assert is_whole.mean() > 0.5
        assert (images[is_whole] == 255 * masks[is_whole]).all()


MANY = np.arange(480).reshape(10, 8, 6) % 256
A, B, THIRD = "masks/0.png", "masks/3.png", TRUTH[3]
JPEG = {B: None, "masks/3.jpg": BLACK[THIRD]}


def _by(images="images/{name}.png", masks="masks/{name}.png"):
    return {"data": ".", "images": images, "masks": masks}


def _of(masks, **options):
    return {"data": None, "images": IMAGES, "masks": masks, **options}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        # Values that are no class.
        ({B: THIRD + 1}, NAMED, "3 classes, .* 1 other values, 3 .*/3.png"),
        ({B: 2 * THIRD}, {}, r"3 classes, .* 4 \(.*\), as in .*/3.png"),
        ({B: RGB[THIRD]}, {}, r"values, \(128, .* pixels.*/3.png"),
        ({B: RGB[THIRD]}, COLORED, r"values, [12] .*/0.png"),
        ({}, COLORED, "{.class 0.: 0, .*: 1, .*: 2} by value"),
        ({B: None, "masks/3.jpg": THIRD}, {}, "0 classes, .* from JPEG"),
        (JPEG, {}, "0 classes"),
        (JPEG, {"ignore_index": 255}, "0 classes"),
        ({}, _of(BLACK[TRUTH] * np.uint16(257)), ": 65535} by value"),
        (
            {},
            _of(np.where(TRUTH, 255, MANY % 2)),
            "values, 255 .*pass ignore_index=",
        ),
        (
            {},
            _of(BLACK[TRUTH], ignore_index=255),
            "1 classes, 0, and 0 other values",
        ),
        ({}, _of(BLACK[TRUTH], **NAMED), "3 classes, sky.* values, 255"),
        ({}, _of(0 * TRUTH), "2 to 255 classes.* 1 classes, 0, and 0 other"),
        ({}, _of(MANY), "256 classes"),
        ({}, _of(np.eye(2)[TRUTH % 2]), r"np.argmax\(masks, axis=-1\)"),
        ({}, _of(TRUTH / 2), "masks must be integers"),
        # Files that do not fit.
        ({B: THIRD.T}, {}, "1 .*3.png. .6 x 8 for an image of 8 x 6"),
        ({A: _palette(THIRD), B: _palette(THIRD, RGB[::-1])}, {}, "same one"),
        ({B: None, "masks/3.tif": THIRD / np.float32(2)}, {}, "1 .*as PNG"),
        ({B: "x"}, {}, "readable images of.*1 that are not: .*/3.png"),
        ({"masks/3.bmp": THIRD}, {}, "2 masks of one name: .*/3.bmp"),
        ({}, {"masks": "others"}, "others/  1 image\nNo patterns were"),
        ({f"images/{i}.png": "" for i in range(10)}, {}, "images .*10 damaged"),
        # Arguments.
        ({}, {"class_names": [*"aba"]}, "two different names or more"),
        ({}, {"class_names": {0: "a", 2: "b", 1: "c"}}, "as a list"),
        # Patterns.
        (
            {},
            _of(TRUTH) | {"data": IMAGES, "images": "a"},
            "`images` is for folders",
        ),
        ({}, _by(images="{class}/{name}.png"), "There are {name}, {spl"),
        ({}, _by(images="images/{name}.jpg"), "0 files by images=.*10 fi"),
        ({}, _by(masks="masks/{}{name}.png"), "files by masks=(.|\n)*Copy"),
        (
            {"masks/b/3.png": THIRD},
            _by(masks="masks/**/{name}.png"),
            "1 image and 2 masks of one name",
        ),
        ({}, {"data": [A, B], "masks": [A, B]}, "columns of a data"),
        ({}, NAMED | COLORED, "left out with `colors`"),
        (
            {},
            COLORED | {"ignore_index": 3},
            "zero-based index into `colors`.*3 colors",
        ),
        ({}, {"colors": {"a": 1, "b": (1, 1, 1)}}, "to different colors or"),
        ({"a.txt": "1 2 3 a\n4 5 6 b"}, FILE, "CVAT.*Received: {}"),
        ({}, {"mask_column": "a"}, "only for CSV files and data frames"),
        ({}, {"masks": TRUTH}, "folder or a pattern if.*masks='ndarray'"),
        ({}, {"data": "voc"}, "TensorFlow Datasets come as pairs"),
        ({}, _of(TRUTH[1:]), "size of their images"),
        ({}, {"data": IMAGES[:2], "masks": TRUTH[:2]}, "at least 3 images"),
    ],
)
@pytest.mark.filterwarnings("ignore:10 images .* could not be read")
def test_what_has_no_meaning_is_refused(files, options, message):
    _save("others/a.png", THIRD)
    _write()
    for name, content in files.items():
        os.remove(name) if content is None else _save(name, content)
    with pytest.raises(ValueError, match=message):
        load_masks(**{"data": "images", "masks": "masks"} | options)


def test_files_without_the_other_are_left_out():
    _write()
    os.remove("masks/2.png")
    os.remove("images/3.png")
    reasons = "1 without a mask, 1 without an image"
    with pytest.warns(
        UserWarning, match=f"{reasons}, such as .*/2.png, .*/3.png"
    ):
        loaded = load_masks("images", "masks")
    assert sum(loaded.sizes.values()) == 8
    assert loaded.notes == (f"2 left out: {reasons}",)
    _save("others/4.png", IMAGES[4])
    reasons += ", 1 in neither pattern"
    with pytest.warns(
        UserWarning, match=f"masks are left out: {reasons}, such"
    ):
        assert load_masks(**_by()).notes == (f"3 left out: {reasons}",)


@pytest.mark.parametrize(("blocks", "is_read"), [(10, True), (11, False)])
def test_few_pixels_of_a_jpeg_mask_are_edges(blocks, is_read):
    # Blocks of JPEG of one value keep it.
    levels = np.repeat([0, 128, 255], [40, blocks, 60 - blocks])
    mask = levels.reshape(10, 10).repeat(8, 0).repeat(8, 1).astype("uint8")
    for i in range(10):
        _save(f"images/{i}.png", np.roll(mask, i))
        _save(f"masks/{i}.jpg", np.roll(mask, 8 * i, 0))
    refused = pytest.raises(ValueError, match="other values, .*/0.jpg")
    with contextlib.nullcontext() if is_read else refused:
        loaded = load_masks("images", "masks")
        note = "JPEG masks: values above 127 are foreground"
        assert loaded.notes == (note,)


def test_masks_are_turned_by_exif_like_their_images():
    _write()
    for path in pathlib.Path().rglob("*.png"):
        _save(path, _turned(np.array(Image.open(path))))
    _check(load_masks("images", "masks"))


def test_masks_of_objects_are_merged_by_the_code_that_is_shown():
    """As in the Data Science Bowl of 2018: a folder for each image."""
    for i, (image, mask) in enumerate(zip(IMAGES, TRUTH, strict=True)):
        _save(f"stage1/id{i}/images/id{i}.png", image)
        for number in (1, 2):
            objects = np.uint8(255 * (mask == number))
            _save(f"stage1/id{i}/masks/{i}{number}.png", objects)
    with pytest.raises(ValueError, match="a mask for each object") as caught:
        load_masks(".")
    *code, line = str(caught.value).partition("says:\n")[2].splitlines()
    exec(textwrap.dedent("\n".join(code)), {})
    found = re.fullmatch(' +data="(.*)", images="(.*)", masks="(.*)".', line)
    folder, images, masks = found.groups()
    with pytest.warns(UserWarning, match="20 in neither pattern"):
        loaded = load_masks(folder, images=images, masks=masks)
        assert loaded.class_names == ("background", "foreground")
        _check(loaded)


@pytest.mark.parametrize("folders", [(".",), ("imagesTr", "labelsTr")])
def test_a_folder_without_images_names_the_package_of_its_files(folders):
    for i in range(3):
        for part in ("imagesTr", "labelsTr"):
            _save(f"{part}/la_{i}.nii.gz", "x")
    with pytest.raises(ValueError, match="hold images.* .nii.gz .*nibabel.lo"):
        load_masks(*folders)


def test_few_numbers_of_objects_are_read_as_classes_but_not_in_silence():
    masks = np.stack(
        [np.arange(48).reshape(8, 6) % (i % 2 + 2) for i in range(10)]
    )
    _write(masks.astype("uint8"))
    (note,) = load_masks("images", "masks").notes
    assert note.startswith("masks hold 0 to a different maximum in each")
    # What the note advises reads them as one class.
    colors = {"background": 0, "foreground": "> 0"}
    named = (("colors", colors), ("class_names", NAMES))
    for name, value in named:
        loaded = load_masks("images", "masks", **{name: value})
        assert loaded.notes == ()
        assert loaded.class_names == tuple(value)


def test_numbers_of_instances_are_no_classes():
    """As in GlaS, where each gland has a number."""
    masks = np.stack(
        [np.arange(48).reshape(8, 6) % (i % 4 + 2) for i in range(10)]
    )
    _write(masks.astype("uint8"))
    with pytest.raises(ValueError, match='"foreground": "> 0"}; otherwise'):
        load_masks("images", "masks")
    colors = {"background": 0, "gland": "> 0"}
    loaded = load_masks("images", "masks", colors=colors, batch_size=None)
    assert loaded.class_names == ("background", "gland")
    assert {*np.unique(loaded.train[1])} == {0, 1}
    rows = np.round(loaded.train[0].mean(axis=(1, 2, 3)) / 20).astype(int)
    np.testing.assert_array_equal(loaded.train[1], masks[rows] > 0)
    names = [*"abcde"]
    assert [
        *load_masks("images", "masks", class_names=names).class_names
    ] == names


def test_a_table_of_colors_is_read():
    """As Kaggle has it."""
    _write(RGB[TRUTH])
    rows = [
        f"{x},{','.join(map(str, y))}" for x, y in zip(NAMES, RGB, strict=True)
    ]
    pathlib.Path("class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
    _check(load_masks("images", "masks", colors="class_dict.csv"))


def test_a_split_with_a_letter_is_one_where_it_is_written():
    _write(image="{s}A_{i}.png", mask="{s}A_{i}_anno.png")
    loaded = load_masks(
        ".", images="{split}_{name}.png", masks="{split}_{name}_anno.png"
    )
    assert _check(loaded) == [*SPLITS.values()]
