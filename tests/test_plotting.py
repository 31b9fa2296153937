"""All figures: titles, colours, layout; those of results, with their data."""

import copy
import io
import itertools
import sys

import numpy as np
import pytest
from plotting_checks import (
    ABLATED,
    FOREIGN,
    HEAT,
    IMAGES,
    KEYS,
    MAPS,
    ROWS,
    SIGNAL_HEAT,
    SIGNALS,
    TRIALS,
    VOLUME_HEAT,
    VOLUMES,
    ablated,
    panels,
    rows_of,
    trial,
)

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

FIGURES = {
    "history": (plotting.plot_history, ROWS),
    "search": (plotting.plot_search, TRIALS),
    "pareto": (plotting.plot_pareto, TRIALS),
    "ablation": (plotting.plot_ablation, ABLATED),
    "images": (plotting.plot_grad_cam, IMAGES, HEAT),
    "signals": (plotting.plot_grad_cam, SIGNALS, SIGNAL_HEAT),
    "volumes": (plotting.plot_grad_cam, VOLUMES, VOLUME_HEAT),
    "attention": (plotting.plot_attention_maps, IMAGES, MAPS),
}
each_figure = pytest.mark.parametrize(
    ("plot", "given"), [(x[0], x[1:]) for x in FIGURES.values()], ids=FIGURES
)


@each_figure
def test_figures_are_drawn_without_pyplot_under_their_title(
    monkeypatch, plot, given
):
    # With None in its place, importing it would be an error.
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    before = copy.deepcopy(given)
    # Which is no formula, and were a wrong one.
    figure = plot(*given, title=r"$\wrong$ title")
    assert figure.get_suptitle() == r"$\wrong$ title"
    assert figure.canvas.manager is None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=20)
    assert file.getvalue().startswith(b"\x89PNG\r\n\x1a\n")
    # What is drawn stays as it is.
    assert repr(given) == repr(before)


@each_figure
def test_without_matplotlib_the_error_names_the_extra(monkeypatch, plot, given):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[plot\]"'):
        plot(*given)


@pytest.mark.parametrize(
    ("plot", "given", "message"),
    [
        (plotting.plot_history, [], "`rows` must hold at least one epoch"),
        (plotting.plot_search, [], "`trials` must hold .* Received: 0 trials"),
        (plotting.plot_search, TRIALS[-1:], "1 trials, none of them finished"),
        (plotting.plot_search, [trial(0, 0.5)], "must have hyperparameters"),
        (plotting.plot_pareto, TRIALS[-1:], "1 trials, none of them finished"),
        (
            plotting.plot_pareto,
            [trial(0, 0.5, cost=(None, None))],
            "parameters and macs are None",
        ),
        (plotting.plot_ablation, ablated(), "`results` must hold at least one"),
    ],
)
def test_nothing_to_draw_is_refused(plot, given, message):
    with pytest.raises(ValueError, match=message):
        plot(given)


def lines(axes):
    """Returns the points of each line by its label."""
    return {x.get_label(): x.get_xydata().tolist() for x in axes.get_lines()}


def styles(networks):
    """Returns colour, dashes and marker of each network in a history."""
    rows = [row for name in networks for row in rows_of(name, (1, 1, 1, 1))]
    axes = plotting.plot_history(rows).axes[0]
    return {
        name: (line.get_color(), line.get_linestyle(), line.get_marker())
        for name, line in zip(networks, axes.get_lines()[::2], strict=True)
    }


def colours(networks):
    return {name: style[0] for name, style in styles(networks).items()}


def test_a_kind_of_attention_has_one_colour_in_all_figures():
    own = colours(["none", "se", "cbam", "channel", "spatial"])
    assert len(set(own.values())) == 5
    assert colours([*own][::-1]) == own
    names = {
        "SE": "se",
        "resnet50_cbam": "cbam",
        "cbam r=4 k=7": "cbam",
        "channel (avg & max)": "channel",
        "channel + spatial (1x1 conv, k=3)": "cbam",
        "channel & spatial in parallel": "cbam",
    }
    assert {name: colours([name])[name] for name in names} == {
        name: own[kind] for name, kind in names.items()
    }
    # Words within others tell nothing.
    assert not {*colours(["resnet", "senet"]).values()} & {*own.values()}
    trials = [
        trial(i, 0.5 + i / 10, cost=(i + 1, i + 1), attention=name)
        for i, name in enumerate(("cbam", "se", "none"))
    ]
    for plot in (plotting.plot_search, plotting.plot_pareto):
        found = {
            (x.get_label(), x.get_color())
            for axes in plot(trials).axes
            for x in axes.get_lines()
        }
        assert {pair for pair in found if pair[0] in own} == {
            (name, own[name]) for name in ("none", "se", "cbam")
        }
    (axes,) = plotting.plot_ablation(
        ablated((4, "SE", (1.0,), None), (4, "none", (2.0,), None))
    ).axes
    means = [x for x in axes.get_lines() if x.get_label() == "mean"]
    assert [x.get_color() for x in means] == [own["se"], own["none"]]


def test_networks_of_one_colour_or_of_no_kind_can_be_told_apart():
    one, two = styles(["cbam r=4", "cbam r=16"]).values()
    assert one[0] == two[0]
    assert one[1] != two[1] and one[2] != two[2]
    assert len(set(colours(["none", "a", "b", "c", "cbam"]).values())) == 5


def test_hotter_is_lighter_over_images_and_darker_behind_signals():
    for given, sign in (((IMAGES, HEAT), 1), ((SIGNALS, SIGNAL_HEAT), -1)):
        shown = panels(plotting.plot_grad_cam(*given))[1].images[-1]
        colors = shown.get_cmap()(np.linspace(0, 1, 64))
        lightness = colors[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (sign * np.diff(lightness) > 0).all()
        if sign == 1:
            # The image shows through where there is no heat.
            assert colors[0, 3] == 0 and (np.diff(colors[:, 3]) > 0).all()


LONG = "loggerhead, loggerhead turtle, Caretta caretta, of the seas"
GATES = np.ones((2, 64)), np.ones((2, 2, 2))
EXTREMES = {
    "foreign": lambda: plotting.plot_search(FOREIGN, LONG),
    "wide range": lambda: plotting.plot_search(
        [
            *TRIALS,
            trial(6, 0.7, attention="none", learning_rate=0.00025),
            trial(7, 0.7, attention="none", learning_rate=0.1),
        ]
    ),
    "ablation": lambda: plotting.plot_ablation(ABLATED, LONG),
    "heat": lambda: plotting.plot_grad_cam(
        np.zeros((2, 20, 160)),
        {f"{LONG}{i}": np.zeros((2, 20, 160)) for i in range(4)},
        labels=[LONG * 3, "unbreakable" * 12],
        title=LONG * 9,
    ),
    "gates": lambda: plotting.plot_attention_maps(
        np.zeros((2, 32, 32)),
        {f"stage3_block{i}_attention": GATES for i in range(33)},
        labels=[LONG * 9] * 2,
        title=LONG * 9,
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("draw", EXTREMES.values(), ids=EXTREMES)
def test_nothing_overlaps_or_is_clipped(draw):
    figure = draw()
    figure.draw_without_rendering()
    boxes = [x.get_tightbbox() for x in (*figure.axes, *figure.legends)]
    inside = figure.bbox.padded(1)
    assert all(inside.contains(*x.p0) and inside.contains(*x.p1) for x in boxes)
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        ticks = [
            x.get_window_extent()
            for x in axes.get_xticklabels()
            if x.get_text() and low <= x.get_position()[0] <= high
        ]
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(ticks))
    # A pixel more or less is the rounding of letters.
    boxes = [box.padded(-1) for box in boxes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


# Loss and accuracy over the epochs.


def test_a_history_shows_all_numbers_of_its_networks():
    # Rows may alternate between networks.
    figure = plotting.plot_history([ROWS[0], ROWS[2], ROWS[1], ROWS[3]])
    for axes, key, label, scale in zip(
        figure.axes,
        ("loss", "accuracy"),
        ("Loss", "Accuracy (%)"),
        (1, 100),
        strict=True,
    ):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", label)
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
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("none, validation", "none, training"),
        *("cbam, validation", "cbam, training"),
    ]
    validation, training, *_ = axes.get_lines()
    assert validation.get_linewidth() > training.get_linewidth()
    assert validation.get_marker() != "" == training.get_marker()


def test_equal_lines_of_a_history_are_seen_below_each_other():
    first = [[row[key] for key in KEYS] for row in ROWS[:2]]
    # Crosses the others.
    other = [first[0], [row / 2 for row in first[1]]]
    rows = [
        row for name in ("none", "se", "cbam") for row in rows_of(name, *first)
    ]
    for axes in plotting.plot_history([*rows, *rows_of("other", *other)]).axes:
        for split in (0, 1):
            widths = [x.get_linewidth() for x in axes.get_lines()[split::2]]
            assert widths[0] > widths[1] + 1 > widths[2] + 2
            assert widths[2] == widths[3]


# Accuracy against cost.


def front_of(trials, cost):
    """Returns the trials that no other beats, by comparing all pairs.

    Of equal ones it is the first.
    """
    return [
        one
        for one in trials
        if not any(
            (getattr(other, cost), -other.val_accuracy, other.number)
            < (getattr(one, cost), -one.val_accuracy, one.number)
            and other.val_accuracy >= one.val_accuracy
            for other in trials
        )
    ]


def test_the_pareto_front_is_drawn_and_numbered():
    rng = np.random.default_rng(0)
    # So few costs and accuracies that some are equal.
    numbers = rng.integers(1, (20, 15, 15), (40, 3)).tolist()
    trials = [
        trial(i, accuracy / 20, cost=cost, attention="se")
        for i, (accuracy, *cost) in enumerate(numbers)
    ]
    left, right = plotting.plot_pareto(trials).axes
    for axes, cost in ((left, "parameters"), (right, "macs")):
        front = front_of(trials, cost)
        numbers = {int(text.get_text()) for text in axes.texts}
        assert numbers == {t.number for t in front}
        *corners, end = lines(axes)["Pareto front"]
        assert sorted(corners) == sorted(
            [getattr(t, cost), 100 * t.val_accuracy] for t in front
        )
        # It continues to the most expensive trial.
        assert end[0] == max(getattr(t, cost) for t in trials)
        assert len(lines(axes)["se"]) == 40
    assert left.get_ylabel() == "Validation accuracy (%)"
    assert left.get_xlabel() == "Parameters"
    assert right.get_xlabel() == "Multiply-accumulates"


def test_an_unknown_cost_has_no_panel():
    (axes,) = plotting.plot_pareto([trial(0, 0.5, cost=(7, None))]).axes
    assert axes.get_xlabel() == "Parameters"


# The errors of an ablation.


def test_an_ablation_shows_means_seeds_and_intervals_of_each_table():
    figure = plotting.plot_ablation(ABLATED)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Table 1", "Table 4"]
    first, axes = figure.axes
    assert len(first.get_yticklabels()) == 2
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["none", "SE", "CBAM"]
    # The first row on top.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    drawn = {}
    for line in axes.get_lines():
        own = drawn.setdefault(line.get_label(), [])
        own.append([float(x) for x in line.get_xdata()])
    assert drawn == {
        "mean": [[8.5], [7.25], [6.0]],
        "one seed": [[9.0, 8.0], [7.0, 7.5], [6.5, 5.5]],
        "mean of the first row": [[8.5, 8.5]],
        # From the line of the first row.
        "95 % interval of the difference to it": [[4.5, 10.0], [6.0, 6.0]],
    }


def test_one_table_of_an_ablation_is_drawn_into_given_axes():
    matplotlib = pytest.importorskip("matplotlib.figure", reason="makes axes")
    left, right = matplotlib.Figure().subplots(1, 2)
    one = ablated((4, "none", (9.0,), None), (4, "SE", (7.0,), None))
    assert plotting.plot_ablation(one, "mine", ax=right) is right
    assert right.get_title(loc="left") == "mine"
    assert not left.get_lines()
    # Each once, and no interval of one seed.
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert sorted(labels) == ["mean", "mean of the first row", "one seed"]
    with pytest.raises(ValueError, match="the rows of one table"):
        plotting.plot_ablation(ABLATED, ax=left)
