"""All figures: titles and colors; those of results, with their data."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cbam_keras import _files, plotting, study
from cbam_keras.explain.figures import style
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.results.figures import (
    plot_comparison,
    plot_confusion_change,
)
from cbam_keras.study.results.figures.curves import draw_curves

pytest.importorskip("matplotlib", reason="figures need matplotlib")


def epoch(network, number, *values):
    """Returns a row of a history."""
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    numbers = dict(zip(keys, values, strict=True))
    return {"network": network, "epoch": number, **numbers}


# Rows may alternate between networks.
ROWS = [
    epoch("none", 1, 2.3, 0.1, 2.2, 0.12),
    epoch("cbam", 1, 1.9, 0.3, 1.8, 0.35),
    epoch("none", 2, 2.0, 0.2, 2.1, 0.18),
    epoch("cbam", 2, 1.0, 0.6, 1.5, 0.5),
]


ERROR = study.Measure("error", "error")


def compared(*rows, measure=ERROR):
    """Returns the results of a study: network, values, interval."""
    return SimpleNamespace(
        rows=[
            SimpleNamespace(
                variant=network,
                label=network,
                mean=float(np.mean(values)) / 100,
                values=[value / 100 for value in values],
                interval=interval and [end / 100 for end in interval],
            )
            for network, values, interval in rows
        ],
        baseline="none",
        measures=[measure],
    )


# The baseline may stand anywhere.
COMPARED = compared(
    ("SE", (7.0, 7.5), (-4.0, 1.5)),
    ("none", (9.0, 8.0), None),
    ("CBAM", (6.5, 5.5), (-2.5, -2.5)),
)

IMAGES = np.zeros((2, 4, 5))
FIGURES = {
    "history": (plotting.plot_history, ROWS),
    "comparison": (plot_comparison, COMPARED),
    "heat": (plotting.plot_grad_cam, IMAGES, IMAGES),
    "gates": (plotting.plot_attention_maps, IMAGES, {"gate": (None, IMAGES)}),
}


@pytest.mark.parametrize(
    ("plot", "arguments"),
    [(x[0], x[1:]) for x in FIGURES.values()],
    ids=FIGURES,
)
def test_figures_are_drawn_without_pyplot_under_their_title(
    monkeypatch, plot, arguments
):
    # Importing a module with None in its place is an error.
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    # The title is no formula, and were a wrong one.
    figure = plot(*arguments, title=r"$\wrong$ title")
    assert figure.get_suptitle() == r"$\wrong$ title"
    assert figure.canvas.manager is None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=20)
    assert file.getvalue().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for plot, *arguments in FIGURES.values():
        with pytest.raises(ImportError, match="pip install matplotlib"):
            plot(*arguments, title="")


def lines(axes):
    """Returns the points of each line by its label."""
    return {x.get_label(): x.get_xydata().tolist() for x in axes.get_lines()}


def colors(names):
    return {name: x["color"] for name, x in style.styles_of(names).items()}


def test_a_kind_of_attention_has_one_color_in_all_figures():
    kinds = colors(["none", "se", "cbam", "channel", "spatial"])
    assert len(set(kinds.values())) == 5
    assert colors([*kinds][::-1]) == kinds
    assert len(set(colors(["none", "a", "b", "c", "cbam"]).values())) == 5
    assert colors(["SE"]) == {"SE": kinds["se"]}


@pytest.mark.parametrize(
    ("text", "lines"),
    {
        "stage1_block1_attention": ["stage1_block1_", "attention"],
        "of stage1_block1_attention": ["of stage1_block1_", "attention"],
        # A word without a place to end a line is cut.
        "abcdefghijklmnopqrstuvw_x y": ["abcdefghijklmnopqrs", "tuvw_x y"],
        "true: cat\npredicted: a dog": ["true: cat", "predicted: a dog"],
        "a b c d e f g h i j k l m n o p q r s t u\nlast": [
            "a b c d e f g h i j",
            "k l m n o p q r...",
            "last",
        ],
        "a\nb\nc\nd": ["a", "b", "c"],
        " ": [],
    }.items(),
)
def test_texts_break_between_words(text, lines):
    # At this width and size, lines have at most 19 letters.
    wrapped = style.wrap_to(text, 1.35, 8.5, 3)
    assert wrapped.split("\n") == (lines or [""])


# Loss and accuracy over the epochs.


def test_a_history_shows_all_numbers_of_its_networks():
    figure = plotting.plot_history(ROWS)
    loss, accuracy = figure.axes
    assert [x.get_ylabel() for x in figure.axes] == ["Loss", "Accuracy (%)"]
    for axes, key, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        assert axes.get_xlabel() == "Epoch"
        assert lines(axes) == {
            f"{network}, {split}": [
                [row["epoch"], pytest.approx(scale * row[prefix + key])]
                for row in ROWS
                if row["network"] == network
            ]
            for network in ("none", "cbam")
            for split, prefix in (("validation", "val_"), ("training", ""))
        }
        assert all(x == round(x) for x in axes.get_xticks())
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [*lines(loss)]


def test_a_history_of_several_runs_shows_their_mean_and_range():
    # The last run stopped earlier, and the second one diverged.
    longer = [[0.1, 0.2, 0.6], [0.3, 0.5, float("nan")], [0.5, 0.8]]
    rows = [
        epoch("cbam", number, 1.0, 0.2, 1.0, value)
        for run in longer
        for number, value in enumerate(run, 1)
    ]
    figure = plotting.plot_history(rows)
    _, axes = figure.axes
    drawn = lines(axes)["cbam, validation"]
    assert drawn == [[1, pytest.approx(30)], [2, pytest.approx(50)], [3, 60.0]]
    (band,) = axes.collections
    box = band.get_datalim(axes.transData)
    assert box.get_points().ravel() == pytest.approx([1, 10, 3, 80])
    # A single run has no band.
    assert not plotting.plot_history(ROWS).axes[1].collections


def test_the_curves_of_a_run_are_of_all_seeds(tmp_path, monkeypatch):
    outcomes = [
        Outcome(
            "se_r4",
            seed,
            "finished",
            history=[epoch("se_r4", 1, 1.0, 0.2, 1.0, accuracy)],
        )
        for seed, accuracy in ((3, 0.2), (5, 0.6))
    ]
    results = SimpleNamespace(
        outcomes=outcomes,
        labels={"se_r4": "SE, r = 4"},
        data="digits",
        folds=None,
        output=tmp_path,
    )
    drawn = {}

    def keep(path, figure, as_pdf):
        drawn[path.name] = figure

    monkeypatch.setattr(_files, "write_figure", keep)
    assert draw_curves(results)
    figure = drawn.pop("curves.png")
    assert figure.get_suptitle() == "digits, 2 seeds"
    curves = lines(figure.axes[1])
    assert curves["SE, r = 4, validation"] == [[1, pytest.approx(40)]]
    results.outcomes = outcomes[1:]
    assert draw_curves(results)
    assert drawn.pop("curves.png").get_suptitle() == "digits, seed 5"
    results.outcomes = []
    assert not draw_curves(results) and not drawn


# What a study compares.


def test_a_comparison_shows_means_seeds_and_intervals():
    (axes,) = plot_comparison(COMPARED).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["SE", "none", "CBAM"]
    # The first row on top.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    drawn = {}
    for line in axes.get_lines():
        found = drawn.setdefault(line.get_label(), [])
        found.append([round(float(x), 9) for x in line.get_xdata()])
    assert drawn == {
        "mean": [[7.25], [8.5], [6.0]],
        "one run": [[7.0, 7.5], [9.0, 8.0], [6.5, 5.5]],
        "mean of the baseline": [[8.5, 8.5]],
        # The interval is drawn from the line of the baseline.
        "95% CI of the difference": [[4.5, 10.0], [6.0, 6.0]],
    }


# What predictions are judged by.


def given(**predictions):
    """Returns results of networks with these predictions for 90 examples."""
    return study.results_of(predictions, LABELS)


LABELS = np.arange(90) % 3
CLASS_SCORES = np.random.default_rng(0).dirichlet([1, 1, 1], (2, 2, 90))


def test_a_second_confusion_matrix_is_drawn_by_its_differences():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    results = given(none=[*CLASS_SCORES[0]], cbam=[*CLASS_SCORES[1]])
    matrices = [results.confusion(name) for name in ("cbam", "none")]
    figure = plot_confusion_change(*matrices, "cbam - none")
    axes, bar = figure.axes
    shares = [
        [
            100
            * np.mean([(x.argmax(axis=1) == y)[LABELS == z] for x in scores])
            for z in range(3)
            for y in range(3)
        ]
        for scores in (CLASS_SCORES[1], CLASS_SCORES[0])
    ]
    expected = np.subtract(*shares)
    drawn = axes.get_images()[0].get_array()
    np.testing.assert_allclose(drawn.ravel(), expected)
    texts = [float(text.get_text()) for text in axes.texts]
    np.testing.assert_allclose(texts, expected, atol=0.0501)
    # More is blue, equally far in both directions.
    low, high = drawn.min(), axes.get_images()[0].get_clim()[1]
    assert axes.get_images()[0].get_clim() == pytest.approx((-high, high))
    assert high == pytest.approx(max(abs(expected)))
    red, _, blue, _ = axes.get_images()[0].to_rgba(high)
    assert blue > red and low < 0
    # Colors do not exaggerate differences below five points.
    same = plot_confusion_change(matrices[0], matrices[0], "")
    assert same.axes[0].get_images()[0].get_clim() == (-5, 5)
    assert {text.get_text() for text in same.axes[0].texts} == {"0"}
    # A class without examples is not divided by zero.
    empty = pandas.DataFrame([[0, 0], [1, 3]], columns=["a", "b"])
    axes, _ = plot_confusion_change(empty, empty, "").axes
    assert np.all(axes.get_images()[0].get_array() == 0)


def test_the_curves_of_all_classes_are_averaged_in_one_panel():
    metrics = pytest.importorskip("sklearn.metrics")
    results = given(none=[*CLASS_SCORES[0]], cbam=[*CLASS_SCORES[1]])
    assert len(plotting.plot_roc(results).axes) >= 3
    (axes,) = plotting.plot_roc(results, macro=True).axes
    for scores, name in zip(CLASS_SCORES, ("none", "cbam"), strict=True):
        (curve,) = [x for x in axes.get_lines() if x.get_label() == name]
        area = np.mean(
            [
                metrics.roc_auc_score(LABELS, x, multi_class="ovr")
                for x in scores
            ]
        )
        # Steps between the points of the grid are cut.
        found = np.trapezoid(curve.get_ydata(), curve.get_xdata())
        assert found == pytest.approx(area, abs=0.01)
