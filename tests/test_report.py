"""`report.write`: what the page of a folder holds, and what it leaves out."""

import html.parser
import json
import shutil

import pytest
from report_checks import (
    EVIL,
    FOLDERS,
    keep,
    train,
    tune,
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
        self.hidden = tag == "style"

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


def places(content):
    """Returns where each value is: its dictionary or list, and its key."""
    items = content.items() if isinstance(content, dict) else ()
    items = enumerate(content) if isinstance(content, list) else items
    found = []
    for key, value in items:
        found += [(content, key), *places(value)]
    return found


# What a page has of each kind of run: its text and the number of its figures.
PARTS = {
    "train": (
        [
            "Does attention improve the accuracy of the network network on mn",
            "CBAM vs. no attention: +10.00 percentage points of test acc",
            "data fingerprint",
            "cbam\n0\n90.00\n90.00\ncbam-seed0/cbam-seed0.keras",
            "cbam-keras train --data photos",
            # The settings, whole.
            '"variants": {\n    "none": {},\n    "cbam": {',
        ],
        4,
    ),
    "seeds": (
        [
            "CBAM vs. no attention: +10.00 percentage points",
            "Not trained yet: cbam, se (seed 2)",
            f"error (RuntimeError: The loss was nan {EVIL})",
            "mean over up to 3 seeds",
        ],
        4,
    ),
    "tune": (
        [
            "Which attention suits the network failing on mnist5k",
            "cbam r=16 k=7 vs. no attention: +10.00 percentage points",
            "reduction_ratio=16, kernel_size=7)",
            "new seeds, mean over seeds 1, 2",
            "cbam r=16 k=7\n90.00\n90.00 ± 0.00\n+10.00",
            f"error (RuntimeError: The loss was nan {EVIL})",
        ],
        4,
    ),
}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_page_says_what_came_out_and_requests_nothing(command, tmp_path):
    page = written(FOLDERS[command](tmp_path / "run"))
    assert len(page.all("style")) == 1
    for tag in ("script", "link", "iframe"):
        assert not page.all(tag)
    # Links are to sections of the page, each in its place.
    sections = [section["id"] for section in page.all("section")]
    assert [link["href"] for link in page.all("a")] == [
        f"#{section}" for section in sections
    ]
    assert len({*sections}) == len(sections) >= 4
    for picture in page.all("img"):
        assert picture["alt"]
        assert picture["src"].startswith("data:image/")
    (policy,) = (x["content"] for x in page.all("meta") if "http-equiv" in x)
    assert policy.startswith("default-src 'none'; img-src data:; style-src ")
    assert "unsafe" not in policy
    assert page.all("h1") and page.all("table")
    assert "3.15.1" in page.text
    # The page has no more than the name of a folder of this machine.
    assert "folderrun" in page.text and str(tmp_path) not in page.text
    texts, pictures = PARTS[command]
    assert not [text for text in texts if text not in page.text]
    assert len(page.all("img")) == pictures
    lacks_something = "Not in this report" in page.text
    assert lacks_something is (command == "seeds")


@pytest.mark.parametrize("command", FOLDERS)
def test_hostile_names_stay_text(command, tmp_path):
    folder = FOLDERS[command](tmp_path / "run")
    changed = 0
    # Names of networks and measures are keys, too.
    same = ("kind", "status", "variant", "key", "baseline")
    same += ("file", "predictions", "latest", "best")
    names = ("none", "cbam", "se")
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text())
        for holder, key in places(content):
            is_text = isinstance(holder[key], str) and key not in same
            if is_text and holder[key] not in names:
                holder[key] += EVIL
                changed += 1
        file.write_text(json.dumps(content))
    page = written(folder)
    assert changed
    assert page.text.count(EVIL) > 1
    assert EVIL not in (folder / "report.html").read_text()


def test_an_unfinished_run_says_what_there_is(tmp_path):
    page = written(keep(train(tmp_path / "run"), ("none", 0)))
    assert "Not trained yet: cbam, se (seed 0)" in page.text
    assert "80.00" in page.text
    # Written again, it is that of the finished run.
    assert "Not trained yet" not in written(train(tmp_path / "run")).text
    nothing = keep(train(tmp_path / "new"))
    shutil.rmtree(nothing / "explain")
    page = written(nothing)
    assert "no network has been trained" in page.text
    assert f"To draw them, run cbam-keras report {nothing};" in page.text
    trials = tune(tmp_path / "search")
    content = json.loads((trials / "study.json").read_text())
    del content["best"], content["confirmation"], content["verdict"]
    (trials / "study.json").write_text(json.dumps(content))
    page = written(trials)
    assert "The search is not finished" in page.text
    assert "cbam r=16 k=7\n90.00\n2\n" in page.text


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"kind": "training run"}', '{"kind": "unknown"}', "\x00"],
)
def test_a_damaged_folder_has_a_page(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    (tmp_path / "study.json").write_text(content)
    assert "Not in this report" in written(tmp_path).text


@pytest.mark.parametrize("name", ["comparison.png", "explain/grad_cam.png"])
def test_a_damaged_file_costs_only_its_part(name, tmp_path):
    folder = train(tmp_path / "run")
    (folder / name).write_bytes(b"PK damaged")
    page = written(folder)
    assert "cannot be read" in page.text
    assert "90.00" in page.text


def test_the_page_of_another_program_is_kept(tmp_path):
    page = train(tmp_path / "run") / "report.html"
    page.write_text("<html>coverage: 93 %</html>")
    with pytest.raises(ValueError, match="of another program"):
        report.write(page.parent)
    assert "coverage" in page.read_text()
    page.unlink()
    # Our own is replaced.
    assert report.write(page.parent) == report.write(page.parent) == page
