"""Figures show the data they are given."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

KEYS = ("loss", "accuracy", "val_loss", "val_accuracy")


def _rows(network, values):
    """Returns an epoch for each row of four numbers."""
    return [
        {
            "network": network,
            "epoch": epoch,
            **dict(zip(KEYS, row, strict=True)),
        }
        for epoch, row in enumerate(values, 1)
    ]


ROWS = [
    *_rows("none", [(2.3, 0.1, 2.2, 0.12), (2.0, 0.2, 2.1, 0.18)]),
    *_rows("cbam", [(1.9, 0.3, 1.8, 0.35), (1.0, 0.6, 1.5, 0.5)]),
]


def _lines(figure, panel):
    """Returns the points of each line of a panel, by its label."""
    return {
        line.get_label(): line.get_xydata().tolist()
        for line in figure.axes[panel].get_lines()
    }


@pytest.mark.parametrize(
    ("panel", "split", "key"),
    [
        (0, "training", "loss"),
        (0, "validation", "val_loss"),
        (1, "training", "accuracy"),
        (1, "validation", "val_accuracy"),
    ],
    ids=["loss", "val_loss", "accuracy", "val_accuracy"],
)
@pytest.mark.parametrize("network", ["none", "cbam"])
def test_lines_hold_the_numbers_of_their_network(network, panel, split, key):
    lines = _lines(plotting.plot_history(ROWS), panel)
    assert lines[f"{network}, {split}"] == [
        [row["epoch"], row[key]] for row in ROWS if row["network"] == network
    ]


@pytest.mark.parametrize("panel", [0, 1], ids=["loss", "accuracy"])
def test_there_are_two_lines_per_network_and_no_others(panel):
    assert len(_lines(plotting.plot_history(ROWS), panel)) == 4


def test_rows_may_alternate_between_networks():
    alternating = [ROWS[0], ROWS[2], ROWS[1], ROWS[3]]
    assert _lines(plotting.plot_history(alternating), 0) == _lines(
        plotting.plot_history(ROWS), 0
    )


def test_axes_are_labelled():
    axes = plotting.plot_history(ROWS).axes
    assert [(a.get_xlabel(), a.get_ylabel()) for a in axes] == [
        ("Epoch", "Loss"),
        ("Epoch", "Accuracy"),
    ]


def test_the_legend_names_each_line_once():
    figure = plotting.plot_history(ROWS)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "none, validation",
        "none, training",
        "cbam, validation",
        "cbam, training",
    ]


def test_networks_differ_in_colour_dashes_and_markers():
    lines = plotting.plot_history(ROWS).axes[0].get_lines()
    first, second = (line for line in lines if "validation" in line.get_label())
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() != second.get_marker()


def test_validation_is_bold_with_markers_and_training_thin_without():
    validation, training = plotting.plot_history(ROWS[:2]).axes[0].get_lines()
    assert validation.get_linewidth() > training.get_linewidth()
    assert validation.get_marker() not in ("", "None")
    assert training.get_marker() in ("", "None")


def test_more_networks_than_styles_are_all_drawn():
    networks = [f"network{index}" for index in range(7)]
    rows = [{**ROWS[0], "network": network} for network in networks]
    figure = plotting.plot_history(rows)
    assert len(_lines(figure, 0)) == 14


def test_epochs_are_whole_numbers_on_the_axis():
    figure = plotting.plot_history(ROWS)
    figure.draw_without_rendering()
    ticks = np.asarray(figure.axes[0].get_xticks())
    np.testing.assert_array_equal(ticks, np.round(ticks))


@pytest.mark.parametrize(
    ("title", "shown"),
    [({}, ""), ({"title": "digits, seed 0"}, "digits, seed 0")],
    ids=["none", "given"],
)
def test_the_title_stands_over_the_figure(title, shown):
    assert plotting.plot_history(ROWS, **title).get_suptitle() == shown


def test_a_figure_can_be_saved(tmp_path):
    plotting.plot_history(ROWS).savefig(tmp_path / "figure.png")
    content = (tmp_path / "figure.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")


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


def test_an_ablation_without_rows_is_refused():
    with pytest.raises(ValueError, match="`results` must hold at least one"):
        plotting.plot_ablation(SimpleNamespace(rows=[]))


def trial(number, accuracy, outcome="finished", cost=(1000, 50000), **values):
    return SimpleNamespace(
        number=number,
        values=values,
        outcome=outcome,
        val_accuracy=accuracy,
        parameters=cost[0],
        macs=cost[1],
    )


CBAM = {"attention": "cbam", "reduction_ratio": 16, "kernel_size": 7}
TRIALS = [
    trial(0, 0.80, attention="none", learning_rate=0.001),
    trial(1, 0.90, **CBAM, order="parallel", learning_rate=0.02),
    trial(2, 0.94, **CBAM, order="channel_first", learning_rate=0.01),
    trial(
        3,
        0.70,
        **{**CBAM, "kernel_size": 3, "reduction_ratio": 8},
        order="parallel",
        learning_rate=0.003,
    ),
    trial(4, 0.85, attention="se", reduction_ratio=8, learning_rate=0.01),
    trial(5, None, "diverged", attention="se", reduction_ratio=32),
]
FOREIGN = [
    trial(
        number,
        0.5 + number / 100,
        **{f"flag{flag}": bool(number % 2) for flag in range(10)},
        units=8 * number + 8,
        kind=f"unbreakable{number % 6}",
        a_long_name_of_a_hyperparameter_of_mine="a long choice, the only one",
    )
    for number in range(30)
]
ABLATED = SimpleNamespace(
    rows=[
        SimpleNamespace(
            table=table,
            attention=attention,
            top1_error=float(np.mean(errors)),
            top1_errors=errors,
            interval=interval,
        )
        for table, attention, errors, interval in (
            (1, "none", (9.0, 8.0), None),
            (1, "channel (avg & max)", (7.0, 8.0), (-7.35, 5.35)),
            (4, "none", (9.0, 8.0), None),
            (4, "SE", (7.0, 7.5), (-4.0, 1.5)),
            (4, "CBAM", (6.5, 5.5), (-2.5, -2.5)),
        )
    ]
)


def panel(figure, name):
    """Returns the one panel with points over a hyperparameter."""
    (found,) = (
        axes
        for axes in figure.axes
        if axes.get_xlabel() == name and not axes.images
    )
    return found


def points(axes):
    """Returns the points of each kind of attention, by its label."""
    return {
        line.get_label(): line.get_xydata()
        for line in axes.get_lines()
        if line.get_label() not in ("mean", "Pareto front")
    }


def ticks(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def cells(figure):
    """Returns the texts of the map, by kernel size and reduction ratio."""
    (axes,) = (axes for axes in figure.axes if axes.images)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    return {
        (rows[int(y)], ticks(axes)[int(x)]): text.get_text().split("\n")
        for text in axes.texts
        for x, y in [text.get_position()]
    }


@pytest.mark.parametrize(
    ("trials", "names"),
    [
        (
            TRIALS,
            {
                "attention",
                "learning_rate",
                "reduction_ratio",
                "kernel_size",
                "order",
            },
        ),
        (TRIALS[:1], {"attention", "learning_rate"}),
    ],
    ids=["search", "one_trial"],
)
def test_each_hyperparameter_has_a_panel(trials, names):
    figure = plotting.plot_search(trials)
    found = [axes.get_xlabel() for axes in figure.axes if not axes.images]
    assert sorted(found) == sorted(names)


def test_a_choice_has_its_trials_over_its_name_and_their_mean():
    axes = panel(plotting.plot_search(TRIALS), "order")
    assert ticks(axes) == ["channel_\nfirst", "parallel"]
    drawn = sorted((round(x), y) for x, y in points(axes)["cbam"])
    assert drawn == [
        (0, pytest.approx(94)),
        (1, pytest.approx(70)),
        (1, pytest.approx(90)),
    ]
    means = [line for line in axes.get_lines() if line.get_label() == "mean"]
    assert [(*m.get_xdata(), *m.get_ydata()) for m in means] == [
        pytest.approx((-0.32, 0.32, 94, 94)),
        pytest.approx((0.68, 1.32, 80, 80)),
    ]


def test_numbers_to_choose_from_stand_in_their_order():
    axes = panel(plotting.plot_search(TRIALS), "reduction_ratio")
    assert ticks(axes) == ["8", "16"]
    assert [round(x) for x, _ in points(axes)["se"]] == [0]


def test_numbers_from_a_range_stand_where_they_are():
    axes = panel(plotting.plot_search(TRIALS), "learning_rate")
    np.testing.assert_allclose(
        points(axes)["cbam"], [[0.02, 90], [0.01, 94], [0.003, 70]]
    )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.001, 0.02), "log"),
        ((0.001, 0.009), "linear"),
        ((0.0, 5.0), "linear"),
    ],
    ids=["wide", "narrow", "zero"],
)
def test_an_axis_is_logarithmic_from_a_factor_of_ten_on(values, scale):
    trials = [trial(i, 0.5, rate=rate) for i, rate in enumerate(values)]
    axes = panel(plotting.plot_search(trials), "rate")
    assert axes.get_xscale() == scale


def test_only_finished_trials_are_drawn():
    figure = plotting.plot_search(TRIALS)
    drawn = points(panel(figure, "attention"))
    assert sum(map(len, drawn.values())) == 5
    figure = plotting.plot_pareto(TRIALS)
    assert [
        len(np.concatenate([*points(a).values()])) for a in figure.axes
    ] == [
        5,
        5,
    ]


@pytest.mark.parametrize("plot", [plotting.plot_search, plotting.plot_pareto])
def test_a_kind_of_attention_looks_the_same_in_all_panels(plot):
    looks = {}
    for axes in plot(TRIALS).axes:
        for line in axes.get_lines():
            if line.get_label() in ("none", "se", "cbam"):
                look = line.get_color(), line.get_marker()
                looks.setdefault(line.get_label(), set()).add(look)
    assert [len(found) for found in looks.values()] == [1, 1, 1]
    assert len(set.union(*looks.values())) == 3


def test_the_map_shows_means_and_counts_by_ratio_and_kernel():
    assert cells(plotting.plot_search(TRIALS)) == {
        ("7", "16"): ["cbam", "92.0 %", "n = 2"],
        ("3", "8"): ["cbam", "70.0 %", "n = 1"],
        ("7", "8"): ["cbam", "no trial"],
        ("3", "16"): ["cbam", "no trial"],
        ("no gate", "8"): ["se", "85.0 %", "n = 1"],
        ("no gate", "16"): ["se", "no trial"],
        ("no gate", "no gate"): ["none", "80.0 %", "n = 1"],
    }


def test_the_map_sets_spatial_attention_beside_its_kernel_size():
    spatial = trial(6, 0.6, attention="spatial", kernel_size=3)
    found = cells(plotting.plot_search([TRIALS[1], spatial]))
    assert found["3", "no gate"] == ["spatial", "60.0 %", "n = 1"]
    assert found["7", "no gate"] == ["spatial", "no trial"]


def test_the_map_of_one_kind_does_not_repeat_its_name():
    found = cells(plotting.plot_search(TRIALS[1:3]))
    assert found == {("7", "16"): ["92.0 %", "n = 2"]}


@pytest.mark.parametrize(
    "trials",
    [FOREIGN, [TRIALS[0], TRIALS[4]], TRIALS[:1]],
    ids=["foreign", "no_cbam", "none_only"],
)
def test_without_both_hyperparameters_there_is_no_map(trials):
    figure = plotting.plot_search(trials)
    assert not any(axes.images for axes in figure.axes)


def _front(trials, cost):
    """Returns the numbers that no other beats, by comparing all pairs.

    Of equal ones it is the first.
    """
    return {
        one.number
        for one in trials
        if not any(
            (getattr(other, cost), -other.val_accuracy, other.number)
            < (getattr(one, cost), -one.val_accuracy, one.number)
            and other.val_accuracy >= one.val_accuracy
            for other in trials
        )
    }


@pytest.mark.parametrize("index", [0, 1], ids=["parameters", "macs"])
def test_the_pareto_front_is_drawn_and_numbered(index):
    rng = np.random.default_rng(0)
    trials = [
        # So few costs and accuracies that some are equal.
        trial(i, accuracy / 20, cost=tuple(map(int, costs)), attention="se")
        for i, (accuracy, costs) in enumerate(
            zip(
                map(int, rng.integers(20, size=40)),
                rng.integers(1, 15, (40, 2)),
                strict=True,
            )
        )
    ]
    cost = ("parameters", "macs")[index]
    front = _front(trials, cost)
    axes = plotting.plot_pareto(trials).axes[index]
    assert {int(text.get_text()) for text in axes.texts} == front
    (line,) = (x for x in axes.get_lines() if x.get_label() == "Pareto front")
    corners = {
        (getattr(t, cost), 100 * t.val_accuracy)
        for t in trials
        if t.number in front
    }
    assert set(map(tuple, line.get_xydata()[:-1])) == corners
    assert line.get_drawstyle() == "steps-post"
    # It goes on to the dearest trial.
    assert line.get_xdata()[-1] == max(getattr(t, cost) for t in trials)


@pytest.mark.parametrize(
    ("most", "scale"),
    [(12000, "log"), (8000, "linear")],
    ids=["wide", "narrow"],
)
def test_costs_are_logarithmic_from_a_factor_of_ten_on(most, scale):
    trials = [trial(0, 0.5), trial(1, 0.6, cost=(most, 50000))]
    left, right = plotting.plot_pareto(trials).axes
    assert (left.get_xscale(), right.get_xscale()) == (scale, "linear")
    assert left.get_ylabel() == "Validation accuracy (%)"
    assert [left.get_xlabel(), right.get_xlabel()] == [
        "Parameters",
        "Multiply-accumulates",
    ]


def test_an_unknown_cost_has_no_panel():
    (axes,) = plotting.plot_pareto([trial(0, 0.5, cost=(7, None))]).axes
    assert axes.get_xlabel() == "Parameters"
    with pytest.raises(ValueError, match="parameters and macs are None"):
        plotting.plot_pareto([trial(0, 0.5, cost=(None, None))])


@pytest.mark.parametrize("plot", [plotting.plot_search, plotting.plot_pareto])
def test_a_search_without_a_finished_trial_is_refused(plot):
    with pytest.raises(ValueError, match="1 trials, none of them finished"):
        plot(TRIALS[-1:])


def test_what_had_one_value_in_all_trials_has_no_panel():
    trials = [
        trial(number, 0.5 + number / 10, units=8, rate=number)
        for number in range(3)
    ]
    (axes,) = plotting.plot_search(trials).axes
    assert axes.get_xlabel() == "rate"
    # Unless nothing varies.
    assert len(plotting.plot_search(trials[:1]).axes) == 2


def test_a_search_without_hyperparameters_is_refused():
    with pytest.raises(ValueError, match="`trials` must have hyperparameters"):
        plotting.plot_search([trial(0, 0.5)])


@pytest.mark.parametrize(
    ("index", "names"),
    [(0, ["none", "channel (avg & max)"]), (1, ["none", "SE", "CBAM"])],
    ids=["table_1", "table_4"],
)
def test_an_ablation_has_a_panel_per_table_with_its_rows(index, names):
    axes = plotting.plot_ablation(ABLATED).axes
    assert len(axes) == 2
    own = axes[index]
    assert own.get_title(loc="left") == ["Table 1", "Table 4"][index]
    assert [label.get_text() for label in own.get_yticklabels()] == names
    # The first row on top.
    assert own.get_ylim()[0] > own.get_ylim()[1]


def test_an_ablation_shows_means_seeds_and_intervals():
    axes = plotting.plot_ablation(ABLATED).axes[1]
    drawn = {}
    for line in axes.get_lines():
        drawn.setdefault(line.get_label(), []).append(line.get_xdata())
    assert [list(x) for x in drawn["mean"]] == [[8.5], [7.25], [6.0]]
    assert [list(x) for x in drawn["one seed"]] == [
        [9.0, 8.0],
        [7.0, 7.5],
        [6.5, 5.5],
    ]
    assert [list(x) for x in drawn["mean of the first row"]] == [[8.5, 8.5]]
    # From the line of the first row.
    (label,) = (label for label in drawn if label.startswith("95 %"))
    assert [list(x) for x in drawn[label]] == [[4.5, 10.0], [6.0, 6.0]]


def test_an_ablation_of_one_seed_has_no_intervals():
    rows = [
        SimpleNamespace(**{**vars(row), "interval": None})
        for row in ABLATED.rows
    ]
    figure = plotting.plot_ablation(SimpleNamespace(rows=rows))
    labels = {x.get_label() for axes in figure.axes for x in axes.get_lines()}
    assert not any(label.startswith("95 %") for label in labels)


FIGURES = {
    "history": (plotting.plot_history, ROWS),
    "search": (plotting.plot_search, TRIALS),
    "one_trial": (plotting.plot_search, TRIALS[1:2]),
    "one_panel": (plotting.plot_search, [trial(0, 0.5, units=3)]),
    "foreign": (plotting.plot_search, FOREIGN),
    "pareto": (plotting.plot_pareto, TRIALS),
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
