"""What published comparisons of attention say together.

    python -m benchmarks.when_it_helps published

`published.csv` has a row for each comparison that was read in a public text:
where, on how many test images, without attention and with it. Only accuracies
whose test images are known are pooled. The variance of a paired difference does
not follow from two accuracies. The variance of unpaired proportions is its
upper bound unless networks disagree more than by chance, and the disagreement
that `agreement.csv` has at this accuracy gives another.
"""

import csv
import dataclasses
import itertools
import pathlib
import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.measured import markdown
from benchmarks.when_it_helps import results
from benchmarks.when_it_helps.pooling import (
    Effect,
    Pooled,
    mean_and_spread,
    pool,
    simulate,
)
from cbam_keras.explain.figures import style

HERE = pathlib.Path(__file__).parent
STORED = HERE / "published.csv"
AGREEMENT = HERE / "agreement.csv"
# All others are pooled as one.
KINDS = ("SE", "CBAM", "ECA", "coordinate", "BAM")
STARTS = {
    "scratch": "from scratch",
    "pretrained": "pretrained",
    "": "initialization not reported",
}
# Test images from above the first number to the second.
SIZES = {
    "up to 2,000 test images": (0, 2_000),
    "2,001 to 49,999": (2_000, 49_999),
    "50,000 (ImageNet)": (49_999, 10**9),
}
# Measures that are drawn as points.
UNPOOLED = {
    "detection, segmentation": ("mAP", "mAP@.5", "box AP", "mIoU"),
    "F1, AUC": ("F1", "macro-F1", "AUC"),
}
LOOKS = {
    "unpaired": {"color": style.COLORS["none"], "shift": -0.17},
    "our disagreement": {"color": style.COLORS["cbam"], "shift": 0.17},
}
# Gains beyond are drawn at the edge.
EDGE = 6
# Limits of a normal distribution with 95 % of it between them.
NORMAL = 1.96


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison; `none` and `with_attention` are in percent."""

    source: str
    version: str
    year: str
    network: str
    data: str
    test_images: int | None
    start: str
    measure: str
    none: float
    with_attention: float
    kind: str
    seeds: int | None
    # How many times the text was read, the second time later.
    readings: int
    read: str

    @property
    def gain(self) -> float:
        """The difference in points."""
        return self.with_attention - self.none

    @property
    def is_pooled(self) -> bool:
        return self.measure == "accuracy" and self.test_images is not None

    @property
    def group(self) -> str:
        """The kind of attention, or `"other"` for a rare one."""
        return self.kind if self.kind in KINDS else "other"


def read() -> list[Row]:
    """Returns all comparisons."""
    rows = []
    with STORED.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            cells["with_attention"] = cells.pop("with")
            numbers = {
                "none": float(cells["none"]),
                "with_attention": float(cells["with_attention"]),
                "test_images": int(cells["test_images"] or 0) or None,
                "seeds": int(cells["seeds"] or 0) or None,
                "readings": int(cells["readings"]),
            }
            rows.append(Row(**cells | numbers))
    return rows


def unpaired_variance(row: Row) -> float:
    """Returns the variance of the gain of unpaired proportions."""
    proportions = row.none / 100, row.with_attention / 100
    total = sum(p * (1 - p) for p in proportions)
    return 100**2 * total / row.test_images


def disagreement_shares() -> tuple[np.ndarray, np.ndarray]:
    """Returns accuracies, and how much two networks of these disagree.

    As a fraction of the disagreement of independent networks,
    `p1 q1 + p2 q2`, for each epoch of a network without attention and one with
    CBAM that were trained with the same seed.
    """
    points = []
    with AGREEMENT.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            (first, one), (second, other) = (
                cells[x].split() for x in ("first", "second")
            )
            if (first, second, one) != ("none", "cbam", other):
                continue
            images = int(cells["images"])
            alone = [int(cells[f"only {x} right"]) for x in ("first", "second")]
            both = int(cells["both right"])
            proportions = [(both + x) / images for x in alone]
            chance = sum(p * (1 - p) for p in proportions)
            share = sum(alone) / images / chance
            points.append((statistics.mean(proportions), share))
    return tuple(np.array(sorted(points)).T)


def paired_variance(row: Row, share: float) -> float:
    """Returns the variance of a paired gain.

    `share` is the disagreement as a fraction of that of independent networks.
    """
    difference = row.gain**2 / row.test_images
    return max(share * unpaired_variance(row), difference) - difference


def variances() -> dict[str, Callable[[Row], float]]:
    """Returns the two variances of a row by their names."""
    accuracies, shares = disagreement_shares()
    slope, constant = np.polyfit(accuracies, shares, 1)

    def paired(row):
        accuracy = (row.none + row.with_attention) / 200
        return paired_variance(row, constant + slope * accuracy)

    return {"unpaired": unpaired_variance, "our disagreement": paired}


def seed_deviation() -> float:
    """Returns how much gains spread over seeds in our studies, in points.

    The median of the standard deviations of paired differences from no
    attention, of all networks and studies with three seeds or more on the same
    test images.
    """
    deviations = []
    for content in results.stored().values():
        if content["settings"].get("folds"):
            continue
        accuracies = {
            (x["variant"], x["seed"]): x["metrics"].get("test_accuracy")
            for x in content["networks"]
        }
        others = {x for x, _ in accuracies if not x.startswith("none")}
        for variant in sorted(others):
            gains = [
                accuracy - accuracies["none", seed]
                for (name, seed), accuracy in accuracies.items()
                if name == variant and accuracies.get(("none", seed))
            ]
            if len(gains) > 2:
                deviations.append(100 * statistics.stdev(gains))
    return statistics.median(deviations)


def effects(rows, variance) -> list[Effect]:
    """Returns one effect of a source for each kind of attention.

    It has the median gain and variance of its rows, however many networks and
    data the source compares.
    """
    collected = {}
    for row in rows:
        collected.setdefault((row.source, row.kind), []).append(row)
    return [
        Effect(
            source,
            statistics.median(row.gain for row in group),
            statistics.median(variance(row) for row in group),
        )
        for (source, _), group in collected.items()
    ]


def groups(rows):
    """Returns the rows of each group that is pooled, by its title."""
    by_kind = {
        kind: [row for row in rows if row.group == kind]
        for kind in (*KINDS, "other")
    }
    by_start = {
        title: [row for row in rows if row.start == start]
        for start, title in STARTS.items()
    }
    return {"all": rows, **by_kind, **by_start}


def groups_by_size(rows):
    """Returns the rows of each size of test set, by its title."""
    return {
        title: [row for row in rows if low < row.test_images <= high]
        for title, (low, high) in SIZES.items()
    }


def pooled(rows):
    """Returns the pooled effects by group and variance."""
    rows = [row for row in rows if row.is_pooled]
    return {
        title: {
            name: pool(effects(group, variance))
            for name, variance in variances().items()
        }
        for title, group in (groups(rows) | groups_by_size(rows)).items()
    }


def exceed(rows):
    """Returns how many gains exceed what images, and one seed, allow."""
    claims = [row for row in rows if row.is_pooled and row.gain > 0]
    deviation = seed_deviation()
    counts = {"claimed": len(claims)}
    for name, variance in variances().items():
        limits = {
            "images": lambda row, v=variance: v(row),
            "images and one seed": lambda row, v=variance: (
                v(row) + deviation**2 / (row.seeds or 1)
            ),
        }
        for what, limit in limits.items():
            above = [x.gain > NORMAL * limit(x) ** 0.5 for x in claims]
            counts[f"{what}, {name}"] = sum(above)
    return counts


def interval(found: Pooled) -> str:
    """Returns the mean with its interval, unless it is undecided."""
    if found.is_decided:
        return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    return f"undecided: {found.sources} sources"


def of_new(found: Pooled) -> str:
    """Returns the prediction interval of a new comparison."""
    if not found.is_decided:
        return ""
    return f"{found.new_low:+.1f} to {found.new_high:+.1f}"


def _line(title, found):
    """Returns the line of a group in a table."""
    unpaired = found["unpaired"]
    return {
        "comparisons": title,
        "sources": str(unpaired.sources),
        "effects": str(unpaired.effects),
        "mean gain": interval(unpaired),
        "a new comparison": of_new(unpaired),
        "mean gain, paired variance": interval(found["our disagreement"]),
    }


def table() -> str:
    """Returns the gains pooled by kind of attention, and by start."""
    rows = read()
    found = pooled(rows)
    return markdown([_line(title, found[title]) for title in groups(rows)])


def table_by_size() -> str:
    """Returns the gains pooled by the number of test images."""
    found = pooled(read())
    return markdown([_line(title, found[title]) for title in SIZES])


def table_without_sources() -> str:
    """Returns the means whose sign depends on one source, without it."""
    rows = read()
    lines = []
    for title, found in pooled(rows).items():
        unpaired = found["unpaired"]
        for source in unpaired.deciding_sources:
            images = {
                row.test_images
                for row in rows
                if row.source == source and row.is_pooled
            }
            lines.append(
                {
                    "comparisons": title,
                    "mean gain": f"{unpaired.mean:+.2f}",
                    "without the source": source,
                    "its test images": ", ".join(map(str, sorted(images))),
                    "mean gain without it": f"{unpaired.without[source]:+.2f}",
                }
            )
    return markdown(lines)


def counted() -> str:
    """Returns what is in the file, and how many gains exceed their limits."""
    rows = read()
    used = [row for row in rows if row.is_pooled]
    lines = {
        "comparisons": len(rows),
        "sources": len({row.source for row in rows}),
        "pooled": len(used),
        "of sources": len({row.source for row in used}),
        "with several seeds": len([x for x in used if (x.seeds or 1) > 1]),
        "gains below zero": len([row for row in used if row.gain < 0]),
        "spread over our seeds (points)": f"{seed_deviation():.2f}",
        **{f"gains above the limit of {k}": n for k, n in exceed(rows).items()},
    }
    rows = [{"what": x, "number": str(y)} for x, y in lines.items()]
    return markdown(rows)


def draw_pooled(axes, rows):
    """Draws the pooled gains, and single ones as points."""
    used = [row for row in rows if row.is_pooled]
    found = pooled(rows)
    labels = []
    for place, (title, group) in enumerate(groups(used).items()):
        single = effects(group, unpaired_variance)
        draw_points(axes, place, [effect.gain for effect in single])
        for name, look in LOOKS.items():
            result = found[title][name]
            height = place + look["shift"]
            axes.plot(
                [result.new_low, result.new_high],
                [height] * 2,
                color=look["color"],
                lw=0.8,
                ls=":",
            )
            axes.plot(
                [result.low, result.high],
                [height] * 2,
                color=look["color"],
                lw=2,
            )
            axes.plot(
                result.mean,
                height,
                "D",
                color=look["color"],
                label=f"pooled, variance: {name}",
            )
        labels.append(f"{title} ({len(single)})")
    for title, measures in UNPOOLED.items():
        gains = [row.gain for row in rows if row.measure in measures]
        draw_points(axes, len(labels), gains)
        labels.append(f"{title} ({len(gains)})")
    axes.axvline(0, color="0.35", lw=1)
    axes.axhline(len(labels) - len(UNPOOLED) - 0.5, color="0.8", lw=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(-EDGE, EDGE)
    axes.set_xlabel("Gain by attention in percentage points")
    axes.set_title(
        "Mean gains with 95% confidence intervals by source\n"
        "(dotted: 95% prediction interval of a new comparison)",
        fontsize=9,
    )
    style.style_axes(axes, "x")


def draw_points(axes, place, gains):
    """Draws gains in one line; those beyond the edge are triangles there."""
    inside = [gain for gain in gains if abs(gain) <= EDGE]
    look = {"color": "0.55", "alpha": 0.5, "ms": 4, "linestyle": ""}
    label = "one source and kind (or one row, below)"
    axes.plot(inside, [place] * len(inside), "o", label=label, **look)
    for gain in set(gains) - set(inside):
        side = 1 if gain > 0 else -1
        marker = ">" if side > 0 else "<"
        axes.plot(side * EDGE * 0.98, place, marker, **look | {"ms": 7})


def draw_funnel(axes, rows):
    """Draws each effect by its standard error."""
    used = [row for row in rows if row.is_pooled]
    found = effects(used, unpaired_variance)
    gains = np.array([effect.gain for effect in found])
    errors = np.array([effect.variance for effect in found]) ** 0.5
    mean, _ = mean_and_spread(found)
    depths = np.geomspace(errors.min() * 0.8, errors.max() * 1.2, 100)
    for side in (-1, 1):
        axes.plot(mean + side * NORMAL * depths, depths, "--", color="0.6")
    axes.axvline(mean, color=LOOKS["unpaired"]["color"], lw=1)
    axes.axvline(0, color="0.35", lw=1)
    inside = np.abs(gains) <= EDGE
    axes.plot(gains[inside], errors[inside], "o", color="0.4", ms=4, alpha=0.6)
    for gain, error in zip(gains[~inside], errors[~inside], strict=True):
        marker = ">" if gain > 0 else "<"
        edge = np.sign(gain) * EDGE * 0.98
        axes.plot(edge, error, marker, color="0.4", ms=7, alpha=0.6)
    axes.set_yscale("log")
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.set_xlim(-EDGE, EDGE)
    axes.set_ylabel("Standard error of unpaired proportions (points)")
    axes.set_xlabel("Gain by attention in percentage points")
    axes.set_title("Funnel plot, with its mean", fontsize=10)
    style.style_axes(axes, "both")


def figure():
    """Returns a figure of the pooled gains, and a funnel plot."""
    rows = read()
    drawn = style.new_figure(10, 5.2, "")
    left, right = drawn.subplots(1, 2, width_ratios=(1.15, 1))
    draw_pooled(left, rows)
    draw_funnel(right, rows)
    style.add_legend(drawn, [left], columns=3)
    return drawn


def print_coverage() -> None:
    """Prints the coverage with the sources and variances of the file."""
    rows = [row for row in read() if row.is_pooled]
    for title, few in (("all sources", 10**9), ("10 sources", 10)):
        of_source = itertools.groupby(
            effects(rows, unpaired_variance), key=lambda x: x.source
        )
        kept = [[*group] for _, group in of_source][:few]
        for between, within in ((0, 1), (0.5, 0.5), (1, 0), (1, 1)):
            shares = simulate(
                [len(group) for group in kept],
                [effect.variance for group in kept for effect in group],
                between,
                within,
                seed=len(kept),
            )
            print(
                f"{title}, spread {between} between and {within} within "
                f"sources: the mean's interval covers {shares['mean']:.0%}, "
                f"the prediction interval {shares['new']:.0%}",
                flush=True,
            )
