"""The figure of a training shows the losses and accuracies of its networks."""

import numpy as np
import pytest
from plotting_checks import ROWS

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")


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
    scale = 100 if "accuracy" in key else 1
    assert lines[f"{network}, {split}"] == [
        [row["epoch"], pytest.approx(scale * row[key])]
        for row in ROWS
        if row["network"] == network
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
        ("Epoch", "Accuracy (%)"),
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


def test_equal_lines_are_seen_below_each_other():
    rows = [
        {**row, "network": network}
        for network in ("none", "se", "cbam")
        for row in ROWS[:2]
    ]
    rows += [{**row, "network": "other"} for row in ROWS[2:]]
    for axes in plotting.plot_history(rows).axes:
        lines = axes.get_lines()
        for split in ("validation", "training"):
            widths = [
                line.get_linewidth()
                for line in lines
                if split in line.get_label()
            ]
            assert widths[0] > widths[1] + 1 > widths[2] + 2
            assert widths[2] == widths[3]


def test_lines_that_merely_cross_are_not_wider():
    rows = [dict(row) for row in ROWS]
    rows[2]["val_loss"] = rows[0]["val_loss"]
    lines = plotting.plot_history(rows).axes[0].get_lines()
    assert len({line.get_linewidth() for line in lines[::2]}) == 1
