"""What the studies measured, as tables of the pages."""

import functools
import statistics

from benchmarks.measured import TITLES as MEASURED_TITLES
from benchmarks.measured import markdown
from benchmarks.when_it_helps import results
from benchmarks.when_it_helps.plans import KINDS

TITLES = MEASURED_TITLES | {
    "cbam-paper": "CBAM, the paper's initialization",
    "cbam-not-normalized": "CBAM, not normalized",
    "none-wide": "no attention, 25 % more channels",
    "none-longer": "no attention, trained for longer",
    "official": "CBAM, the authors' layer",
    "affine": "factors and offsets of its batch normalization",
    "batch-norm": "its batch normalization, averages too",
    "skip-gate": "attention gates on the skips",
    "lora": "LoRA of rank 1 on its convolutions, but depthwise",
    **{
        f"cbam-stage-{x}": f"CBAM in stage {x.replace(',', ' and ')}"
        for x in ("1", "2", "3", "1,2", "1,3", "2,3")
    },
    "photographs-frozen": "photographs of CIFAR-10, pretrained, frozen",
    "digits-stages": "digits among clutter, stages",
    "none-slow": "no attention, wider or trained for longer",
    "digits": "digits among clutter",
    "articles": "clothing among clutter",
    "fashion": "Fashion-MNIST",
    "few": "Fashion-MNIST, 1,800 training images",
    "cifar10": "CIFAR-10 from scratch",
    "cifar10-again": "the same, new seeds",
    "cifar10-converged": "the same, 60 epochs",
    "photographs": "photographs of CIFAR-10, pretrained network",
    "solar-cells": "solar cells, pretrained network",
    "camvid": "CamVid, U-Net",
    "bccd": "blood cells, detection",
    "tuned-stage1": "Fashion-MNIST, pretrained network, new layers",
    "tuned-stage2": "the same, then all layers",
}


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


def networks(name, shown=None, weights=""):
    """Returns the networks of a study, with measures and differences.

    `weights` is the heading of a column with their number, if any.
    """
    found = results.results_of(results.stored()[name])
    frozen = found.settings.get("recipe", {}).get("frozen_epochs")
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
        if frozen and first.key == "test_accuracy":
            best = [
                run.history[frozen - 1]["val_accuracy"]
                for run in found.runs
                if run.variant == network and run.history
            ]
            text = f"{100 * statistics.mean(best):.1f}"
            cells["validation accuracy after the frozen epochs (%)"] = text
        rows.append(cells)
    return markdown(rows)


def changed():
    """Returns how many test images change sides between two networks."""
    rows = []
    for name, content in results.stored().items():
        found = results.results_of(content)
        for network, (seeds, both, error) in content.get("changes", {}).items():
            text = correlation = ""
            # Fewer seeds hardly tell what they have in common.
            if seeds > 2:
                text = f"{100 * error:.2f}"
                pairs = [
                    found.values(x, "test_accuracy") for x in ("none", network)
                ]
                shared = sorted(pairs[0].keys() & pairs[1].keys())
                values = [[pair[seed] for seed in shared] for pair in pairs]
                correlation = f"{statistics.correlation(*values):+.2f}"
            rows.append(
                {
                    "study": TITLES[name],
                    "network": TITLES[network],
                    "seeds": str(seeds),
                    "change sides (%)": f"{100 * both:.1f}",
                    "error by drawing the images (points)": text,
                    "correlation over seeds": correlation,
                }
            )
    return markdown(rows)


def curves(found):
    """Returns means over the seeds by epoch, and what had not converged."""
    lines = []
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
        is_converged = abs(last) < 0.1 * abs(means[-1] - means[0])
        end = "" if is_converged else ", not converged"
        curve = " ".join(f"{x:.3f}" for x in means)
        lines.append(f"- {name}, {key} by epoch: {curve}{end}")
    return "\n".join(lines)


def studies():
    """Returns tables and learning curves of all that is stored."""
    parts = []
    for name, content in results.stored().items():
        found = results.results_of(content)
        parts += [f"### {name}", found.markdown(), curves(found)]
    return "\n\n".join(filter(None, parts))


FINE_TUNED = ("photographs", "solar-cells")
MEASURED = (*FINE_TUNED, "camvid", "bccd", "cifar10")
DRAWN = ("digits", "articles", "fashion")
TUNED = ("tuned-stage1", "tuned-stage2")
SLOW = ("none-longer", "none-wide")
SHOWN = ("none", "se", "cbam", "official", "coordinate", *SLOW)
WIDE = ("spatial", "cbam", "none-slow")
FEW_WEIGHTS = ("none", "se", "cbam", "eca", "affine", "batch-norm", "lora")
STAGES = ("1", "2", "3", "1,2", "1,3", "2,3")
PLACES = ("none", *(f"cbam-stage-{x}" for x in STAGES), "cbam")
IN_UNET = ("none", "se", "cbam", "eca", "coordinate", "skip-gate", "none-wide")
TABLES = {
    "differences": functools.partial(differences, DRAWN, ("se", *WIDE)),
    "differences-short": functools.partial(
        differences, (*FINE_TUNED, "bccd", "cifar10", *DRAWN[:2]), WIDE
    ),
    "differences-by-kind": functools.partial(differences, MEASURED, KINDS[1:]),
    "inserted": functools.partial(
        differences, TUNED, ("spatial", "cbam", "cbam-not-normalized")
    ),
    "from-scratch": functools.partial(
        differences,
        ("cifar10", "cifar10-again", "cifar10-converged"),
        ("se", "cbam", "official", "coordinate", "none-longer"),
    ),
    "changed": changed,
    "photographs-frozen": functools.partial(
        networks, "photographs-frozen", FEW_WEIGHTS, "weights that are trained"
    ),
    "stages": functools.partial(
        networks, "digits-stages", PLACES, "parameters"
    ),
    "studies": studies,
    **{name: functools.partial(networks, name) for name in MEASURED},
    "camvid": functools.partial(networks, "camvid", IN_UNET, "parameters"),
}
