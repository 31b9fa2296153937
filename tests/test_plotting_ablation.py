"""The figure of an ablation shows means, seeds and intervals by table."""

from types import SimpleNamespace

import pytest
from plotting_checks import ABLATED

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")


def test_an_ablation_without_rows_is_refused():
    with pytest.raises(ValueError, match="`results` must hold at least one"):
        plotting.plot_ablation(SimpleNamespace(rows=[]))


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


def test_one_table_is_drawn_into_given_axes():
    pyplot = pytest.importorskip("matplotlib.figure", reason="makes axes")
    left, right = pyplot.Figure().subplots(1, 2)
    own = SimpleNamespace(rows=[x for x in ABLATED.rows if x.table == 4])
    assert plotting.plot_ablation(own, "mine", ax=right) is right
    assert right.get_title(loc="left") == "mine"
    assert len(right.get_yticklabels()) == 3
    assert not left.get_lines()
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert len(labels) == len(set(labels)) == 4
    with pytest.raises(ValueError, match="the rows of one table"):
        plotting.plot_ablation(ABLATED, ax=left)
