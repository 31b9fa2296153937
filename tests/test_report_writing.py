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
    explanation,
    finished_train,
    search,
    seeds,
    training,
)

from cbam_keras import report
from cbam_keras.report.findings import matched


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


@pytest.mark.parametrize("command", FOLDERS)
def test_a_page_has_all_in_it_and_says_what_came_out(command, tmp_path):
    page = written(FOLDERS[command](tmp_path / "run"))
    # No address but data and places in the page.
    sources = [attrs["src"] for attrs in page.all("img")]
    assert all(source.startswith("data:image/") for source in sources)
    assert all(attrs["href"][0] == "#" for attrs in page.all("a"))
    assert not page.all("link")
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.all("h1") and page.all("table")
    assert "3.15.1" in page.text


def test_a_finished_run_lacks_nothing(tmp_path):
    page = written(finished_train(tmp_path / "run"))
    assert "Not in this report" not in page.text
    assert "cbam by +5.00 and se by +2.00" in page.text
    assert "cbam-keras train --data photos" in page.text
    assert "8ebabcdaef2857de" in page.text


def test_names_of_classes_stay_text(tmp_path):
    page = written(finished_train(tmp_path / "run"))
    assert f"True class: {EVIL}" in page.text
    assert len(page.all("script")) == 1


def test_what_networks_get_wrong_comes_first(tmp_path):
    page = written(explanation(tmp_path / "run", count=3))
    assert page.text.index("test 2") < page.text.index("test 0")
    assert page.text.count("wrong\n") == 2


def test_detectors_are_shown_where_they_make_mistakes_first(tmp_path):
    page = written(FOLDERS["detect"](tmp_path / "run"))
    shown = page.text[page.text.index("What the detectors find") :]
    assert shown.index("Test image 2") < shown.index("Test image 1")
    for words in ("1 of 2 found, 1 too many", "2 of 2 found", "1 of 1 found"):
        assert words in shown
    # A box for each object and detection, and the class as text.
    assert len(page.all("rect")) == 9
    assert sum("wrong" in box.values() for box in page.all("rect")) == 1
    assert f"{EVIL} 90%" in shown


def test_an_object_is_found_once_and_only_by_its_class():
    box, near = [0.0, 0.0, 0.4, 0.4], [0.0, 0.1, 0.4, 0.4]
    far = [0.2, 0.2, 0.6, 0.6]
    truth = np.array([[3, 1, *box]])
    found = [[3, 0.6, *near], [3, 0.9, *box], [4, 0.9, *box], [3, 0.9, *far]]
    right, hits = matched(truth, np.array(found))
    # The overlap with the last box is a seventh.
    assert right.tolist() == [False, True, False, False]
    assert hits.tolist() == [True]
    right, hits = matched(np.empty((0, 6)), np.array(found))
    assert not right.any() and not len(hits)


def test_seeds_that_are_not_finished_are_left_out_and_named(tmp_path):
    page = written(seeds(tmp_path / "run"))
    assert "Seed 2 lacks cbam, se" in page.text
    assert "mean over 2 seeds" in page.text


def test_an_unfinished_run_says_what_there_is(tmp_path):
    page = written(training(tmp_path / "run", RUNS[:1]))
    assert "Not trained yet: cbam, se" in page.text
    assert "85.00" in page.text
    nothing = written(training(tmp_path / "new", []))
    assert "no network is trained" in nothing.text
    trials = written(search(tmp_path / "search", finished=False))
    assert "The search is not finished" in trials.text
    assert "90.00" in trials.text
    tables = written(ablation(tmp_path / "ablation", finished=False))
    assert "0 trainings are finished" in tables.text


def test_an_ablation_says_which_intervals_exclude_zero(tmp_path):
    page = written(ablation(tmp_path / "run"))
    assert "1 of 1 differences" in page.text
    assert '"ResNet + CBAM" (lower error)' in page.text


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"kind": "training run"}', '{"kind": "unknown"}', "\x00"],
)
def test_a_damaged_folder_has_a_page(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    assert "Not in this report" in written(tmp_path).text


def test_an_empty_folder_has_a_page(tmp_path):
    assert "The folder holds no run" in written(tmp_path / "new").text


@pytest.mark.parametrize("name", ["curves.png", "explain/arrays.npz"])
def test_a_damaged_file_costs_only_its_part(name, tmp_path):
    folder = finished_train(tmp_path / "run")
    (folder / name).write_bytes(b"PK damaged")
    page = written(folder)
    assert "cannot be read" in page.text
    assert "90.00" in page.text


def test_too_many_pictures_are_thinned_out(tmp_path):
    folder = explanation(tmp_path / "run", count=40)
    page = written(folder)
    assert "16 of 40 images are shown" in page.text
    assert (folder / "report.html").stat().st_size < 2_000_000


def test_too_large_pictures_are_scaled_down(tmp_path):
    folder = training(tmp_path / "run")
    noise = np.random.default_rng(0).integers(0, 255, (900, 3000, 3), "uint8")
    Image.fromarray(noise).save(folder / "curves.png")
    page = written(folder)
    assert (folder / "report.html").stat().st_size < 2_000_000
    assert int(page.all("img")[0]["width"]) < 3000


def test_a_report_is_written_again(tmp_path):
    folder = training(tmp_path / "run", RUNS[:1])
    report.write(folder)
    training(folder)
    assert "Not trained yet" not in written(folder).text


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ValueError, match="`folder` must be the output folder"):
        report.write(tmp_path / "missing")
    with pytest.raises(TypeError, match="path"):
        report.write(7)


def test_settings_are_shown_whole(tmp_path):
    page = written(training(tmp_path / "run"))
    assert json.dumps("tiny") in page.text


def places(content, path=()):
    """Yields the path of each value in nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else ()
    items = enumerate(content) if isinstance(content, list) else items
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("command", FOLDERS)
def test_no_wrong_value_ends_in_a_traceback(command, tmp_path):
    folder = FOLDERS[command](tmp_path / "run")
    rng = np.random.default_rng(0)
    for file in sorted(folder.rglob("*.json")):
        whole = file.read_text()
        paths = list(places(json.loads(whole)))
        for number in rng.permutation(len(paths))[:15]:
            content = json.loads(whole)
            *above, last = paths[number]
            place = content
            for key in above:
                place = place[key]
            place[last] = [None, [], "x", -1, {"a": 1}][number % 5]
            file.write_text(json.dumps(content))
            assert report.write(folder).exists()
        file.write_text(whole)
