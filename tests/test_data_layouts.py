"""Layouts of folders: read, said by a pattern, or refused with one."""

import itertools
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cbam_keras import data
from cbam_keras.data.patterns import Pattern

PETS = ("cat", "dog")
NAMES = ("class", "split", "group")
few_left_out = pytest.mark.filterwarnings("ignore:Images are left out")


def _expand(tree, count=4):
    """Returns the names that a line stands for: <a|b> is a or b, # a number."""
    pieces = [x.split("|") for x in re.split(r"[<>]", tree)]
    names = map("".join, itertools.product(*pieces))
    return [x.replace("#", str(i)) for x in names for i in range(count)]


def _write(root, tree, count=4):
    """Writes different images of the size 6 x 5."""
    rng = np.random.default_rng(count)
    for name in (x for line in tree.split() for x in _expand(line, count)):
        path = root / name.replace("+", " ")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (6, 5, 3)).astype("uint8")
        Image.fromarray(image).save(path)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Returns the paths of the images of each split, below the folder."""
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)

    def find(root=tmp_path, **options):
        loaded = data.load(root, **options)
        files = [map(pathlib.Path, x.examples.images) for x in loaded]
        return [[x.relative_to(tmp_path).parts for x in y] for y in files]

    return find


BREAKHIS = "{class}/SOB/{}/{group}/{}/*.png"


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("{class}/*", "cat/1.png", "cat"),
        ("{class}/*", "cat/a/1.png", None),
        ("{class}/*", "1.png", None),
        (BREAKHIS, "benign/SOB/adenosis/p1/40X/1.png", "benign p1"),
        (BREAKHIS, "benign/SOB/p1/40X/1.png", None),
        ("{class}/{group}_MR1_*.jpg", "ad/OAS1_0001_MR1_a.jpg", "ad OAS1_0001"),
        # Any folders, none of them too; at the end, all files.
        ("color/{class}/**", "color/cat/1.png", "cat"),
        ("color/{class}/**", "color/cat/a/b/1.png", "cat"),
        ("**/{class}/*", "cat/1.png", "cat"),
        ("**/{class}/*", "a/b/cat/1.png", "cat"),
        ("a/**/b/{class}/*", "a/b/cat/1.png", "cat"),
        # Signs of other languages of patterns.
        ("{class}/?[1].png", "cat/?[1].png", "cat"),
        ("{class}/?[1].png", "cat/a1.png", None),
        ("{class}/{{a}}*.png", "cat/{a}1.png", "cat"),
        # Capital letters count but in the ending.
        ("{class}/A*.png", "cat/A1.PNG", "cat"),
        ("{class}/A*.PNG", "cat/A1.png", "cat"),
        ("{class}/A*.png", "cat/a1.png", None),
        # A name of two values, but not of one.
        ("{class}/{class}_*.png", "cat/cat_1.png", "cat"),
        ("{class}/{class}_*.png", "cat/dog_1.png", None),
        # Both separators, and both forms of unicode.
        ("a\\{class}\\*", "a/cat/1.png", "cat"),
        ("caf\u00e9/{class}/*", "cafe\u0301/the\u0301/1.png", "th\u00e9"),
    ],
)
def test_a_pattern_says_what_the_parts_of_a_path_mean(pattern, path, values):
    found = Pattern(pattern, NAMES, "class").match(path)
    assert found == (
        values and dict(zip(NAMES[::2], values.split(), strict=False))
    )


TEXTS = [
    "".join(x) for i in (1, 2, 3) for x in itertools.product("a_", repeat=i)
]


@pytest.mark.parametrize(
    "pattern", ["{class}_{group}", "{class}{group}", "a{class}_a_{group}a"]
)
def test_a_pattern_never_chooses_between_two_values(pattern):
    meanings = {}
    for pair in itertools.product(TEXTS, repeat=2):
        values = dict(zip(NAMES[::2], pair, strict=True))
        meanings.setdefault(pattern.format_map(values), []).append(values)
    compiled = Pattern(pattern, NAMES, "class")
    for path, (first, *others) in meanings.items():
        # Longer texts have meanings that are not tried here.
        if others:
            with pytest.raises(ValueError, match=f'may be .* in "{path}"'):
                compiled.match(path)
        elif (
            len(path) <= len(pattern.format_map(dict.fromkeys(first, "a"))) + 1
        ):
            assert compiled.match(path) == first


@pytest.mark.parametrize(
    ("tree", "classes", "sizes"),
    [
        ("<cat|dog>/#.png", "cat dog", (4, 2, 2)),
        ("a/b/<NORMAL|B.A>/#.png", "B.A NORMAL", (4, 2, 2)),
        ("<Training|Testing>/<cat|dog>/#.png", "cat dog", (6, 2, 8)),
        # They share another part of their names, as in Intel's scenes.
        ("<seg_train|seg_test>/<cat|dog>/#.png", "cat dog", (6, 2, 8)),
        ("a/<train/train|test/test>/<cat|dog>/#.png", "cat dog", (6, 2, 8)),
        (
            "x/x/<train|test>/<cat|dog>/#.png x/__MACOSX/#.png",
            *("cat dog", (6, 2, 8)),
        ),
        # Both forms of unicode, as in archives of a Mac.
        (
            "train/<caf\u00e9|the>/#.png test/<cafe\u0301|the>/#.png",
            *("caf\u00e9 the", (6, 2, 8)),
        ),
        # Classes may have names like parts of datasets.
        ("<mask|no_mask>/#.png", "mask no_mask", (4, 2, 2)),
        (
            "<test_tube|train_station>/#.png",
            "test_tube train_station",
            (4, 2, 2),
        ),
    ],
)
def test_two_layouts_are_read(tmp_path, paths, tree, classes, sizes):
    _write(tmp_path, tree)
    found = paths()
    assert tuple(map(len, found)) == sizes
    assert data.load(tmp_path).class_names == tuple(classes.split())
    assert all("est" in str(x).lower() for x in found[2]) or sizes[2] == 2


ALL = "{}/{class}/*"
SUBTYPES = ("{class}/SOB/{}", "{}/SOB/{class}", "ben/SOB/{class}")


@few_left_out
@pytest.mark.parametrize(
    ("tree", "patterns"),
    [
        # Masks: COVID-19 Radiography, COVID-QU-Ex, BUSI.
        ("<COVID|Normal>/<images|masks>/#.png", ["{class}/images/*"]),
        (
            "<Train|Val>/<COVID|Normal>/<images|infection+masks|lung+masks>/#.png",
            ["{split}/{class}/images/*"],
        ),
        ("<a|b>/x+(#)<|_mask>.png", ["{class}/*).png"]),
        ("<cat|dog>/<|mask/>#.png", ["{class}/*"]),
        ("<cat|dog|annotations/.xml>/#.png", ["{class}/*"]),
        # The same folders: PlantVillage, folds, zooms, sites.
        (
            "<color|grayscale|segmented>/<rust|scab>/#.png",
            [ALL],
        ),
        (
            "<s1|s2>/<train|test>/<cat|dog>/#.png",
            [f"{x}/{{split}}/{{class}}/*" for x in ("{}", "s1")],
        ),
        # A dataset twice: flowers, malaria.
        (
            "<|flowers/><daisy|rose>/#.png",
            ["**/{class}/*", "{class}/*", "flowers/{class}/*"],
        ),
        # Lower folders: organs, patients, videos (Kvasir), BreaKHis.
        (
            "colon/<aca|n|x>/#.png lung/<aca2|n2|x2>/#.png",
            [ALL],
        ),
        (
            "a/videos/<v0|v1|v2>/#.png b/videos/<v3|v4|v5>/#.png",
            ["{class}/videos/{group}/*"],
        ),
        (
            "ben/SOB/<ad|fi>/<p0|p1|p2>/<40X|100X>/#.png "
            "mal/SOB/<du|lo>/<p3|p4|p5>/<40X|100X>/#.png",
            ["{class}/SOB/{}/{group}/{}/*", "{}/SOB/{class}/{group}/{}/*"],
        ),
        (
            "ben/SOB/<ad|du>/<p0|p1|p2>/#.png mal/SOB/<ad|du>/<p3|p4|p5>/#.png",
            [f"{x}/{{group}}/*" for x in SUBTYPES],
        ),
        # Two groups are too few for three splits.
        ("a/<p0|p1>/#.png b/<p2|p3>/#.png", ["{class}/{}/*"]),
        (
            "<cat|dog>/<|p1/>#.png",
            ["{class}/**", "{class}/*", "{class}/p1/*"],
        ),
        ("<cat|dog>/<train|test>/#.png", ["{class}/{split}/*"]),
        # A split beside classes, or a class of such a name.
        ("<cat|dog|test>/#.png", ["{class}/*"]),
        (
            "<|train/><cat|dog>/#.png",
            ["**/{class}/*", "{class}/*", "train/{class}/*"],
        ),
        # Classes in names.
        ("<cat|dog>.#.jpg", ["{class}.*.jpg"]),
        ("train/<cat|dog>.#.jpg test/#.jpg", ["train/{class}.*.jpg"]),
    ],
)
def test_a_layout_of_several_meanings_is_refused_with_what_reads_it(
    tmp_path, paths, tree, patterns
):
    _write(tmp_path, tree)
    with pytest.raises(
        ValueError, match=f'Received: data="{tmp_path}"'
    ) as caught:
        data.load(tmp_path)
    line = r'    pattern="(.*)" +(\d+) images of (\d+) classes'
    found = re.findall(line, str(caught.value))
    assert [pattern for pattern, _, _ in found] == patterns
    for pattern, count, classes in found:
        splits = paths(pattern=pattern)
        assert sum(map(len, splits)) == int(count)
        assert not any("mask" in str(x) for split in splits for x in split)
        loaded = data.load(tmp_path, pattern=pattern)
        assert len(loaded.class_names) == int(classes)


def test_a_refusal_draws_the_tree(tmp_path):
    _write(
        tmp_path, "<cat|dog>/<a|b>/<c|d>/<e|f>/#.png cat/<g|h|i|j>/c/e/#.png"
    )
    with pytest.raises(ValueError) as caught:
        data.load(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1:6] == [
        "    cat/  48 images",
        "        a/  16 images",
        "            c/  8 images",
        "            d/  8 images",
        "        b/  16 images",
    ]
    assert "        ... 2 more" in lines


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("<images|masks>/#.png", "not classes:(.|\n)*No pattern was found"),
        ("<cat|dog|unlabelled>/#.png", "'unlabelled'"),
        ("<a|b>/#<|_mask>.png", r"e.g. .a/0_mask.png(.|\n)*No pattern"),
        ("<test|val>/#.png", '"test", "val" next to'),
        ("train/<images|labels>/#.png", "'labels'.*not classes"),
        ("<train|val|valid>/cat/#.png", 'splits "train", "val", "valid'),
        ("", r"at least two classes, one subfolder each.*\[\]"),
        ("<cat|dog|cow/.hidden>/#.png", 'images in "train".*class "cow"'),
    ],
)
def test_what_makes_no_dataset_is_refused(tmp_path, tree, message):
    _write(tmp_path, tree, count=3)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"pattern": "{patient}/*"},
            ValueError,
            "Use {group} for units that must stay in one split",
        ),
        ({"pattern": "{split}/*"}, ValueError, "with {class} in one"),
        ({"pattern": "a**/{class}/*"}, ValueError, "as a component"),
        ({"pattern": 3}, TypeError, "must be a pattern, as a string"),
        (
            {"pattern": "{split}/{class}/*"},
            ValueError,
            'matches "{split}" but does',
        ),
        (
            {"pattern": "{split}/{class}_*_*"},
            ValueError,
            '"cat", "dog". Rename these folders',
        ),
        (
            {"pattern": "{class}/{group}_*"},
            ValueError,
            'may be "a" or "a_b" in "cat/a_b_0',
        ),
        (
            {"data": "./nowhere"},
            ValueError,
            "a folder that exists.*where there is no fold",
        ),
        (
            {"data": "cifar10", "pattern": "{class}/*"},
            ValueError,
            "is only for folders",
        ),
    ],
)
def test_a_pattern_of_another_meaning_is_refused(
    tmp_path, options, error, message
):
    _write(tmp_path, "<cat|dog>/a_b_#.png", count=3)
    with pytest.raises(error, match=message):
        data.load(**{"data": tmp_path} | options)


@pytest.mark.parametrize(
    ("others", "pattern", "reasons"),
    [
        ("test_set/#.png", None, "2 in test_set/"),
        ("extra/<a/#|#>.png", None, "4 in extra/"),
        ("train/#.png", None, "2 not in a class folder"),
        (
            "a/b/cat/#.png <a|b>/#.png",
            "{split}/{class}/*",
            "6 not in the pattern",
        ),
    ],
)
def test_images_without_a_class_are_left_out_with_a_word(
    tmp_path, others, pattern, reasons
):
    _write(tmp_path, others, count=2)
    _write(tmp_path, "train/<cat|dog>/#.png")
    with pytest.warns(UserWarning, match=f"left out: {reasons}$"):
        loaded = data.load(tmp_path, pattern=pattern)
    assert loaded.sizes == {"train": 4, "validation": 2, "test": 2}
    assert loaded.notes[0].endswith(f"left out: {reasons}")


def test_a_group_is_never_divided(tmp_path, paths):
    """Some are in both classes, and those of several splits are said."""
    for number, pet in enumerate(PETS):
        visits = "|".join(f"p{i}" for i in range(number, number + 5))
        _write(tmp_path, f"{pet}/<{visits}>/20/#.png")
    validated = set()
    for seed in range(4):
        found = paths(pattern="{class}/{group}/**", seed=seed)
        assert sum(map(len, found)) == 40
        groups = [{x[1] for x in each} for each in found]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 6
        assert [{x[0] for x in each} for each in found] == [{*PETS}] * 3
        assert found[2] == paths(pattern="{class}/{group}/**", seed=9)[2]
        validated.add(tuple(found[1]))
    assert len(validated) > 1
    tested = [
        paths(pattern="{class}/{group}/**", folds=3, fold=i)[2]
        for i in range(3)
    ]
    assert sum(len({x[1] for x in each}) for each in tested) == 6
    tmp_path.joinpath("cat").rename(tmp_path / "train")
    tmp_path.joinpath("dog").rename(tmp_path / "test")
    message = r"4 groups have images in several splits by {group}"
    with pytest.warns(UserWarning, match=message):
        paths(pattern="{split}/{group}/20/{class}.png")


@few_left_out
def test_groups_may_be_in_names_and_splits_in_a_mapping(tmp_path, paths):
    _write(tmp_path, "<cat|dog>/OAS1_#_a.png", 9)
    splits = paths(pattern="{class}/{group}_a.png")
    assert [*map(len, splits)] == [12, 2, 4]
    assert sum(len({x[-1] for x in part}) for part in splits) == 9
    _write(tmp_path / "b", "<cat|dog>/OAS2_#_a.png", 9)
    folders = {"train": tmp_path, "val": tmp_path / "b"}
    splits = paths(folders, pattern="{class}/{group}_a.png")
    assert [*map(len, splits)] == [14, 18, 4]
    assert {x[0] for x in splits[1]} == {"b"}
    with pytest.raises(ValueError, match="There are {class}, {group}, {fold}"):
        data.load(folders, pattern="{split}/{class}/*")


def test_parts_of_groups_have_about_the_fractions():
    sizes = np.array([100, 7, 3, 9, 1, 5, 4, 6, 2, 8, 30])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(groups), int)
    for seed in range(5):
        rows = data.stratify(labels, None, seed, groups=groups)
        # A fifth of 175 is 35; the small groups fill the part up to one.
        assert abs(len(rows["test"]) - 35) < 10
    # A group larger than a part is trained on, in whatever order they come.
    groups = np.repeat(range(3), (10, 10, 100))
    labels = np.zeros(120, int)
    for seed in range(5):
        rows = data.stratify(labels, 0.2, seed, test=False, groups=groups)
        assert len(rows["validation"]) == 20
    # One that is larger than the smallest part alone comes first, too.
    labels, groups = np.zeros(20, int), np.repeat(range(11), [10] + [1] * 10)
    for seed in range(12):
        rows = data.stratify(labels, 0.2, seed, test=False, groups=groups)
        assert len(rows["validation"]) == 4
    # As many groups as parts, whatever their sizes.
    labels, groups = np.repeat([0, 1], 60), np.repeat(range(6), 20)
    for rows in data.stratify(labels, 0.1, 0, groups=groups).values():
        assert np.bincount(labels[rows]).tolist() == [20, 20]


def test_what_is_trained_on_is_said_in_a_line(tmp_path):
    _write(tmp_path, "train/<cat|dog>/#.png", 700)
    _write(tmp_path, "test/<cat|dog>/#.png", 3)
    for name in ("a.dcm", "b.dcm", "c.png"):
        (tmp_path / "train" / "cat" / name).write_text("")
    with pytest.warns(UserWarning, match="1 image .1 damaged"):
        loaded = data.load(tmp_path, validation_fraction=0.5)
    assert loaded.summary == (
        "700 images of 2 classes (cat, dog) in train, 700 in validation, 6 in "
        "test; "
        "3 left out: 2 .dcm, 1 damaged or of another format"
    )
    # Where all are left out, the error says so.
    for path in tmp_path.glob("*/*/*.png"):
        path.rename(path.with_suffix(".nef"))
    with pytest.raises(ValueError, match="1,407 .nef files.*rawpy.imread"):
        data.load(tmp_path)


def test_copies_are_named(tmp_path):
    _write(tmp_path, "<train|test>/<cat|dog>/#.png")
    train, test = tmp_path / "train/cat/1.png", tmp_path / "test/dog/2.png"
    shutil.copy(train, test)
    message = "1 test image .*: test/dog/2.png is train/cat/1.png. Remove"
    with pytest.warns(UserWarning, match=message):
        data.load(tmp_path)
    shutil.rmtree(tmp_path / "train/dog")
    shutil.copytree(tmp_path / "train/cat", tmp_path / "train/dog")
    message = "4 images have the same co.*train/dog/0.png is train/cat/0.png"
    with pytest.warns(UserWarning, match=message):
        data.load(tmp_path)
    images = np.arange(96, dtype="uint8").reshape(12, 4, 2)
    images[[5, 11]] = images[2]
    pairs = [(images[:6], [0, 1] * 3), (images[6:], [0, 1] * 3)]
    message = "1 test image has the same content.*: image 11 is image 2"
    with pytest.warns(UserWarning, match=message):
        data.load(pairs, validation_fraction=0.4)
