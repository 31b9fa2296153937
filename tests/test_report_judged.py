"""What a page and `tables/` say of classes, curves, calibration, methods."""

import json
import re

import numpy as np
import pytest
from report_checks import change, dump, train
from test_report import written

from cbam_keras import _files, report, study
from cbam_keras.study.results import predictions

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")


def judged(folder, names=("cat", "dog"), seed=0, absent=(), **changed):
    """Returns a run whose networks have predictions for 60 images."""
    train(folder)
    rng = np.random.default_rng(seed)
    kept = np.setdiff1d(range(len(names)), absent)
    labels = np.tile(kept, 60)[:60]
    for variant in ("none", "cbam", "se"):
        logits = rng.normal(size=(60, len(names)))
        logits[range(60), labels] += 2
        powers = np.exp(logits)
        values = {"labels": labels, "images": labels.astype("U9")}
        values["probabilities"] = powers / powers.sum(axis=1, keepdims=True)
        arrays = {f"test/{key}": x for key, x in values.items()}
        name = f"{variant}-seed0"
        path = folder / name / f"{name}{_files.PREDICTIONS}"
        _files.write_arrays(path, arrays)
        state = json.loads((path.parent / "state.json").read_text())
        right = values["probabilities"].argmax(axis=1) == labels
        state["ended"]["metrics"]["test_accuracy"] = right.mean()
        state["ended"]["predictions"] = f"{name}/{path.name}"
        dump(path.parent / "state.json", state)
    changed = {"class_counts": [9] * len(names), "commonest": 0.5, **changed}
    return change(folder, class_names=names, **changed)


def test_a_page_has_the_order_of_a_results_section(tmp_path):
    page = written(judged(tmp_path / "run"))
    titles = re.findall(
        r"^(Data|Results|Classes|Confusion|ROC and threshold|Calibration"
        r"|What the networks look at|Methods in words|For your checklist"
        r"|To repeat it)$",
        page.text,
        re.M,
    )
    assert titles == [
        *("Data", "Results", "Classes", "ROC and threshold", "Confusion"),
        "Calibration",
        *("What the networks look at", "Methods in words"),
        *("For your checklist", "To repeat it"),
    ]
    assert "The threshold is 0.5, the default." in page.text
    assert "Not in this report" not in page.text
    captions = [picture["alt"] for picture in page.all("img")]
    assert sum("true and predicted class" in text for text in captions) == 3


def test_tables_of_page_and_files_agree(tmp_path):
    folder = judged(tmp_path / "run")
    text = report.write(folder).read_text()
    results = study.Results.read(folder)
    for name, frame in predictions.judged(results).items():
        file = folder / "tables" / f"{name}.csv"
        pandas.testing.assert_frame_equal(
            pandas.read_csv(file), frame, check_dtype=False
        )
        assert file.stem == "per_class" or file.with_suffix(".tex").exists()
    matrix = pandas.read_csv(folder / "tables/confusion-none.csv", index_col=0)
    assert (matrix.values == results.confusion("none").values).all()
    for f1 in results.per_class()["f1"]:
        assert f'<td class="right">{100 * f1:.1f}</td>' in text


def test_latex_is_what_the_page_shows(tmp_path):
    folder = judged(tmp_path / "run", ("=cat", "50_%", "dog"))
    text = report.write(folder, figures="pdf").read_text()
    latex = (folder / "tables/per_class-se.tex").read_text()
    head, _, *_, row, _, _ = latex.splitlines()[3:]
    assert head == r"class & precision & recall & F1 & images \\"
    name, *cells = row.removesuffix(r" \\").split(" & ")
    assert name == "dog" and all(f">{x}</td>" in text for x in cells)
    assert r"50\_\%" in latex
    assert "none,'=cat," in (folder / "tables/per_class.csv").read_text()
    latex = (folder / "tables/results.tex").read_text()
    assert latex.startswith(r"% \usepackage{booktabs}")
    assert "difference from ``none''" in latex
    drawn = {x.stem for x in folder.glob("*.png")}
    assert {x.stem for x in folder.glob("*.pdf")} == drawn >= {"roc"}


def test_what_is_wrong_with_data_is_on_the_first_screen(tmp_path):
    leak = "1 test image has the same content as training images: a is b"
    names = ("cat", "<b>", "dog")
    folder = judged(tmp_path / "run", names, absent=[1], leaks=[leak])
    page = written(folder)
    first = page.text[: page.text.index("\nData\n")]
    assert leak in first and 'No test image is of class "<b>"' in first


def test_more_than_forty_classes_fold_their_tables(tmp_path):
    names = [f"class {number}" for number in range(41)]
    folder = judged(tmp_path / "run", names)
    page = written(folder)
    summaries = re.findall(r"^(Per class.*|Images of each.*)$", page.text, re.M)
    # The settings and what checklists ask are folded, too.
    assert len(page.all("details")) == 2 + len(summaries) == 4
    assert (folder / "report.html").stat().st_size < 3e6


def test_methods_are_sentences(tmp_path):
    folder = judged(tmp_path / "run", threshold="youden")
    page = written(folder)
    (methods,) = re.findall(r"^The dataset mnist5k has .*$", page.text, re.M)
    for fact in (
        "images for training",
        "minimized cross-entropy with AdamW (weight decay 0.0001) for 2",
        "with a batch size of 35",
        "a variant of Woo et al., 2018, that starts as the identity",
        "the highest Youden index",
        "keras 3.",
    ):
        assert fact in methods
    assert not re.search(r" [.,;:)]|[.,;:][A-Z]|\(\s|\.\.", methods)
