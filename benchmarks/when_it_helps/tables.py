"""What the studies measured, as tables of the pages."""

import dataclasses
import functools
import statistics
import types

from benchmarks.measured import markdown
from benchmarks.when_it_helps import results
from benchmarks.when_it_helps.titles import TITLES
from cbam_keras import plotting


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
    rows, studies = [], results.stored()
    for name in names:
        study = results.results_of(studies[name])
        found = study.compared()
        none = found["none"]
        row = {
            "data": TITLES[name],
            "seeds": f"{len(none.values)}{' folds' * bool(study.folds)}",
            "none (%)": f"{100 * none.mean:.2f}",
        }
        # Each study has one plain network that takes as long or longer.
        slow = next((x for x in SLOW if x in found), None)
        found["none-slow"] = found.get(slow)
        cells = {TITLES[x]: difference(found.get(x), none) for x in variants}
        rows.append(row | cells)
    return markdown(rows)


def by_network(names, variants):
    """Returns differences to no attention, a column for each study."""
    studies = results.stored()
    rows = {x: {"network": TITLES[x]} for x in ("none", *variants)}
    for name in names:
        study = results.results_of(studies[name])
        found = study.compared()
        none = found["none"]
        unit = "folds" if study.folds else "seeds"
        heading = f"{TITLES[name]}, {len(none.values)} {unit}"
        for variant in variants:
            rows[variant][heading] = difference(found.get(variant), none)
        rows["none"][heading] = f"{100 * none.mean:.2f} %"
    return markdown([*rows.values()])


def while_frozen(names, variants):
    """Returns validation accuracies after the frozen epochs.

    In points above no attention, and in how many trainings these were higher,
    equal and lower.
    """
    rows = {x: {"network": TITLES[x]} for x in variants}
    for name in names:
        found = results.results_of(results.stored()[name])
        last = found.settings["recipe"]["frozen_epochs"] - 1
        accuracies = {
            (run.variant, run.seed): run.history[last]["val_accuracy"]
            for run in found.runs
        }
        images = found.sizes["validation"]
        heading = f"{TITLES[name]}, {images} validation images"
        for variant in variants:
            # Equal accuracies of float32 differ by less than an image.
            changes = [
                round(images * (accuracies[variant, x] - accuracies["none", x]))
                for x in found.seeds
            ]
            mean = 100 * statistics.mean(changes) / images
            higher = sum(x > 0 for x in changes)
            lower = sum(x < 0 for x in changes)
            counts = f"{higher}, {changes.count(0)}, {lower}"
            rows[variant][heading] = f"{mean:+.1f} ({counts})"
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
    """Returns the networks that had not converged in the last epochs."""
    names = []
    for name in found.variants:
        runs = [x.history for x in found.runs if x.variant == name]
        if not any(runs):
            continue
        shown = ("val_accuracy", "val_miou", "loss")
        key = next(x for x in shown if x in runs[0][0])
        epochs = zip(*([row[key] for row in run] for run in runs), strict=True)
        means = [*map(statistics.mean, epochs)]
        last = means[-1] - means[-1 - len(means) // 4]
        # The last quarter of a converged network brings less than a tenth.
        if abs(last) >= 0.1 * abs(means[-1] - means[0]):
            names.append(name)
    return names


def studies():
    """Returns the differences of all studies, and what had not converged."""
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
    return f"{table}\n\nNot converged: {'; '.join(parts)}."


def figure(name):
    """Returns a figure of the networks of a study, in words."""
    found = results.results_of(results.stored()[name])
    rows = [
        dataclasses.replace(row, label=TITLES[row.variant])
        for row in found.rows
    ]
    drawn = plotting.plot_ablation(
        types.SimpleNamespace(
            rows=rows,
            measures=[*found.measures],
            comparisons=found.comparisons,
        )
    )
    # The caption says it; a small figure has letters that a telephone shows.
    for legend in drawn.legends:
        legend.remove()
    drawn.set_size_inches(5.4, 4.2)
    return drawn


TOP = ("top-solar-cells",)
ON_TOP = (
    *(f"{x}-top" for x in ("se", "cbam", "channel", "spatial", "eca")),
    *("coordinate-top", "hidden", "low-rank", "last-affine"),
)
FINE_TUNED = ("photographs", "solar-cells")
FROM_SCRATCH = ("cifar10", "cifar10-again", "cifar10-converged")
MEASURED = (*FINE_TUNED, "camvid", "bccd", *FROM_SCRATCH)
DRAWN = ("digits", "articles", "fashion")
TUNED = ("tuned-stage1", "tuned-stage2")
MORE = (*DRAWN, "few")
SLOW = ("none-longer", "none-wide")
SHOWN = ("none", "se", "cbam", "cbam-paper", "coordinate", *SLOW)
INSERTED = ("se", "spatial", "cbam", "cbam-paper", "eca", "coordinate")
WIDE = ("spatial", "cbam", "none-slow")
ALL = (*INSERTED, *SLOW)
FEW_WEIGHTS = ("none", "se", "cbam", "affine", "lora")
STAGES = ("1", "2", "3", "1,2", "1,3", "2,3")
PLACES = ("none", *(f"cbam-stage-{x}" for x in STAGES), "cbam")
IN_UNET = ("none", "se", "cbam", "eca", "coordinate", "none-wide")
SETTINGS = ("not-normalized", "r2", "r8", "r16", "k3", "k5")
OPTIONS = (
    *("none", "cbam", "channel", "spatial-first", "parallel"),
    *(f"cbam-{x}" for x in SETTINGS),
)
TABLES = {
    "differences": functools.partial(
        by_network, DRAWN[:2], ("se", "cbam", "none-wide")
    ),
    "differences-short": functools.partial(
        differences, (*FINE_TUNED, "bccd", "cifar10", *DRAWN[:2]), WIDE
    ),
    "fine-tuning": functools.partial(
        by_network, FINE_TUNED, ("se", "cbam", "coordinate", "none-longer")
    ),
    "while-frozen": functools.partial(while_frozen, FINE_TUNED, INSERTED),
    "inserted": functools.partial(
        differences, TUNED, ("spatial", "cbam", "cbam-not-normalized")
    ),
    "from-scratch": functools.partial(
        by_network, FROM_SCRATCH, ("se", "cbam", "coordinate", *SLOW)
    ),
    "photographs-frozen": functools.partial(
        networks, "photographs-frozen", FEW_WEIGHTS, "weights that are trained"
    ),
    "top": functools.partial(by_network, TOP, ON_TOP),
    "stages": functools.partial(networks, "digits-stages", PLACES),
    "options": functools.partial(networks, "digits", OPTIONS),
    "studies": studies,
    "bccd": functools.partial(networks, "bccd"),
    "camvid": functools.partial(networks, "camvid", IN_UNET),
}
