"""All figures without images: nothing overlaps, and one legend names all."""

import itertools
import sys

import pytest
from plotting_checks import ABLATED, FOREIGN, ROWS, TRIALS, trial

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

FIGURES = {
    "history": (plotting.plot_history, ROWS),
    "search": (plotting.plot_search, TRIALS),
    "one_trial": (plotting.plot_search, TRIALS[1:2]),
    "one_panel": (plotting.plot_search, [trial(0, 0.5, units=3)]),
    "foreign": (plotting.plot_search, FOREIGN),
    "pareto": (plotting.plot_pareto, TRIALS),
    "wide_range": (
        plotting.plot_search,
        [
            *TRIALS,
            trial(6, 0.7, attention="none", learning_rate=0.00025),
            trial(7, 0.7, attention="none", learning_rate=0.1),
        ],
    ),
    "ablation": (plotting.plot_ablation, ABLATED),
}


each_figure = pytest.mark.parametrize(
    ("plot", "shown"), FIGURES.values(), ids=FIGURES
)


@each_figure
def test_panels_and_legend_stand_apart_within_the_figure(plot, shown):
    figure = plot(shown, "A title")
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    assert not any(
        min(one.x1, two.x1) - max(one.x0, two.x0) > 1
        and min(one.y1, two.y1) - max(one.y0, two.y0) > 1
        for one, two in itertools.combinations(boxes, 2)
    )
    inside = figure.bbox.padded(1)
    assert all(
        inside.x0 <= box.x0
        and box.x1 <= inside.x1
        and inside.y0 <= box.y0
        and box.y1 <= inside.y1
        for box in boxes
    )


@each_figure
def test_tick_labels_do_not_overlap(plot, shown):
    figure = plot(shown)
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        boxes = [
            label.get_window_extent()
            for label in axes.get_xticklabels()
            if label.get_text() and low <= label.get_position()[0] <= high
        ]
        assert not any(
            one.x1 > two.x0 for one, two in itertools.pairwise(boxes)
        )


@each_figure
def test_figures_have_their_title(plot, shown):
    assert plot(shown, "A title").get_suptitle() == "A title"


@each_figure
def test_the_legend_names_everything_once(plot, shown):
    (legend,) = plot(shown).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names and len(set(names)) == len(names)


@each_figure
def test_without_matplotlib_the_error_names_the_extra(monkeypatch, plot, shown):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[plot\]"'):
        plot(shown)


@each_figure
def test_drawing_needs_no_pyplot(monkeypatch, plot, shown):
    # With None in its place, importing it would be an error.
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    figure = plot(shown)
    assert figure.canvas.manager is None


def test_pyplot_does_not_hold_the_figure():
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="no pyplot here")
    before = pyplot.get_fignums()
    plotting.plot_history(ROWS)
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("rows", [[], ()], ids=["list", "tuple"])
@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (plotting.plot_history, "`rows` must hold at least one epoch"),
        (plotting.plot_search, "`trials` must hold .* Received: 0 trials"),
        (plotting.plot_pareto, "`trials` must hold .* Received: 0 trials"),
    ],
    ids=["history", "search", "pareto"],
)
def test_no_rows_are_refused(rows, plot, message):
    with pytest.raises(ValueError, match=message):
        plot(rows)
