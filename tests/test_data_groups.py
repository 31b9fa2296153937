"""What names of files and copies tell of leaks, and what they do not."""

import itertools
import pathlib
import re
import shutil

import pytest
from data_checks import write_tree

from cbam_keras import data
from cbam_keras.data.groups import note_groups

ROOT = pathlib.Path("photos")


def _note(names, patterns=("{class}",)):
    """Returns the note on names in two classes, every fourth file tested."""
    paths = [f"{label}/{name}" for label in ("ant", "bee") for name in names]
    splits = ["test" if i % 4 == 0 else "train" for i in range(len(paths))]
    classes = [path[:3] for path in paths]
    return note_groups(paths, classes, splits, ROOT, patterns)


def _pairs(text, first, second):
    """Returns names by two numbers or words."""
    return [text.format(*x) for x in itertools.product(first, second)]


GROUPED = {
    "frames": (
        _pairs("video{:02}_frame{:04}.jpg", range(8), range(6)),
        '96 files look like 16 groups of about 6 by "video{group}_frame*"',
        'pattern="{class}/video{group}_frame*.jpg"',
    ),
    "patients, by the count of all files": (
        [f"2020.02.{i % 9}-p{20 + i // 6}-{100 + i}.png" for i in range(36)],
        'groups of about 6 by "2020.02.*-p{group}-*"',
        'pattern="{class}/2020.02.*-p{group}-*.png"',
    ),
    "patients, by their word": (
        [f"patient{i % 7}_{i * 91 % 50}_{i * 7}.png" for i in range(42)],
        'by "patient{group}_*_*"',
        'pattern="{class}/patient{group}_*_*.png"',
    ),
    "two numbers": (
        _pairs("{:03}_{:03}.png", range(9), range(4)),
        'by "{group}_*"',
        'pattern="{class}/{group}_*.png"',
    ),
    "both eyes": (
        _pairs("{}_{}.jpg", range(900, 930), ("left", "right")),
        '120 files look like 60 groups of about 2 by "{group}_*"',
        'pattern="{class}/{group}_*.jpg"',
    ),
    "persons": (
        _pairs("{}_{}.jpg", ("al", "bo", "cy", "di", "ed", "flo"), range(4)),
        'by "{group}_*"',
        'pattern="{class}/{group}_*.jpg"',
    ),
    "augmented copies beside originals": (
        _pairs("img{}{}.png", range(12), ("", "_aug1", "_aug2")),
        '72 files look like 24 groups of about 3 by "{group}_aug*"',
        "x.stem.partition('_aug')[0]",
    ),
    "augmented copies": (
        _pairs("img{}_aug{}.png", range(12), range(3)),
        'by "img{group}_aug*"',
        'pattern="{class}/img{group}_aug*.png"',
    ),
    "downloads": (
        _pairs("{}{}.png", range(1000, 1012), ("", " (1)", " (2)")),
        'by "{group} (*"',
        "x.stem.partition(' (')[0]",
    ),
}


@pytest.mark.parametrize("name", GROUPED)
def test_names_of_groups_are_noted(name):
    names, expected, advice = GROUPED[name]
    note = _note(names)
    assert expected in note
    assert advice in note


SILENT = {
    "numbers that begin anew in each class": [f"{i:04}.png" for i in range(40)],
    "a word shared by all": [f"img_{i:04}.png" for i in range(40)],
    "a class and a number": [f"ant.{i}.jpg" for i in range(40)],
    "sizes": _pairs("{}_{:03}.jpg", ("64x48", "32x32", "8x8"), range(12)),
    "one side": _pairs("{}_{:03}.jpg", (32, 64, 128, 256), range(12)),
    "dates": _pairs("IMG_202001{:02}_{:06}.jpg", range(1, 9), range(6)),
    "dates with signs": _pairs(
        "2020-01-{:02} {:02}.jpg", range(1, 9), range(6)
    ),
    "days before years": _pairs("{:02}.01.2020_{}.jpg", range(1, 9), range(6)),
    # UTKFace: age, sex, origin and time.
    "what is told of each": [
        f"{20 + i * 7 % 5}_{i % 2}_{i * 3 % 4}_2017{i * 37 % 1000:04}.jpg"
        for i in range(60)
    ],
    "places of tiles": _pairs("tile_x{}_y{}.png", range(6), range(6)),
    "random names": [
        f"{i * 7919**3:x}_{i * 104729**2:x}.jpg" for i in range(40)
    ],
    "breeds": _pairs("{}_{}.jpg", ("beagle", "pug", "boxer"), range(30)),
    "halves": _pairs("{}_{}.jpg", ("day", "night"), range(30)),
    "folds": _pairs("fold{}_{:03}.jpg", range(5), range(12)),
    "one group": [f"video1_{i}.jpg" for i in range(40)],
    "unlike names": [
        f"{'ab_'[i % 3]}{i}{'x' * (i % 4)}.jpg" for i in range(40)
    ],
    "few": _pairs("video{}_{}.jpg", range(2), range(4)),
}


@pytest.mark.parametrize("name", SILENT)
def test_other_names_are_no_groups(name):
    assert _note(SILENT[name]) == ""


def test_groups_that_splits_keep_whole_are_not_noted():
    names, _, _ = GROUPED["frames"]
    splits = ["test" if "video03" in name else "train" for name in names]
    paths = [f"ant/{name}" for name in names]
    classes = ["ant"] * len(names)
    assert note_groups(paths, classes, splits, ROOT, ["{class}"]) == ""


@pytest.mark.filterwarnings("ignore:6 groups have images in several splits")
@pytest.mark.parametrize(
    ("tree", "code"),
    [
        ("<a|b>/video<1|2|3|4|5|6>_frame#.png", r'pattern="(.*?)"'),
        ("x/y/<a|b>/video<1|2|3|4|5|6>_frame#.png", r'pattern="(.*?)"'),
        ("<train|test>/<a|b>/vid<1|2|3|4|5|6>_#.png", r'pattern="(.*?)"'),
        (
            "<a|b>/img<1|2|3|4|5|6><|_aug1|_aug2>.png",
            r"with (data.load.*\]\)\))",
        ),
    ],
)
def test_what_the_note_shows_keeps_groups_together(tmp_path, tree, code):
    write_tree(tmp_path, tree)
    (note,) = data.load(tmp_path).notes
    shown = re.search(code, note)[1]
    if shown.startswith("data.load"):
        names = {"data": data, "pathlib": pathlib}
        names["pandas"] = pytest.importorskip("pandas")
        loaded = eval(shown, names)
    else:
        loaded = data.load(tmp_path, pattern=shown)
    assert not any("look like" in x for x in loaded.notes)
    groups = [{*split.examples.groups.tolist()} for split in loaded]
    assert len(set.union(*groups)) == 6
    assert not groups[0] & groups[1]
    # A pattern tells of official splits that groups are in both.
    is_official = "test" in tree
    assert is_official == bool(groups[2] & (groups[0] | groups[1]))


def test_copies_of_one_folder_stay_in_one_split(tmp_path):
    for path in write_tree(tmp_path, "<a|b>/#.png", 12):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    for options in ({}, {"seed": 3}, {"folds": 3, "fold": 1}):
        loaded = data.load(tmp_path, **options)
        assert loaded.leaks == ()
        parts = [
            {
                (x[0], x[1].removeprefix("copy_"))
                for x in map(_ends, split.names)
            }
            for split in loaded
        ]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 24
    assert "24 images are copies, kept in one split" in loaded.notes


def _ends(path):
    return pathlib.Path(path).parts[-2:]


def test_copies_in_validation_are_named(tmp_path):
    write_tree(tmp_path, "<train|val>/<a|b>/#.png")
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "val/a/2.png")
    message = "1 validation image has the same content as training images"
    with pytest.warns(UserWarning, match=message):
        loaded = data.load(tmp_path)
    assert len(loaded.leaks) == 1
