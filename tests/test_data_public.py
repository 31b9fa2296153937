"""Layouts of public datasets: read right, or by the advice of the message.

What a message shows is executed as it stands: the first pattern or mapping, or
the code of a table.
"""

import ast
import json
import pathlib
import re
import textwrap

import numpy as np
import pytest
from data_checks import write_tree

from cbam_keras import data

pytestmark = pytest.mark.filterwarnings("ignore")

# Trees as of `write_tree`, and where the class is in a path. A reading is the
# pattern or the start of the code that the message shows first, "" if the
# folder is read without one.
CLASSES = {
    "RIAWELC": (
        "DB/<training|validation|testing>/<D1|D2|No>/b_[#].png",
        "DB/[^/]+/([^/]+)/",
        "",
    ),
    "Paddy Doctor": (
        "train_images/<blast|tungro>/#.jpg test_images/#.jpg",
        "train_images/([^/]+)/",
        "",
    ),
    "VisA": (
        "<candle|pcb1>/Data/Images/<Normal|Anomaly>/000#.JPG "
        "<candle|pcb1>/Data/Masks/Anomaly/00#.png",
        "Images/([^/]+)/",
        "{}/Data/Images/{class}/*",
    ),
    "DAGM": (
        "Class<1|2|3>/<Train|Test>/000#.PNG "
        "Class<1|2|3>/<Train|Test>/Label/000#_label.PNG",
        r"(Class\d)/(?!.*Label)",
        "{class}/{split}/*.png",
    ),
    "SDNET2018": (
        "D/<CD|UD>/7001-#.jpg P/<CP|UP>/001-#.jpg W/<CW|UW>/7-#.jpg",
        "/([CU])[DPW]/",
        "{}/{class}{}/*",
    ),
    "IDC": (
        "IDC/<8863|8864|8865|9257>/<0|1>/#_idx5.png",
        "/([01])/",
        "IDC/{group}/{class}/*",
    ),
    "LC25000": (
        "lung_image_sets/<lung_aca|lung_n>/a#.jpeg "
        "colon_image_sets/<colon_aca|colon_n>/b#.jpeg",
        "sets/([^/]+)/",
        "{}/{class}/*",
    ),
    "SARS-CoV-2 CT": (
        "<Covid|Healthy>/Patient+(<1|2|3|4>)/#.png",
        "(Covid|Healthy)",
        "{class}/{group}/*",
    ),
    "JAFFE": (
        "<KA|KL|KM|KR>.<AN|DI|FE><1|2>.#.tiff",
        r"/[A-Z]+\.([A-Z]+)\d",
        "pandas.DataFrame",
    ),
    "SUN397": (
        "a/<abbey|attic>/s#.jpg <b/bow|c/cab>/<indoor|outdoor>/t#.jpg",
        "/([abc]/.*)/",
        "pandas.DataFrame",
    ),
    "UrbanSound8K": (
        "fold1/17-<0|1>-x-#.png fold2/27-<0|1>-x-#.png fold3/37-<0|1>-x-#.png",
        r"/\d7-(\d)",
        "{fold}/*-{class}-*-*.png",
    ),
    "UCF-101": (
        "Apply/v_Ap_<g01|g02|g03|g04>_<c01|c02>/frame#.jpg "
        "Brush/v_Br_<g01|g02|g03|g04>_<c01|c02>/frame#.jpg",
        "(Apply|Brush)",
        "{class}/*_*_{group}_*/*",
    ),
    # Numbers of pictures that are no counts are those of copies.
    "PlantVillage": (
        "<color|grayscale>/<rust|scab>/<91823|40111|77|5120>#.jpg",
        "color/(rust|scab)",
        "color/{class}/*",
    ),
    "Kaggle's test images": (
        "data/<train|test>/images/<cat|dog>.#.jpg",
        "(cat|dog)",
        "data/{split}/images/{class}.*.jpg",
    ),
}


def _execute(message, root):
    """Returns what the first proposal or the code of a message loads."""
    lines = message.splitlines()
    start = next(i for i, x in enumerate(lines) if x.startswith("Copy the"))
    text = re.split(r"  +\d", lines[start + 1].strip())[0].strip()
    if text.startswith("pattern="):
        pattern = ast.literal_eval(text.removeprefix("pattern="))
        return pattern, data.load(root, pattern=pattern)
    names = {"pandas": pytest.importorskip("pandas"), "pathlib": pathlib}
    return text, data.load(eval(text, names))


def _labels(loaded):
    """Returns the name of the class of each path, of all splits."""
    return {
        pathlib.Path(path).as_posix(): loaded.class_names[label]
        for split in loaded
        for path, label in zip(split.names, split.examples.labels, strict=True)
    }


@pytest.mark.parametrize("name", CLASSES)
def test_public_layouts_are_read_by_the_first_line_shown(tmp_path, name):
    tree, where, expected = CLASSES[name]
    written = write_tree(tmp_path, tree)
    try:
        loaded, reading = data.load(tmp_path), ""
    except ValueError as error:
        reading, loaded = _execute(str(error), tmp_path)
    assert reading == expected or expected and reading.startswith(expected)
    matches = {
        path.as_posix(): re.search(where, path.as_posix()) for path in written
    }
    truth = {path: match[1] for path, match in matches.items() if match}
    found = _labels(loaded)
    assert found.keys() == truth.keys()
    # The names may be longer, but each is one class.
    pairs = {(found[path], truth[path]) for path in truth}
    classes = {*truth.values()}
    assert len(pairs) == len(classes) == len(loaded.class_names)


def test_names_of_splits_are_no_classes(tmp_path):
    write_tree(tmp_path, "faces/<train|test>_000#_aligned.jpg")
    with pytest.raises(ValueError, match="No pattern was found"):
        data.load(tmp_path / "faces")


def test_parts_of_names_are_offered_as_classes_below_one_folder(tmp_path):
    """As in UTKFace: age, sex, and so on."""
    names = [f"{20 + i % 4}_{i % 2}_2_2017{i:02}.jpg.chip" for i in range(48)]
    write_tree(tmp_path, " ".join(f"crop_part1/{name}.jpg" for name in names))
    with pytest.raises(ValueError, match="all images in one folder") as caught:
        data.load(tmp_path)
    assert 'pattern="crop_part1/*_{class}_*_*.jpg"' in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        (
            "train/<cat|dog>/images/#.png val/images/v#.png",
            'pattern="train/{class}/images/*"  16 images .*; without 8 of val/',
        ),
        (
            "<a|b>/train/good/#.png <a|b>/test/<good|bent>/#.png",
            'pattern="{}/test/{class}/*" .*; trains on 32 of test/',
        ),
    ],
)
def test_what_becomes_of_official_test_images_is_said(tmp_path, tree, line):
    write_tree(tmp_path, tree)
    with pytest.raises(ValueError, match=re.escape(line[:20])) as caught:
        data.load(tmp_path)
    text = re.escape(line.partition('"  ')[0].partition('" ')[0])
    end = line.rpartition("; ")[2]
    assert re.search(f'{text}" +.*; {re.escape(end)}', str(caught.value))


# Folders, and the masks of their images, with the patterns that are shown.
MASKS = {
    "KolektorSDD": (
        "kos0<1|2|3|4>/Part#<.jpg|_label.bmp>",
        "{group}/{name}.jpg",
        "{group}/{name}_label.bmp",
    ),
    "Supervisely": (
        "<images|masks>/P<1|2|3|4>/S+<1|2|3|4>.#.png",
        "images/{group}/{name}.png",
        "masks/{group}/{name}.png",
    ),
    "VisA": (
        "<candle|pcb1>/Data/Images/<Normal|Anomaly>/000#.JPG "
        "<candle|pcb1>/Data/Masks/Anomaly/00#.png",
        "pcb1/Data/Images/Anomaly/000{name}.jpg",
        "pcb1/Data/Masks/Anomaly/00{name}.png",
    ),
    "DAGM": (
        "Class<1|2|3>/<Train|Test>/<1|2>00#.PNG "
        "Class<1|2|3>/<Train|Test>/Label/100#_label.PNG",
        "{group}/{split}/{name}.png",
        "{group}/{split}/Label/{name}_label.png",
    ),
    "COVID-QU-Ex": (
        "<Train|Val|Test>/COVID/<images|infection+masks|lung+masks>/c#.png "
        "<Train|Val|Test>/Normal/<images|infection+masks|lung+masks>/n#.png",
        "{split}/{}/images/{name}.png",
        "{split}/{}/lung masks/{name}.png",
    ),
    "GlaS": (
        "<train|testA>_#<|_anno>.bmp",
        "{split}_{name}.bmp",
        "{split}_{name}_anno.bmp",
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_public_masks_are_read_by_the_line_shown(tmp_path, name):
    tree, images, masks = MASKS[name]
    write_tree(tmp_path, tree)
    with pytest.raises(ValueError, match="Copy the line") as caught:
        data.load_masks(tmp_path)
    line = r'data="(.*)", images="(.*)", masks="(.*?)" +([\d,]+) images'
    folder, *patterns, count = re.search(line, str(caught.value)).groups()
    assert patterns == [images, masks]
    loaded = data.load_masks(folder, images=images, masks=masks)
    assert sum(loaded.sizes.values()) == int(count)
    has_divided = "each group is in several splits" in str(caught.value)
    assert has_divided == any("in several splits" in x for x in loaded.leaks)


def _write_tables(root, name):
    """Writes a public dataset with a table; returns the class of each image."""
    if name == "RAF-DB":
        paths = write_tree(root, "Image/<train|test>_000#_aligned.jpg")
        rows = {x: str(1 + i % 2) for i, x in enumerate(paths)}
        names = [path.name.replace("_aligned", "") for path in rows]
        lines = [f"{x} {y}" for x, y in zip(names, rows.values(), strict=True)]
        (root / "EmoLabel").mkdir()
        (root / "EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
        return rows
    if name == "ImageNet":
        paths = sorted(write_tree(root, "val/ILSVRC2012_val_000#.JPEG"))
        rows = {x: str(1 + i % 2) for i, x in enumerate(paths)}
        (root / "devkit").mkdir()
        (root / "devkit/ground_truth.txt").write_text("\n".join(rows.values()))
        return rows
    if name == "Hugging Face":
        rows = {}
        for split in ("train", "test"):
            paths = write_tree(root, f"data/{split}/000#.png")
            of_split = {x: ["cat", "dog"][i % 2] for i, x in enumerate(paths)}
            lines = [f"{x.name},{y}" for x, y in of_split.items()]
            text = "\n".join(["file_name,label", *lines])
            (root / f"data/{split}/metadata.csv").write_text(text)
            rows |= of_split
        return rows
    if name == "EcoTaxa":
        paths = write_tree(root, "10000#_0.png")
        rows = {
            x: ["Copepoda<Max", "detritus"][i % 2] for i, x in enumerate(paths)
        }
        head = (
            "object_id\tobject_lat\tobject_annotation_category\timg_file_name"
        )
        lines = [f"z{x.stem}\t43.1\t{y}\t{x.name}" for x, y in rows.items()]
        (root / "export.tsv").write_text("\n".join([head, *lines]))
        return rows
    # Left and right eyes are no classes.
    paths = write_tree(root, "images/#_<left|right>.jpg")
    rows = {x: ["N", "D"][int(x.name[0]) % 2] for x in paths}
    lines = [f"{x.name},51,{y}" for x, y in rows.items()]
    text = "\n".join(["filename,age,diagnosis", *lines])
    (root / "full_df.csv").write_text(text)
    return rows


@pytest.mark.parametrize(
    "name",
    ["RAF-DB", "ImageNet", "Hugging Face", "EcoTaxa", "ODIR"],
)
def test_a_table_beside_images_is_read_by_the_code_shown(tmp_path, name):
    pytest.importorskip("pandas")
    rows = _write_tables(tmp_path, name)
    with pytest.raises(ValueError, match="names images and classes") as caught:
        data.load(tmp_path)
    message = str(caught.value)
    # The table comes before any proposal by names.
    code = message.partition("names images and classes:\n")[2]
    lines = re.match("(    .*\n?)+", code)[0]
    *lines, last = textwrap.dedent(lines).splitlines()
    names = {"data": data}
    exec("\n".join([*lines, f"loaded = {last}"]), names)
    found = _labels(names["loaded"])
    assert found == {path.as_posix(): label for path, label in rows.items()}
    tested = {pathlib.Path(x).as_posix() for x in names["loaded"].test.names}
    if name in ("RAF-DB", "Hugging Face"):
        of_test = {x for x in rows if "test" in str(x.relative_to(tmp_path))}
        assert tested == {x.as_posix() for x in of_test}


@pytest.mark.parametrize(
    ("column", "tree", "code"),
    [
        ("/data/upload/3/0a1f{}-leaf_{}.jpg", "images/leaf_#.jpg", "x.name: x"),
        ("C:/photos/leaf_{1}.jpg", "images/leaf_#.jpg", "basename).map({x.na"),
        ("leaf_{}", "images/leaf_#.jpg", "x.stem: x"),
        ("leaf_{}.wav", "images/leaf_#.jpg", "x.stem: x"),
    ],
)
def test_names_in_a_table_become_paths_by_the_code_shown(
    tmp_path, column, tree, code
):
    pandas = pytest.importorskip("pandas")
    paths = write_tree(tmp_path, tree)
    names = [column.format(i, i) for i in range(len(paths))]
    frame = pandas.DataFrame({"file": names, "label": [0, 1] * 4})
    options = {"image_column": "file", "image_folder": tmp_path}
    with pytest.raises(ValueError, match="names become paths by") as caught:
        data.load(frame, **options)
    text = str(caught.value).partition("become paths by ")[2]
    assert code in text
    import os

    exec(text, {"frame": frame, "pathlib": pathlib, "os": os})
    found = _labels(data.load(frame))
    assert found == {x.as_posix(): str(i % 2) for i, x in enumerate(paths)}


@pytest.mark.parametrize(
    ("tree", "others", "message"),
    [
        (
            "<train|test>/data/#.jpg",
            {"train/labels.json": json.dumps({"labels": {}})},
            '"data", not in class folders.*as train/labels.json may say',
        ),
        ("jpg/image_#.jpg", {"imagelabels.mat": "MATLAB"}, "imagelabels.mat"),
        (
            "train_images/<a|b>#.jpg",
            {"train.csv": "ImageId,ClassId\na0.jpg,1\na0.jpg,2\nb0.jpg,1"},
            "as train.csv may say",
        ),
    ],
)
def test_images_in_no_folder_of_a_class_need_a_table(
    tmp_path, tree, others, message
):
    paths = write_tree(tmp_path, tree)
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        data.load(tmp_path)
    # What it says reads the images.
    pandas = pytest.importorskip("pandas")
    code = re.search(r"data.load\(.*?\}\)\)", str(caught.value))[0]
    classes = np.arange(len(paths)) % 2
    names = {"data": data, "pandas": pandas, "paths": paths, "classes": classes}
    assert sum(eval(code, names).sizes.values()) == len(paths)
