"""Layouts that people publish: each proposal reads what it says."""

import ast
import itertools
import pathlib
import re

import numpy as np
import pandas
import pytest
from PIL import Image

from cbam_keras import data, study

# The trees of published datasets: <a|b> is a or b, # a number, + a space.
TREES = {
    "Stanford Dogs": (
        "Images/<n02085620-Chihuahua|n02085782-Japanese_spaniel>/n_#.jpg "
        "Annotation/n02085620-Chihuahua/n_#.xml",
        "Images/{class}/*",
    ),
    "CUB-200": (
        "CUB_200_2011/images/<001.a|002.b|003.c>/#.jpg "
        "segmentations/<001.a|002.b|003.c>/#.png",
        "CUB_200_2011/images/{class}/*",
    ),
    "Tiny ImageNet": (
        "train/<n01443537|n01629819|n01641577>/images/#.JPEG "
        "val/images/val_#.JPEG",
        "train/{class}/images/*",
    ),
    "ImageNet of Kaggle": (
        "ILSVRC/Data/CLS-LOC/train/<n01440764|n01443537|n01484850>/#.JPEG "
        "ILSVRC/Data/CLS-LOC/<val|test>/ILSVRC2012_#.JPEG "
        "ILSVRC/Annotations/#.xml",
        "ILSVRC/Data/CLS-LOC/train/{class}/*",
    ),
    "NCT-CRC": (
        "NCT-CRC-HE-100K/<ADI|BACK>/#.tif CRC-VAL-HE-7K/<ADI|BACK>/#.tif",
        {"train": "NCT-CRC-HE-100K", "test": "CRC-VAL-HE-7K"},
    ),
    "horse-or-human": (
        "horse-or-human/<horses|humans>/#.png "
        "validation-horse-or-human/<horses|humans>/#.png",
        {"train": "horse-or-human", "test": "validation-horse-or-human"},
    ),
    "rock paper scissors": (
        "rps/<paper|rock>/#.png rps-test-set/<paper|rock>/#.png "
        "rps-validation-set/v#.png",
        {"train": "rps", "test": "rps-test-set"},
    ),
    "blood cells": (
        "d2/images/<TRAIN|TEST|TEST_SIMPLE>/<EOS|LYM>/#.jpeg "
        "d/JPEGImages/#.jpg",
        {"train": "d2/images/TRAIN", "test": "d2/images/TEST"},
    ),
    "HyperKvasir": (
        "low/<land|find>/<a|b>/#.jpg up/<land|find>/<c|d>/#.jpg",
        "{}/{}/{class}/*",
    ),
    "Office-31": (
        "<amazon|dslr|webcam>/images/<bike|mug>/f#.jpg",
        "{}/images/{class}/*",
    ),
    "MVTec": (
        "<bottle|cable>/train/good/#.png "
        "<bottle|cable>/test/<good|bent>/#.png "
        "bottle/test/broken/#.png bottle/ground_truth/broken/#_mask.png "
        "<bottle|cable>/ground_truth/bent/#_mask.png",
        "{}/test/{class}/*",
    ),
    "MVTec, one of them": (
        "train/good/#.png test/<good|bent|cut>/#.png "
        "ground_truth/<bent|cut>/#_mask.png",
        "test/{class}/*",
    ),
    "Alzheimer MRI": (
        "AugmentedAlzheimerDataset/<Mild|Non>/u#.jpg "
        "OriginalDataset/<Mild|Non>/#.jpg",
        "OriginalDataset/{class}/*",
    ),
    "MURA": (
        "train/XR_<ELBOW|WRIST>/<p1|p2|p3>/study<1|2>_<positive|negative>/"
        "#.png "
        "valid/XR_<ELBOW|WRIST>/p<7|8>/study<1|2>_<positive|negative>/#.png",
        "{split}/{}/{group}/*_{class}/*",
    ),
    "COIL-100": ("<obj1|obj2|obj11>__#.png", "{class}__*.png"),
    "UCF-101": (
        "Apply/v_Apply_<g01|g02|g03>_c01/frame#.jpg "
        "Brush/v_Brush_<g01|g02|g03>_c01/frame#.jpg",
        "{class}/{group}/*",
    ),
    "BACH": (
        "ICIAR/Photos/<Benign|Normal>/#.tif "
        "ICIAR/WSI/<thumbnails|gt_thumbnails>/#.png",
        "ICIAR/Photos/{class}/*",
    ),
    "MRL eyes": (
        "<s0001|s0002|s0003|s0004>/a_#_0_<0|1>_01.png",
        "{group}/*_*_*_{class}_*.png",
    ),
    "RAVDESS": (
        "Actor_<01|02|03|04>/03-01-<01|02|03|04|05>-01.png",
        "{group}/*-*-{class}-*.png",
    ),
    "ESC-50": ("<1|2|3>-1#-A-<0|11|12>.png", "*-*-*-{class}.png"),
    "COVID Radiography": (
        "<COVID|Normal>/<images|masks>/#.png",
        "{class}/images/*",
    ),
}
MASKS = {
    "Montgomery": (
        "CXR_png/M_#.png ManualMask/<leftMask|rightMask>/M_#.png",
        "CXR_png/{name}.png ManualMask/leftMask/{name}.png",
    ),
    "IDRiD": (
        "1.+Original/a.+Training+Set/I_#.jpg "
        "1.+Original/b.+Testing+Set/I_5#.jpg "
        "2.+Groundtruths/a.+Training+Set/5.+Optic/I_#_OD.tif "
        "2.+Groundtruths/b.+Testing+Set/5.+Optic/I_5#_OD.tif",
        "1.+Original/{}.+{split}+Set/{name}.jpg "
        "2.+Groundtruths/{}.+{split}+Set/5.+Optic/{name}_OD.tif",
    ),
    "GlaS": (
        "<train|testA>_#<|_anno>.bmp",
        "{split}_{name}.bmp {split}_{name}_anno.bmp",
    ),
    "Massachusetts roads": (
        "tiff/train<|_labels>/a#.tif tiff/test<|_labels>/b#.tif",
        "tiff/{split}/{name}.tif tiff/{split}_labels/{name}.tif",
    ),
    "MVTec": (
        "test/<good|bent|cut|bad>/#.png train/good/#.png "
        "ground_truth/<bent|cut|bad>/#_mask.png",
        "test/{group}/{name}.png ground_truth/{group}/{name}_mask.png",
    ),
    "SUIM": (
        "<train_val|TEST>/images/d#.jpg <train_val|TEST>/masks/d#.bmp",
        "{split}/images/{name}.jpg {split}/masks/{name}.bmp",
    ),
    "HAM10000": (
        "HAM_images_part_1/ISIC_0#.jpg HAM_images_part_2/ISIC_1#.jpg "
        "HAM_segmentations/ISIC_<0|1>#_segmentation.png",
        "{}/{name}.jpg {}/{name}_segmentation.png",
    ),
    "STARE": (
        "stare-images/im#.ppm labels-ah/im#.ah.ppm labels-vk/im#.vk.ppm",
        "stare-images/{name}.ppm labels-ah/{name}.ah.ppm",
    ),
    "Potsdam": (
        "2_Ortho_RGB/p_#_RGB.tif 5_Labels_all/p_#_label.tif "
        "5_Labels_all_noBoundary/p_#_label_noBoundary.tif",
        "2_Ortho_RGB/{name}_RGB.tif 5_Labels_all/{name}_label.tif",
    ),
}


def _write(root, tree):
    """Writes different images of the size 4 x 3 that are masks, too."""
    rng = np.random.default_rng(0)
    for line in tree.split():
        pieces = [
            x.split("|") for x in re.split("[<>]", line.replace("+", " "))
        ]
        for name in map("".join, itertools.product(*pieces)):
            for number in range(8):
                path = root / name.replace("#", str(number))
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 2, (4, 3), "uint8") * 255
                if path.suffix == ".xml":
                    path.touch()
                else:
                    Image.fromarray(pixels).save(path)


def _count(loaded):
    return sum(loaded.sizes.values()), len(loaded.class_names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TREES)
def test_each_proposal_of_classes_reads_what_it_says(tmp_path, name):
    tree, expected = TREES[name]
    _write(tmp_path, tree)
    if isinstance(expected, dict):
        expected = {x: str(tmp_path / expected[x]) for x in expected}
    with pytest.raises(ValueError, match="Copy the line") as caught:
        data.load(tmp_path)
    line = r"    (pattern=\S+|{.*}) +([\d,]+) images of (\d+) classes \(.*\)"
    found = re.findall(line, str(caught.value))
    assert 1 <= len(found) <= 4
    readings = []
    for text, count, classes in found:
        value = ast.literal_eval(text.removeprefix("pattern="))
        given = (tmp_path, value) if isinstance(value, str) else (value, None)
        loaded = data.load(given[0], pattern=given[1])
        assert _count(loaded) == (int(count), int(classes))
        readings.append(value)
    assert expected in readings


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MASKS)
def test_each_proposal_of_masks_reads_what_it_says(tmp_path, name):
    tree, expected = MASKS[name]
    _write(tmp_path, tree)
    with pytest.raises(ValueError, match="Copy the line") as caught:
        data.load_masks(tmp_path)
    line = r'data="(.*)", images="(.*)", masks="(.*?)" +([\d,]+) images'
    found = re.findall(line, str(caught.value))
    assert 1 <= len(found) <= 4
    for folder, images, masks, count in found:
        loaded = data.load_masks(folder, images=images, masks=masks)
        assert _count(loaded) == (int(count), 2)
    pairs = [f"{x} {y}".replace(" ", "+") for _, x, y, _ in found]
    assert expected.replace(" ", "+") in pairs


@pytest.mark.filterwarnings("ignore")
def test_no_mask_of_another_class_or_split_is_proposed(tmp_path, monkeypatch):
    # The examples keep the paths of files that are read in each epoch.
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)
    kinds = "<Class1|Class2|Class3>/<Train|Test>"
    _write(tmp_path, f"{kinds}/<0|1>#.png {kinds}/Label/0#_label.png")
    with pytest.raises(ValueError, match="Copy the line") as caught:
        data.load_masks(tmp_path)
    line = r'images="(.*)", masks="(.*?)" +48 images with masks, of 144 files'
    ((images, masks),) = re.findall(line, str(caught.value))
    loaded = data.load_masks(tmp_path, images=images, masks=masks)
    assert loaded.sizes["test"] == 24
    assert loaded.leaks[0].startswith("3 groups have images in several")
    for split in loaded:
        examples = split.examples
        for image, mask in zip(examples.images, examples.masks, strict=True):
            path = pathlib.Path(image)
            expected = path.parent / "Label" / f"{path.stem}_label.png"
            assert pathlib.Path(mask) == expected


SUBJECTS = ("fold", "Actor_", "patient", "s", "session-")


@pytest.mark.parametrize("word", SUBJECTS)
def test_folders_of_one_word_and_a_number_are_no_classes(tmp_path, word):
    numbers = "|".join(f"{word}{number}" for number in range(1, 7))
    _write(tmp_path, f"<{numbers}>/#_<benign|malignant>.png")
    with pytest.raises(ValueError, match="by a word and a number") as caught:
        data.load(tmp_path)
    lines = re.findall(r'    pattern="(\S+)" ', str(caught.value))
    key = "fold" if word == "fold" else "group"
    assert lines[:2] == [f"{{{key}}}/*_{{class}}.png", "{class}/*"]
    # The faces of ORL, from "s1" to "s40", are classes.
    loaded = data.load(tmp_path, pattern=lines[1], batch_size=None)
    assert len(loaded.class_names) == 6
    names = ", ".join(f"{word}{number}" for number in (1, 2, 3))
    assert f"of 6 classes ({names}, ...) in train" in str(loaded)
    grouped = data.load(tmp_path, pattern=lines[0])
    assert grouped.class_names == ("benign", "malignant")


def test_lists_beside_images_are_named(tmp_path):
    _write(tmp_path, "images/<cat|dog>/#.png")
    (tmp_path / "meta").mkdir()
    for name in ("meta/train.txt", "labels.csv", "README.txt"):
        (tmp_path / name).write_text("")
    loaded = data.load(tmp_path, pattern="images/{class}/*")
    note = "not used: labels.csv, meta/train.txt (pass splits as a table"
    assert [x for x in loaded.notes if x.startswith(note)]


def test_folds_of_the_authors_are_tested(tmp_path):
    folds = [f"fold{number}" for number in (1, 2, 10)]
    _write(tmp_path, f"<{'|'.join(folds)}>/#-<0|1>-x.png")
    pattern = {"pattern": "{fold}/*-{class}-*.png"}
    rows = [
        (str(path), path.stem.split("-")[1], path.parent.name)
        for path in sorted(tmp_path.rglob("*.png"))
    ]
    table = pandas.DataFrame(rows, columns=["image", "label", "fold"])
    for given, options in (
        (tmp_path, pattern),
        (table, {"fold_column": "fold"}),
    ):
        for fold, name in enumerate(folds):
            loaded = data.load(given, fold=fold, **options)
            assert {pathlib.Path(x).parent.name for x in loaded.test.names} == {
                name
            }
            assert loaded.sizes["test"] == 16 and loaded.folds == 3
        task = study.Classification(given, **options)
        variants = [study.Variant("a", lambda data: None)]
        assert len(study.Study(task, variants).runs) == 3
        with pytest.raises(ValueError, match="folds=5 and 3 in the data"):
            data.load(given, folds=5, **options)
