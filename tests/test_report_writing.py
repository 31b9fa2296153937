"""`report.write`: what the page of a folder holds, and what it leaves out."""

import html.parser
import json

import numpy as np
import pytest
from PIL import Image
from report_checks import (
    EVIL,
    FOLDERS,
    RUNS,
    ablation,
    detection,
    explanation,
    finished_train,
    search,
    training,
)

from cbam_keras import report


class Parsed(html.parser.HTMLParser):
    """The tags and the visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.hidden = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def written(folder):
    folder.mkdir(exist_ok=True)
    return Parsed(report.write(folder).read_text("utf-8"))


def places(content, path=()):
    """Yields the path of each value in nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else ()
    items = enumerate(content) if isinstance(content, list) else items
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def replaced(content, path, value):
    """Puts a value in the place of another."""
    *above, last = path
    for key in above:
        content = content[key]
    content[last] = value


def check_requests_nothing(page):
    """Checks that there is no address but data and places in the page."""
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert not page.all("link") and not page.all("iframe")
    assert all(own["src"].startswith("data:image/") for own in page.all("img"))
    assert all(own["href"][0] == "#" for own in page.all("a"))
    assert not any("src" in own for own in page.all("script"))
    (policy,) = (x["content"] for x in page.all("meta") if "http-equiv" in x)
    assert policy.startswith("default-src 'none'; img-src data:; style-src ")
    assert "unsafe" not in policy


# What a page has of each kind of run: its text and the number of its pictures.
PARTS = {
    "train": (
        [
            "cbam by +5.00 and se by +2.00",
            "8ebabcdaef2857de",
            "cbam-keras train --data photos",
            # The settings, whole.
            '"networks": [\n    "none",\n    "cbam",\n    "se"\n',
        ],
        9,
    ),
    "train --seeds": (["Seed 2 lacks cbam, se", "mean over 2 seeds"], 1),
    "tune": (["Nothing is confirmed.", "CBAM(reduction_ratio=16)"], 2),
    "ablate": (["1 of 1 differences", '"ResNet + CBAM" (lower error)'], 9),
    "detect": (["cbam differs from none by +0.0 points.", "35.0"], 6),
    "explain": (["none is right about 50.0% of 2 images"], 8),
}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_page_says_what_came_out_and_requests_nothing(command, tmp_path):
    page = written(FOLDERS[command](tmp_path / "run"))
    check_requests_nothing(page)
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert page.all("h1") and page.all("table")
    assert "3.15.1" in page.text
    texts, pictures = PARTS[command]
    assert not [text for text in texts if text not in page.text]
    assert len(page.all("img")) == pictures
    lacks_something = "Not in this report" in page.text
    assert lacks_something is (command == "train --seeds")


@pytest.mark.parametrize("command", FOLDERS)
def test_hostile_names_stay_text(command, tmp_path):
    folder = FOLDERS[command](tmp_path / "run")
    changed = 0
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text())
        for path in list(places(content)):
            value = content
            for key in path:
                value = value[key]
            if isinstance(value, str) and path[-1] not in ("kind", "outcome"):
                replaced(content, path, value + EVIL)
                changed += 1
        file.write_text(json.dumps(content))
    page = written(folder)
    check_requests_nothing(page)
    assert changed
    assert page.text.count(EVIL) > 1
    assert EVIL not in (folder / "report.html").read_text()


def test_what_networks_get_wrong_comes_first(tmp_path):
    page = written(explanation(tmp_path / "run", count=3))
    assert page.text.index("test 2") < page.text.index("test 0")
    assert page.text.count("wrong\n") == 2


def test_detectors_are_shown_where_they_make_mistakes_first(tmp_path):
    page = written(detection(tmp_path / "run"))
    shown = page.text[page.text.index("What the detectors find") :]
    assert shown.index("Test image 2") < shown.index("Test image 1")
    for words in ("1 of 2 found, 1 too many", "2 of 2 found", "1 of 1 found"):
        assert words in shown
    # A box for each object and detection, and the class as text.
    assert len(page.all("rect")) == 9
    assert sum("wrong" in box.values() for box in page.all("rect")) == 1
    assert f"{EVIL} 90%" in shown


def test_an_object_is_found_once_and_only_by_its_class(tmp_path):
    folder = detection(tmp_path / "run")
    box, near = [0.0, 0.0, 0.4, 0.4], [0.0, 0.1, 0.4, 0.4]
    # Overlaps by a seventh.
    far = [0.2, 0.2, 0.6, 0.6]
    found = [[1, 0.6, *near], [1, 0.9, *box], [0, 0.9, *box], [1, 0.9, *far]]
    arrays = {
        "images": np.zeros((2, 64, 64, 1), "uint8"),
        # The second image has no object.
        "truth": np.array([[0, 1, 1, *box]]),
        "none": np.array([[i, *row] for i in (0, 1) for row in found]),
    }
    np.savez(folder / "detections.npz", **arrays)
    page = written(folder)
    assert "1 of 1 found, 3 too many" in page.text
    assert "0 of 0 found, 4 too many" in page.text
    wrong = ["wrong" in box.values() for box in page.all("rect")]
    # First the image with more mistakes, then the object and what is found.
    assert wrong == [True] * 4 + [False] + [True, False, True, True]


def test_an_unfinished_run_says_what_there_is(tmp_path):
    page = written(training(tmp_path / "run", RUNS[:1]))
    assert "Not trained yet: cbam, se" in page.text
    assert "85.00" in page.text
    # Written again, it is that of the finished run.
    assert "Not trained yet" not in written(training(tmp_path / "run")).text
    nothing = written(training(tmp_path / "new", []))
    assert "no network is trained" in nothing.text
    trials = written(search(tmp_path / "search", finished=False))
    assert "The search is not finished" in trials.text
    assert "90.00" in trials.text
    tables = written(ablation(tmp_path / "ablation", finished=False))
    assert "0 trainings are finished" in tables.text


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", '{"kind": "training run"}', '{"kind": "unknown"}', "\x00"],
)
def test_a_damaged_folder_has_a_page(content, tmp_path):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert "Not in this report" in written(tmp_path).text


@pytest.mark.parametrize("name", ["curves.png", "explain/arrays.npz"])
def test_a_damaged_file_costs_only_its_part(name, tmp_path):
    folder = finished_train(tmp_path / "run")
    (folder / name).write_bytes(b"PK damaged")
    page = written(folder)
    assert "cannot be read" in page.text
    assert "90.00" in page.text


@pytest.mark.parametrize("command", FOLDERS)
def test_no_wrong_value_ends_in_a_traceback(command, tmp_path):
    folder = FOLDERS[command](tmp_path / "run")
    rng = np.random.default_rng(0)
    for file in sorted(folder.rglob("*.json")):
        whole = file.read_text()
        paths = list(places(json.loads(whole)))
        for number in rng.permutation(len(paths))[:15]:
            content = json.loads(whole)
            wrong = [None, [], "x", -1, {"a": 1}][number % 5]
            replaced(content, paths[number], wrong)
            file.write_text(json.dumps(content))
            assert report.write(folder).exists()
        file.write_text(whole)


def test_pictures_that_are_too_many_or_too_large_are_thinned_out(tmp_path):
    folder = explanation(tmp_path / "many", count=40)
    assert "16 of 40 images are shown" in written(folder).text
    assert (folder / "report.html").stat().st_size < 2_000_000
    folder = training(tmp_path / "large")
    noise = np.random.default_rng(0).integers(0, 255, (900, 3000, 3), "uint8")
    Image.fromarray(noise).save(folder / "curves.png")
    assert int(written(folder).all("img")[0]["width"]) < 3000
    assert (folder / "report.html").stat().st_size < 2_000_000


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ValueError, match="`folder` must be the output folder"):
        report.write(tmp_path / "missing")
    with pytest.raises(TypeError, match="path"):
        report.write(7)
