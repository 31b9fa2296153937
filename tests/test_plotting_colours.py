"""A kind of attention has one colour in all figures."""

from types import SimpleNamespace

import pytest
from plotting_checks import ROWS, trial

from cbam_keras import plotting
from cbam_keras.plotting.style import STYLES, kind_of, styles_of

pytest.importorskip("matplotlib", reason="figures need matplotlib")

KINDS = ["none", "se", "cbam", "channel", "spatial"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", "none"),
        ("SE", "se"),
        ("CBAM", "cbam"),
        ("resnet50_cbam", "cbam"),
        ("cbam r=4 k=7", "cbam"),
        ("channel (avg & max)", "channel"),
        ("channel + spatial (1x1 conv, k=3)", "cbam"),
        ("channel & spatial in parallel", "cbam"),
        ("spatial", "spatial"),
        ("resnet", None),
        ("senet", None),
    ],
)
def test_a_name_tells_its_kind(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("names", [KINDS, KINDS[::-1], KINDS[2:3]])
def test_a_kind_has_its_colour_whatever_stands_beside_it(names):
    found = styles_of(names)
    assert {n: found[n]["color"] for n in names} == {
        name: STYLES[name]["color"] for name in names
    }
    assert len({style["color"] for style in STYLES.values()}) == len(KINDS)


def test_several_of_a_kind_differ_in_dashes_and_markers():
    one, two = styles_of(["cbam r=4", "cbam r=16"]).values()
    assert one["color"] == two["color"] == STYLES["cbam"]["color"]
    assert one["linestyle"] != two["linestyle"]
    assert one["marker"] != two["marker"]


def test_other_names_do_not_take_the_colour_of_a_kind_beside_them():
    found = styles_of(["none", "a", "b", "c", "cbam"])
    assert len({style["color"] for style in found.values()}) == 5


def test_all_figures_agree():
    """The line, the points, and the row of each kind."""
    names = ["none", "cbam"]
    trials = [
        trial(i, 0.5 + i / 10, cost=(i + 1, i + 1), attention=name)
        for i, name in enumerate(["cbam", "none"])
    ]
    rows = [
        SimpleNamespace(
            table=1,
            attention=name,
            top1_error=float(i),
            top1_errors=(float(i),),
            interval=None,
        )
        for i, name in enumerate(names)
    ]
    colors = {
        line.get_label().partition(",")[0]: line.get_color()
        for plot, given in (
            (plotting.plot_history, ROWS),
            (plotting.plot_search, trials),
            (plotting.plot_pareto, trials),
        )
        for line in plot(given).axes[0].get_lines()
        if line.get_label().partition(",")[0] in names
    }
    means = [
        line.get_color()
        for line in plotting.plot_ablation(SimpleNamespace(rows=rows))
        .axes[0]
        .get_lines()
        if line.get_label() == "mean"
    ]
    expected = [STYLES[name]["color"] for name in names]
    assert [colors[name] for name in names] == expected
    assert means == expected
