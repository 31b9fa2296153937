"""What the studies measured, as tables of the pages."""

import functools

from benchmarks.measured import markdown
from benchmarks.when_it_helps import published, results
from benchmarks.when_it_helps.titles import TITLES
from cbam_keras.explain.figures import style
from cbam_keras.study.results import learning
from cbam_keras.study.results.statistics import holm


def difference(row, none, digits=2):
    """Returns the difference of a network to no attention, in points."""
    if row is None or row.difference is None:
        return ""
    text = f"{100 * row.difference:+.{digits}f}"
    # Fewer seeds tell too little of the next one.
    if row.pairs > 2 and row.interval is not None:
        half = 50 * (row.interval[1] - row.interval[0])
        text += f" ± {half:.{digits}f}"
    if row.pairs < len(none.values):
        text += f" ({row.pairs} seed{'s' * (row.pairs > 1)})"
    return text


def differences(names, variants):
    """Returns differences to no attention, a row for each study."""
    rows, studies = [], results.studies()
    for name in names:
        study = results.results_of(studies[name])
        found = study.compared()
        none = found["none"]
        row = {
            "data": TITLES[name],
            "seeds": f"{len(none.values)}{' folds' * bool(study.folds)}",
            "none (%)": f"{100 * none.mean:.2f}",
        }
        cells = {TITLES[x]: difference(found.get(x), none) for x in variants}
        rows.append(row | cells)
    return markdown(rows)


def gains(names, variants):
    """Returns differences to no attention as one number each, by study.

    Bold if significant by Holm's correction; two seeds are too few to test.
    """
    rows, studies = [], results.studies()
    for name in names:
        study = results.results_of(studies[name])
        found = study.compared()
        tested = {x: y.p_value for x, y in found.items() if y.pairs > 2}
        significant = holm(tested)
        none = found["none"]
        row = {
            "data": TITLES[name],
            "seeds": f"{len(none.values)}{' folds' * bool(study.folds)}",
            "none (%)": f"{100 * none.mean:.2f}",
        }
        for variant in variants:
            compared = found.get(variant)
            text = f"{100 * compared.difference:+.2f}" if compared else ""
            if variant in significant:
                text = f"**{text}**"
            row[TITLES[variant]] = text
        rows.append(row)
    return markdown(rows)


def by_network(names, variants):
    """Returns differences to no attention, a column for each study."""
    studies = results.studies()
    rows = {x: {"network": TITLES[x]} for x in ("none", *variants)}
    for name in names:
        study = results.results_of(studies[name])
        found = study.compared()
        none = found["none"]
        unit = "folds" if study.folds else "seeds"
        heading = f"{TITLES[name]}, {len(none.values)} {unit}"
        for variant in variants:
            rows[variant][heading] = difference(found.get(variant), none)
        rows["none"][heading] = f"{100 * none.mean:.2f}%"
    return markdown([*rows.values()])


def networks(name, shown=None, weights=""):
    """Returns the networks of a study, with measures and differences.

    `weights` is the heading of a column with their number, if any.
    """
    found = results.results_of(results.stored()[name])
    first, *others = found.measures
    compared = {x: found.compared(x) for x in found.measures}
    rows, none = [], compared[first]["none"]
    numbers = {row.variant: f"{row.parameters:,}" for row in found.rows}
    for network in filter(compared[first].get, shown or SHOWN):
        row = compared[first][network]
        cells = {
            "network": TITLES[network],
            **({weights: numbers[network]} if weights else {}),
            f"{first.heading} (%)": f"{100 * row.mean:.{first.digits}f}",
            "difference in points": difference(row, none, first.digits),
        }
        for measure in others:
            mean = compared[measure][network].mean
            text = f"{100 * mean:.{measure.digits}f}"
            cells[f"{measure.heading} (%)"] = text
        rows.append(cells)
    return markdown(rows)


def still_learning(found):
    """Returns the networks that may not have finished learning.

    A further training at a higher learning rate would decide it.
    """
    return [*learning.find_slow(found.runs)]


def studies():
    """Returns the differences of all studies, and what may learn more."""
    stored = results.stored()
    parts = []
    for name, content in stored.items():
        if name.startswith("top-"):
            continue
        networks = still_learning(results.results_of(content))
        if networks:
            listed = " and ".join(TITLES[x] for x in networks)
            parts.append(f"{TITLES[name]} ({listed})")
    table = differences((*MEASURED, *MORE), ALL)
    slow = "; ".join(parts)
    return f"{table}\n\nMay not have finished learning: {slow}."


def forest():
    """Returns a figure of the gains of CBAM and of plain controls.

    Filled markers are of significant gains.
    """
    drawn = style.new_figure(4.9, 6.4, "")
    axes = drawn.subplots()
    axes.axvline(0, color="0.35", lw=1)
    studies, labels = results.studies(), []
    for place, (name, heading) in enumerate(FOREST.items()):
        study = results.results_of(studies[name])
        rows = study.compared()
        unit = "folds" if study.folds else "seeds"
        count = f"{len(rows['none'].values)} {unit}"
        labels.append(f"{heading}\n{study.measures[0].heading}, {count}")
        networks = [x for x in DRAWN_AS if x in rows]
        # Two seeds tell too little.
        tested = {x: y.p_value for x, y in rows.items() if y.pairs > 2}
        significant = holm(tested)
        for line, network in enumerate(networks):
            row, look = rows[network], DRAWN_AS[network]
            height = place + 0.24 * (line - (len(networks) - 1) / 2)
            color = look["color"]
            if network in tested:
                ends = [100 * end for end in row.interval]
                axes.plot(ends, [height] * 2, color=color)
            axes.plot(
                100 * row.difference,
                height,
                **look,
                linestyle="",
                markerfacecolor=color if network in significant else "white",
                label=TITLES[network],
            )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("Percentage points above no attention")
    style.style_axes(axes, "x")
    legend = style.add_legend(drawn, [axes], columns=1)
    for handle in legend.legend_handles:
        handle.set_markerfacecolor(handle.get_color())
    return drawn


TOP = tuple(
    f"top-{x}" for x in ("solar-cells", "photographs", "clothes", "digits")
)
ON_TOP = (
    *(f"{x}-top" for x in ("se", "cbam", "channel", "spatial", "eca")),
    *("coordinate-top", "hidden", "low-rank", "last-affine"),
)
FINE_TUNED = ("photographs-again", "solar-cells-again")
FROM_SCRATCH = ("cifar10-pooled", "cifar10-converged")
OF_CIFAR10 = ("cifar10", "cifar10-again", *FROM_SCRATCH)
MEASURED = (*FINE_TUNED, "camvid", "bccd", *OF_CIFAR10)
DRAWN = ("digits", "articles", "fashion")
TUNED = ("tuned-stage1", "tuned-stage2")
MORE = (*DRAWN, "few")
SLOW = ("none-longer", "none-wide")
SHOWN = ("none", "se", "cbam", "cbam-paper", "coordinate", *SLOW)
INSERTED = ("se", "spatial", "cbam", "cbam-paper", "eca", "coordinate")
ALL = (*INSERTED, *SLOW)
CHOSEN = ("se-top", "cbam-top", "coordinate-top", "hidden")
FEW_WEIGHTS = (
    *("none", "none-20-epochs", "se", "cbam", "coordinate", "hidden"),
    *("affine", "lora"),
)
STAGES = ("1", "2", "3", "1,2", "1,3", "2,3")
PLACES = ("none", *(f"cbam-stage-{x}" for x in STAGES), "cbam")
IN_UNET = ("none", "se", "cbam", "eca", "coordinate", "none-wide")
SETTINGS = ("not-normalized", "r2", "r8", "r16", "k3", "k5")
OPTIONS = (
    *("none", "cbam", "channel", "spatial-first", "parallel"),
    *(f"cbam-{x}" for x in SETTINGS),
)
# The studies of the figure, in few words.
FOREST = {
    "cifar10-pooled": "CIFAR-10",
    "cifar10-converged": "CIFAR-10, 60 epochs",
    "digits": "digits among clutter",
    "articles": "clothing among clutter",
    "fashion": "Fashion-MNIST",
    "few": "Fashion-MNIST, 1,800 images",
    "photographs-again": "CIFAR-10 at 96 px, fine-tuned",
    "solar-cells-again": "solar cells, fine-tuned",
    "photographs-frozen-chosen": "CIFAR-10 at 96 px, frozen",
    "bccd": "blood cells, detection",
    "camvid": "streets, segmentation",
}
DRAWN_AS = {
    "cbam": {"color": style.COLORS["cbam"], "marker": "o"},
    "none-longer": {"color": style.COLORS["spatial"], "marker": "^"},
    "none-wide": {"color": "0.45", "marker": "s"},
}
TABLES = {
    "inserted": functools.partial(
        differences, TUNED, ("spatial", "cbam", "cbam-not-normalized")
    ),
    "from-scratch": functools.partial(
        by_network,
        FROM_SCRATCH,
        ("se", "cbam", "coordinate", "none-20-epochs", *SLOW),
    ),
    "photographs-frozen": functools.partial(
        networks, "photographs-frozen", FEW_WEIGHTS, "weights that are trained"
    ),
    "photographs-frozen-chosen": functools.partial(
        networks, "photographs-frozen-chosen", FEW_WEIGHTS
    ),
    "photographs-rates": functools.partial(
        by_network, ("photographs-one-rate", "photographs-chosen"), ("cbam",)
    ),
    "top": functools.partial(by_network, TOP, ON_TOP),
    "top-chosen": functools.partial(
        by_network, [f"{x}-chosen" for x in TOP], CHOSEN
    ),
    "top-habit": functools.partial(
        by_network,
        [f"{x}-habit" for x in TOP[:2]],
        ("cbam-top", "hidden"),
    ),
    "stages": functools.partial(networks, "digits-stages", PLACES),
    "options": functools.partial(networks, "digits", OPTIONS),
    "own": functools.partial(
        gains, FOREST, (*SLOW, "se", "cbam", "coordinate")
    ),
    "published": published.table,
    "published-sizes": published.table_by_size,
    "published-without": published.table_without_sources,
    "published-counts": published.counted,
    "studies": studies,
    "bccd": functools.partial(networks, "bccd"),
    "camvid": functools.partial(networks, "camvid", IN_UNET),
}
