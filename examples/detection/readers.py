"""Pictures of folders and of TensorFlow Datasets.

A folder is as COCO's, with a JSON file of each split, or as VOC's, with an XML
file of each image. Each reader finds its annotations, and `make_pictures`
checks them.
"""

import collections
import itertools
import json
import os
import pathlib
import re

import numpy as np

from cbam_keras import _checks, data
from examples.detection.annotations import (
    Annotation,
    Pictures,
    Problems,
    is_true,
    make_pictures,
    parse_numbers,
)
from examples.detection.layouts import Folder, split_of

# Parts of COCO's JSON.
PART = re.compile(b'"(images|annotations|categories)"')
PARTS = {b"images", b"annotations", b"categories"}
# TensorFlow Datasets marks objects that are ignored by one of these.
IGNORED = ("is_difficult", "is_crowd")


def read_folder(path: pathlib.Path) -> Pictures:
    """Reads a folder in COCO's or VOC's layout, or one around it."""
    for root in (path, *sorted(path.glob("*/"))):
        folder = Folder(root)
        for find, read in (
            (_find_coco, _read_coco),
            (_find_voc, _read_voc),
        ):
            if files := find(folder):
                return read(folder, files)
    raise ValueError(
        "A folder of images with boxes must be as COCO's (annotations/"
        "instances_train.json or train/_annotations.coco.json) or as VOC's "
        "(Annotations/*.xml, or XML beside the images). Received: "
        f'data="{path}" with neither. Convert it to one of them'
    )


# COCO


def _find_coco(folder):
    """Returns COCO's files in a folder: those of its names, or of any name."""
    files = folder.find(".json")
    names = re.compile(r"instances_|.*_annotations\.")
    return [x for x in files if names.match(x.name)] or [
        x for x in files if PARTS <= {*PART.findall(x.read_bytes())}
    ]


def _read_coco(folder, files):
    """Reads a file of each split, or one that is split at random."""
    split_of_file = {
        file: split_of(*file.relative_to(folder.root).with_suffix("").parts)
        for file in files
    }
    # Beside files of splits, others may repeat them.
    used = [file for file in files if split_of_file[file]] or files
    names = [split_of_file[file] for file in used]
    is_divided = names == [""] or {"train"} < {*names}
    if not is_divided or len(names) > len({*names}):
        raise ValueError(
            "A folder in COCO's layout must hold one annotations/"
            "instances_train.json beside a folder train/, and the same with "
            "val or test (COCO's own train2017 and val2017 count too), or "
            "train/_annotations.coco.json and the same in valid/ or test/. "
            f'Received: data="{folder.root}" with '
            f"{[str(file.relative_to(folder.root)) for file in files]}"
        )
    splits, categories, problems = {}, {}, Problems(list)
    for file, split in zip(used, names, strict=True):
        try:
            # The reader of pycocotools prints, and needs ids of annotations.
            content = json.loads(file.read_bytes())
            categories[split] = content["categories"]
            splits[split] = _read_json(content, folder, split, problems)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Annotations must be COCO's JSON, with images (id, file_name), "
                "annotations of these (image_id, category_id, bbox) and "
                f'categories (id, name). Received: "{file}" '
                f"({type(error).__name__}: {error})"
            ) from error
    of_train = categories["train" if "train" in categories else ""]
    # Roboflow writes a category 0 that is the heading of the others.
    headings = {
        each.get("supercategory")
        for each in of_train
        if each.get("supercategory") != each["name"]
    }
    headings -= _list_classes(splits)
    name_of = _name_categories(of_train)
    class_names = dict.fromkeys(name_of[key] for key in _sort_numbers(name_of))
    class_names = [name for name in class_names if name not in headings]
    return make_pictures(splits, class_names, folder.root, problems)


def _read_json(content, folder, split, problems):
    """Returns the images of a file, with their objects."""
    names = _name_categories(content["categories"])
    entries: dict[str, list[Annotation]] = {}
    of_image = {}
    for each in content["images"]:
        name = each["file_name"]
        path = folder.root / split / name
        for file in folder.images.get(folder.match(name, split), ()):
            if name.lower().endswith(file.name.lower()):
                path = file
        # An image that is listed twice is one.
        of_image[_as_id(each["id"])] = entries.setdefault(str(path), [])
    for each in content["annotations"]:
        image = _as_id(each.get("image_id"))
        if image not in of_image:
            fault = "of no image", f"image_id {image}"
            problems["box", "left out"].append(fault)
            continue
        left, top, width, height = parse_numbers(each.get("bbox"))
        category = _as_id(each.get("category_id"))
        annotation = Annotation(
            names.get(category, f"category_id {category}"),
            np.array([left, top, left + width, top + height]),
            is_true(each.get("iscrowd")),
        )
        of_image[image].append(annotation)
    return list(entries.items())


def _name_categories(categories):
    return {_as_id(x["id"]): str(x["name"]).strip() for x in categories}


def _as_id(value):
    """Returns the same text for 7, 7.0 and "7"."""
    return re.sub(r"\.0+$", "", str(value))


def _sort_numbers(texts):
    return sorted(texts, key=lambda text: (len(text), text))


def _list_classes(splits):
    entries = itertools.chain(*splits.values())
    return {each.class_name for _, objects in entries for each in objects}


# VOC


def _find_voc(folder):
    """Returns the XML files of a folder with images of the same names."""
    files = folder.find(".xml")
    return files if folder.images.keys() & map(folder.key_of, files) else []


def _read_voc(folder, files):
    """Reads XML beside images, or in another folder than they."""
    splits, problems = _read_files(folder, files, _read_xml)
    class_names = sorted(_list_classes(splits) - {""})
    return make_pictures(splits, class_names, folder.root, problems)


def _read_xml(file):
    """Returns the objects that an XML file describes."""
    tree = _checks.require("defusedxml.ElementTree", extra="detect")
    root = tree.parse(file).getroot()
    for node in root.iter():
        # Without its namespace, and as other tools write it.
        node.tag = node.tag.rpartition("}")[2].lower()
    annotations = []
    for node in root.iter("object"):
        corners = [
            node.findtext(f"bndbox/{corner}")
            for corner in ("xmin", "ymin", "xmax", "ymax")
        ]
        annotation = Annotation(
            node.findtext("name", "").strip(),
            # Pixels are counted from 1, and the last one is in the box.
            parse_numbers(corners) - [1, 1, 0, 0],
            is_true(node.findtext("difficult")),
        )
        annotations.append(annotation)
    return annotations


def _read_files(folder, files, read):
    """Returns the images of each split with their objects, and problems.

    Lists of names or folders say which are of a split.
    """
    labels = {folder.key_of(file): file for file in files}
    images = map(folder.key_of, folder.find(*data.ENDINGS))
    splits = folder.read_lists()
    if not splits:
        for key in sorted({*labels, *images}):
            splits[split_of(*key[:-1])].append(key)
    entries = collections.defaultdict(list)
    problems = Problems(list)
    left_out = problems["image", "left out"]
    for split, keys in splits.items():
        for key in dict.fromkeys(keys):
            # The path of a missing image leads nowhere.
            path, *_ = folder.images.get(key, [folder.root.joinpath(*key)])
            if key not in labels:
                left_out.append(("without XML", "/".join(key)))
                continue
            try:
                objects = read(labels[key])
            # The parser raises a `SyntaxError`, or a `ValueError` for entities.
            except (SyntaxError, ValueError) as error:
                place = f"{labels[key].name}: {error}"
                left_out.append(("with damaged XML", place))
                continue
            entries[split].append((str(path), objects))
    if len(entries) > 1:
        for image, _ in entries.pop("", []):
            place = os.path.basename(image)
            left_out.append(("in the folder of no split", place))
    return entries, problems


# TensorFlow Datasets


def read_tfds(
    name: str, data_dir: str | os.PathLike | None, download: bool
) -> Pictures:
    """Reads a dataset of TensorFlow Datasets."""
    tfds = _checks.require("tensorflow_datasets", extra="data")
    # TFDS would look up other names in the cloud, too.
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    features = dict(builder.info.features.items())
    inner = getattr(features.get("objects"), "feature", {})
    if not ("image" in features and "bbox" in inner and "label" in inner):
        raise ValueError(
            'A dataset must have the features "image" and "objects" with '
            f'"bbox" and "label". Received: data="{name}" with {features}'
        )
    if download:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    class_names = tuple(map(str, inner["label"].names))
    names = {"train": "train", "val": "validation", "test": "test"}
    splits = {
        split: _read_split(builder, name, class_names)
        for split, name in names.items()
        if name in builder.info.splits
    }
    problems = Problems(list)
    return make_pictures(
        splits, class_names, builder.data_dir, problems, in_fractions=True
    )


def _read_split(builder, split, class_names):
    """Returns the images of a split, with their objects."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    names = dict(enumerate(class_names))
    entries = []
    for example in examples.as_numpy_iterator():
        objects, of_image = example["objects"], []
        flags = [objects[name] for name in IGNORED if name in objects]
        boxes = objects["bbox"].astype("float64")
        for row, (top, left, bottom, right) in enumerate(boxes):
            label = int(objects["label"][row])
            annotation = Annotation(
                names.get(label, f"label {label}"),
                np.array([left, top, right, bottom]),
                any(flag[row] for flag in flags),
            )
            of_image.append(annotation)
        entries.append((example["image"], of_image))
    return entries
