"""The words of package, pages and notebooks are those of the field."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROSE = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/**/*.md")
CODE = ("cbam_keras", "_cbam_keras_command", "examples")
# What nobody in the field says, and what is said instead.
WORDS = {
    r"\d %(?=[^\w%({]|$)": "no space before the sign",
    r"numbers? to predict": "regression target, continuous target",
    r"one number for all|one answer for all": "constant baseline",
    r"[Ww]eights for ImageNet": "ImageNet weights",
    r"in equal time": "at equal training time",
    r"[Ll]ook (first )?whether|Look first": "first check that",
    r"difference to (none|no attention|the baseline|\")": "difference from",
    r"such studies (would )?find": "minimum detectable difference",
    r"[Nn]o difference is shown|show no difference": "not significant",
    r"decides what is shown|may be chance": "statistically significant",
    r"claims? more often than": "the false-positive rate exceeds",
    r"\bmade (columns|images)\b": "pseudo-observations",
    r"(others|somebody else) wrote": "third-party",
    r"[Pp]art right|[Pp]art of the true class": "accuracy, fraction",
    r"learned nothing": "collapsed",
    r"better than guessing|guessing gives": "chance, the majority class",
    r"tells? little": "gives imprecise estimates",
    r"partly luck": "optimistically biased",
    r", as (`\"|\"[\w{])": "such as, e.g.",
    r"by (your|the) recipe\b": "with your recipe",
}
# Phrases that a reader of the field has read twice, by what stands there now.
PHRASES = {
    "a variance of seeds and one of": "a two-way variance estimate",
    "fell to zero by a cosine": "cosine decay to zero",
    "says whether it was worth it": "measures whether it helped",
    "that we read whole": "we reviewed",
    "What equals ours becomes ours": "equivalent modules are converted",
    "SE that a network has": "existing SE blocks",
    "something must be suppressed": "strong distractors",
    "layout is said by": "describe any other layout with",
    "layout you say": "describe any other layout with",
    "that of a layer of ours": "what it computes",
    "that any program has made": "predictions from any framework",
    "what arrays of three axes": "how to read 3-D arrays",
    "drawn from its mean": "difference from the baseline (dashed)",
    "of channels, the largest first": "in descending order",
    "how sure a network is": "confidence",
    "is weaker: equal networks": "weak evidence",
    "What is for images alone": "image-only options",
    "in place of right and wrong": "instead of 0/1 correctness",
    "any text of a part": "any text within a path component",
    "decides their `from_logits`": "set to match the output",
    "What is in it is whole": "files written so far are intact",
}
# Those begin sentences that have no subject.
HEADLESS = r"^\s*# (Of|Those|With which|Or) "


def texts():
    """Yields names and texts, of notebooks and of the changelog parts."""
    for pattern in PROSE:
        for path in ROOT.glob(pattern):
            yield path, path.read_text("utf-8")
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".toml"):
                yield path, path.read_text("utf-8")
    changes = ROOT / "CHANGELOG.md"
    yield changes, changes.read_text("utf-8").split("\n## ")[1]
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        prose = [x["source"] for x in cells if x["cell_type"] == "markdown"]
        yield path, "\n".join("".join(lines) for lines in prose)


TEXTS = {str(path.relative_to(ROOT)): text for path, text in texts()}


def found(pattern):
    return [
        f"{name}: {text[match.start() - 30 : match.end() + 30]!r}"
        for name, text in TEXTS.items()
        for match in re.finditer(pattern, text, re.M)
    ]


@pytest.mark.parametrize("pattern", WORDS, ids=WORDS.values())
def test_the_fields_words_are_used(pattern):
    assert found(pattern) == []


@pytest.mark.parametrize("phrase", PHRASES)
def test_sentences_are_those_of_a_native_reader(phrase):
    # A line may end in any space of it.
    assert found(re.escape(phrase).replace(r"\ ", r'["\s]+')) == []


def test_comments_have_a_subject():
    names = [x for x in found(HEADLESS) if x.split(":")[0].endswith(".py")]
    assert names == []


def test_templates_say_the_same():
    for path in (ROOT / "cbam_keras/report").glob("page.*"):
        text = path.read_text("utf-8")
        for pattern in [*WORDS][1:]:
            assert not re.search(pattern, text), (path.name, pattern)
