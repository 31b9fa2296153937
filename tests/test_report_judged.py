"""What a page and `tables/` say of classes, curves, calibration, methods."""

import json
import re

import numpy as np
import pytest
from report_checks import change, dump, seeds, train
from test_report import written

from cbam_keras import _files, report, study
from cbam_keras.study.results import predictions

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("undrawn")


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
    titles = [
        *("Results", "Learning curves", "Classes", "Confusion"),
        *("What the networks look at", "Calibration", "ROC and threshold"),
        *("Data", "Methods", "Reporting checklist", "Files"),
        "Reproduce this run",
    ]
    any_title = "|".join(titles)
    found = re.findall(rf"^({any_title})$", page.text, re.M)
    # The contents come first, then the sections.
    assert found == titles * 2
    contents = page.text.index("\nResults\nLearning curves\n")
    assert page.text.index("CBAM vs. no attention") < contents
    assert "The threshold is 0.5, the default." in page.text
    assert "Not in this report" not in page.text
    captions = [picture["alt"] for picture in page.all("img")]
    assert sum("true and predicted class" in text for text in captions) == 1
    assert sum("Difference between" in text for text in captions) == 2


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


def cells_of(text, title):
    """Returns the cells of the table with a title, by row."""
    rows = text[text.index(f">{title}") :].split("<tbody>")[1]
    rows = rows[: rows.index("</tbody>")].split("</tr>")[:-1]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_networks_stand_side_by_side_with_their_differences(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    tested = {
        name: [rng.integers(0, 3, 90) for _ in range(3)]
        for name in ("none", "cbam", "se")
    }

    def scores_of(answers, each, column):
        # F1, precision and recall, by their definitions.
        right = np.sum((answers == each) & (labels == each))
        both = np.array([np.sum(answers == each), np.sum(labels == each)])
        return 100 * [2 * right / both.sum(), *right / both][column]

    for names in (["cbam", "none"], ["none", "cbam", "se"]):
        results = study.results_of(
            {x: [np.eye(3)[y] for y in tested[x]] for x in names},
            labels,
            baseline="none",
        )
        page = results.write(tmp_path / names[0]).read_text("utf-8")
        for column, title in enumerate(("F1", "Precision", "Recall")):
            for each, row in enumerate(cells_of(page, f"{title} per class")):
                expected, of_none = [], None
                for name in ["none", *(x for x in names if x != "none")]:
                    found = [scores_of(x, each, column) for x in tested[name]]
                    expected.append((np.mean(found), np.std(found, ddof=1)))
                    if of_none is None:
                        of_none = np.array(found)
                        continue
                    changes = found - of_none
                    expected.append((changes.mean(), changes.std(ddof=1)))
                assert row[:2] == [str(each), "30"]
                numbers = [x.split(" \N{PLUS-MINUS SIGN} ") for x in row[2:]]
                np.testing.assert_allclose(
                    np.array(numbers, float), expected, atol=0.0501
                )
        # Answers without probabilities have no curves.
        assert "AUC per class" not in page
        heads = [">difference<"] if len(names) == 2 else ["se - none", "cbam -"]
        assert all(page.count(head) == 3 for head in heads)


def test_classes_of_masks_stand_side_by_side(tmp_path):
    folder = seeds(tmp_path / "run")
    # Two networks have three classes in two seeds, one of which lacks the last.
    ious = {
        "none": [[0.5, 0.25, 0.125], [0.7, 0.35, None]],
        "cbam": [[0.6, 0.15, 0.25], [0.9, 0.25, None]],
    }
    for name, by_seed in ious.items():
        for seed, values in enumerate(by_seed):
            state = folder / f"{name}-seed{seed}/state.json"
            content = json.loads(state.read_text())
            metrics = {
                f"iou_{x}": y for x, y in zip("abc", values, strict=True)
            }
            content["ended"]["metrics"].update(metrics)
            dump(state, content)
    text = report.write(change(folder, class_names=[*"abc"])).read_text()
    sign = " \N{PLUS-MINUS SIGN} "
    assert cells_of(text, "IoU by class (%)") == [
        ["a", f"60.0{sign}14.1", f"75.0{sign}21.2", f"+15.0{sign}7.1"],
        ["b", f"30.0{sign}7.1", f"20.0{sign}7.1", f"-10.0{sign}0.0"],
        ["c", "12.5", "25.0", "+12.5"],
    ]


def test_one_network_has_one_table_of_all_scores(tmp_path):
    answers = np.eye(3)[[0, 1, 2, 0] * 5]
    results = study.results_of({"cbam": answers}, [0, 1, 2, 1] * 5)
    page = results.write(tmp_path / "out").read_text("utf-8")
    row = cells_of(page, "Per class")[1]
    assert row[:2] == ["cbam", "1"] and row[3:6] == ["100.0", "50.0", "66.7"]
    assert ">difference<" not in page


def test_equal_counts_of_classes_are_folded(tmp_path):
    folder = judged(tmp_path / "run")
    title = "Images per class (seed 0)"
    assert f"<summary>{title}</summary>" in report.write(folder).read_text()
    change(folder, class_counts=[9, 10])
    assert f"<h3>{title}</h3>" in report.write(folder).read_text()


def test_latex_is_what_the_page_shows(tmp_path, monkeypatch):
    # Here, figures are drawn.
    monkeypatch.undo()
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
    # The first section is the second to be called so, after the contents.
    before, contents, *_ = page.text.split("\nResults\n")
    first = before + contents
    assert leak in first and 'No test image is of class "<b>"' in first


def test_more_than_forty_classes_fold_their_tables(tmp_path):
    names = [f"class {number}" for number in range(41)]
    folder = judged(tmp_path / "run", names)
    page = written(folder)
    summaries = re.findall(r"^(\S+ per class.*)$", page.text, re.M)
    # The settings and what checklists ask are folded, too.
    assert len(page.all("details")) == 2 + len(summaries) == 8
    assert (folder / "report.html").stat().st_size < 3e6


def test_methods_are_sentences(tmp_path):
    folder = judged(tmp_path / "run", threshold="youden")
    page = written(folder)
    (methods,) = re.findall(r"^The dataset mnist5k has .*$", page.text, re.M)
    for fact in (
        "images for training",
        "minimized cross-entropy with AdamW (weight decay 0.0001) for 2",
        "with a batch size of 35",
        "a variant of Woo et al., 2018: identity initialization",
        "the highest Youden index",
        "keras 3.",
    ):
        assert fact in methods
    # Only packages have names in code.
    in_words, _, packages = methods.partition("Software: ")
    assert packages and not re.search("[_=`]", in_words)
    assert not re.search(r" [.,;:)]|[.,;:][A-Z]|\(\s|\.\.", methods)
