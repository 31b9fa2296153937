"""A file of annotations for each image: VOC's XML, or YOLO's text."""

import collections
import itertools
import os
import pathlib
import re

import numpy as np

from cbam_keras import _checks, data
from examples.detection.annotations import (
    Annotated,
    Annotation,
    Problems,
    is_true,
    parse_numbers,
)
from examples.detection.layouts import (
    SPLIT,
    Folder,
    Key,
    divide,
    index,
    key_of,
    match,
    split_of,
)


def find_voc(folder: Folder) -> list[pathlib.Path]:
    """Returns the XML files of a folder with images of the same names."""
    files = folder.find(".xml")
    return files if folder.images.keys() & map(folder.key_of, files) else []


def read_voc(folder: Folder, files: list[pathlib.Path]) -> Annotated:
    """Reads XML beside images, or in another folder than they.

    Lists of names (`ImageSets/Main/train.txt`) say which are of a split, or
    folders do.
    """
    problems = Problems()
    labels = {folder.key_of(file): file for file in files}
    splits = _read_lists(folder, labels.keys() | folder.images)
    if not splits:
        splits = _by_folder(labels)
        images = map(folder.key_of, folder.find(*data.ENDINGS))
        splits[""] += sorted({*images} - {*labels})
    objects: dict[Key, list[Annotation]] = {}
    for key in itertools.chain(*splits.values()):
        if key not in labels:
            problems.add("image", "left out", "without XML", "/".join(key))
            continue
        try:
            objects[key] = _read_xml(labels[key])
        # The parser raises a `SyntaxError`, or a `ValueError` for entities.
        except (SyntaxError, ValueError) as error:
            place = f"{labels[key].name}: {error}"
            problems.add("image", "left out", "with damaged XML", place)
    names = {x.class_name for in_image in objects.values() for x in in_image}
    return Annotated(
        _join(splits, objects, folder, problems),
        tuple(sorted(names - {""})),
        problems,
    )


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


def find_yolo(folder: Folder) -> list[pathlib.Path]:
    """Returns text named as images or in `labels/`, of a YOLO layout."""
    is_described = bool(_read_yaml(folder)[0])
    return [
        file
        for file in (folder.files if is_described else folder.find(".txt"))
        if file.suffix.lower() == ".txt"
        and file.name != "classes.txt"
        and (
            folder.key_of(file) in folder.images
            or "labels" in file.relative_to(folder.root).parts
        )
    ]


def read_yolo(folder: Folder, files: list[pathlib.Path]) -> Annotated:
    """Reads text beside images, or in `labels/` as they are in `images/`.

    `data.yaml` names the classes, and the folders or lists of the splits;
    otherwise the folders are named after them. An image without text has no
    boxes.
    """
    problems = Problems()
    settings, start = _read_yaml(folder)
    images = map(folder.key_of, folder.find(*data.ENDINGS))
    splits = (
        _splits_of_yaml(settings, start, folder)
        or _read_lists(folder, folder.images)
        or _by_folder(sorted({*images} or folder.images))
    )
    labels = {folder.key_of(file): file for file in files}
    for key in labels.keys() - folder.images:
        problems.add("image", "left out", "missing", labels[key].name)
    texts = {
        key: _read_text(labels[key]) if key in labels else []
        for key in itertools.chain(*splits.values())
    }
    names = _read_class_names(folder, settings)
    if not names:
        numbers = {number for rows in texts.values() for number, _ in rows}
        names = {x: x for x in sorted(numbers, key=lambda x: (len(x), x))}
    # A box is followed by points of the body, or lines are polygons.
    enclose = _take_box if "kpt_shape" in settings else _enclose
    objects = {
        key: [
            Annotation(names.get(number, f"class {number}"), enclose(values))
            for number, values in rows
        ]
        for key, rows in texts.items()
    }
    splits = _join(splits, objects, folder, problems)
    class_names = tuple(dict.fromkeys(names.values()))
    return Annotated(splits, class_names, problems, in_fractions=True)


def _read_text(file):
    """Returns the number of the class and further numbers of each line."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    rows = []
    for number, *fields in filter(None, map(str.split, text.splitlines())):
        # Some tools write all numbers as floats.
        number = re.sub(r"\.0*$", "", number)
        try:
            rows.append((number, np.array(fields, "float64")))
        except ValueError:
            rows.append((number, np.full(4, np.nan)))
    return rows


def _take_box(values):
    """Returns the corners of the box whose center and size come first."""
    box = parse_numbers(values[:4])
    return np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])


def _enclose(values):
    """Returns the corners of a box, with or without confidence, or polygon."""
    if len(values) < 6 or len(values) % 2:
        return _take_box(values if len(values) < 6 else [])
    points = values.reshape(-1, 2)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _read_yaml(folder):
    """Returns the settings in `data.yaml`, and where its paths begin."""
    for file in folder.find(".yaml", ".yml"):
        yaml = _checks.require("yaml", extra="detect")
        try:
            settings = yaml.safe_load(file.read_bytes())
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(
                f'A file must be YAML. Received: "{file}" ({error})'
            ) from error
        if isinstance(settings, dict) and "names" in settings:
            return settings, file.parent
    return {}, folder.root


def _splits_of_yaml(settings, start, folder):
    """Returns the images of the folders and lists that `data.yaml` names.

    None if one of them is missing, as where a dataset was moved.
    """
    splits = collections.defaultdict(list)
    starts = [start / str(settings.get("path", ".")), start]
    keys = index(folder.images)
    for name in ("train", "val", "valid", "test"):
        entries = settings.get(name) or []
        for entry in [entries] if isinstance(entries, str) else entries:
            # Roboflow writes "../train/images" of what is "train/images".
            paths = [
                pathlib.Path(os.path.normpath(start / each))
                for start in starts
                for each in (entry, entry.removeprefix("../"))
            ]
            path = next((x for x in paths if x.exists()), None)
            if path is None:
                return {}
            if path.is_dir():
                splits[split_of(name)] += [
                    key
                    for key, (file, *_) in folder.images.items()
                    if file.is_relative_to(path)
                ]
            else:
                splits[split_of(name)] += _read_list(path, keys)
    return splits if all(splits.values()) else {}


def _read_class_names(folder, settings):
    """Returns the names of the classes by their number in the text files."""
    names = settings.get("names") or []
    for file in folder.files:
        is_list = file.suffix in (".names", ".labels")
        if not names and (is_list or file.name.lower() == "classes.txt"):
            # A class is the number of its line.
            names = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    if isinstance(names, str):
        names = names.split(",")
    if not isinstance(names, dict):
        names = dict(enumerate(names))
    return {str(number): str(name).strip() for number, name in names.items()}


def _read_lists(folder, keys):
    """Returns the entries of lists of names, by the split that is listed."""
    splits, keys = collections.defaultdict(list), index(keys)
    for file in folder.files:
        *parents, name = file.relative_to(folder.root).parts
        parents = [part.lower() for part in parents]
        name, ending = os.path.splitext(name.lower())
        is_list = parents in ([], ["imagesets"], ["imagesets", "main"])
        if is_list and ending == ".txt" and SPLIT.fullmatch(name):
            splits[split_of(name)] += _read_list(file, keys)
    return splits


def _read_list(file, keys):
    text = file.read_text(encoding="utf-8-sig")
    lines = filter(None, map(str.strip, text.splitlines()))
    return list(dict.fromkeys(match(x, keys) or key_of(x) for x in lines))


def _by_folder(keys):
    splits = collections.defaultdict(list)
    for key in keys:
        splits[split_of(*key[:-1])].append(key)
    return splits


def _join(splits, objects, folder, problems):
    """Returns the images to train and to test, with their objects."""
    entries = {
        split: [
            # The path of a missing image leads nowhere.
            (
                str(folder.images.get(key, [folder.root.joinpath(*key)])[0]),
                objects[key],
            )
            for key in dict.fromkeys(keys)
            if key in objects
        ]
        for split, keys in splits.items()
    }
    if entries.get("") and len(entries) > 1:
        names = [os.path.basename(image) for image, _ in entries.pop("")]
        problems.add("image", "left out", "in the folder of no split", *names)
    return divide(entries)
