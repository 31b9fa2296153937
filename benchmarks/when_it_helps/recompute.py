"""Recomputes the differences that pages print, by NumPy and SciPy alone.

    python -m benchmarks.when_it_helps.recompute

Reads `results.jsonl` and the pages, not the package, and exits with the lines
that differ. What is printed in sentences is listed in `SENTENCES`, or stands
in the outputs of notebook 03.
"""

import json
import pathlib
import re
import sys

import numpy as np
from scipy import stats

from benchmarks.when_it_helps.titles import TITLES

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = (
    *("README.md", "docs/when-it-helps.md", "docs/which.md"),
    *(
        "benchmarks/when_it_helps/fine_tuning.md",
        "benchmarks/when_it_helps/results.md",
    ),
)
# What commands print is no result of these studies.
PRINTED = re.compile(r"```text\n.*?```", re.S)
TABLE = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- /table -->", re.S)
# A number with a sign, with an interval or both.
IN_SENTENCE = re.compile(
    r"(?<![\w.])(?:[+-]\d+\.\d+(?: ± \d+\.\d+)?|\d+\.\d+ ± \d+\.\d+)"
)
# Gains that notebook 03 has measured, as pages and as the notebook print them.
OF_NOTEBOOK = re.compile(
    r"[+-]\d+\.\d points, interval [+-]\d+\.\d to [+-]\d+\.\d"
)
# Pooled gains of `published`, whose tests compare them.
POOLED = re.compile(
    r"[+-]\d+\.\d+\s\[[+-]\d+\.\d+,\s[+-]\d+\.\d+\]"
    # Its prediction interval.
    r"|(?<!interval )[+-]\d+\.\d to [+-]\d+\.\d(?= points| \|)"
)
VERDICT = re.compile(
    r"(?:by|attention:) (\S+) percentage points [\w ]+"
    r"\(95% CI (\S+) to ([^\s;]+)"
)
# Tables of one study, whose rows are networks.
OF_ONE = {
    **{x: x for x in ("photographs-frozen", "bccd", "camvid")},
    "photographs-frozen-chosen": "photographs-frozen-chosen",
    "stages": "digits-stages",
    "options": "digits",
}
# Tables with other numbers than differences of these studies.
OTHERS = (
    "looking",
    "inserted-digits",
    "published",
    "published-counts",
    "published-sizes",
    "published-without",
)
# Differences in sentences: study, network, what it is compared with, a seed.
SENTENCES = {
    "+1.7 ± 0.4": ("cifar10-pooled", "cbam", "none"),
    "1.7 ± 0.4": ("cifar10-pooled", "cbam", "none"),
    "-0.03 ± 0.20": ("cifar10-pooled", "coordinate", "cbam"),
    "+1.6 ± 0.3": ("cifar10-pooled", "none-longer", "none"),
    "0.8 ± 0.2": ("cifar10-pooled", "se", "none"),
    "+0.18 ± 0.31": ("cifar10-pooled", "cbam", "none-longer"),
    "+1.0 ± 0.3": ("cifar10-pooled", "cbam", "none-20-epochs"),
    "+0.96 ± 0.30": ("cifar10-pooled", "cbam", "none-20-epochs"),
    "+0.41 ± 1.13": ("cifar10-equal-time", "cbam", "none-20-epochs"),
    "+1.15": ("cifar10", "none-wide", "none"),
    "+0.96 ± 1.24": ("cifar10", "cbam", "none-wide"),
    "+1.38 ± 0.66": ("cifar10-again", "cbam", "none"),
    "+0.05 ± 0.49": ("cifar10-again", "cbam", "none-longer"),
    "-0.95 ± 1.02": ("photographs-again", "cbam", "none"),
    "-0.98 ± 1.93": ("photographs-chosen", "cbam", "none"),
    "+2.60 ± 0.33": ("photographs-rates", "none-chosen", "none"),
    "+1.92 ± 1.15": ("photographs-rates", "cbam-chosen", "cbam"),
    "-0.32 ± 1.13": ("solar-cells-again", "cbam", "none"),
    "+0.88 ± 0.40": ("digits", "cbam", "none"),
    "+1.89 ± 0.34": ("digits", "none-wide", "none"),
    "-0.72 ± 0.55": ("articles", "cbam", "none"),
    "+1.11 ± 0.77": ("articles", "none-wide", "none"),
    "-0.40 ± 1.61": ("top-solar-cells-chosen", "cbam-top", "none"),
    "+0.40 ± 3.46": ("top-photographs-chosen", "cbam-top", "none"),
    "+0.55 ± 2.90": ("top-clothes-chosen", "cbam-top", "none"),
    "+0.30 ± 0.69": ("top-digits-chosen", "cbam-top", "none"),
    "+16.1 ± 7.0": ("top-photographs-habit", "cbam-top", "none"),
    "+14.3 ± 8.5": ("top-photographs-habit", "hidden", "none"),
    "0.5 ± 1.2": ("cifar10", "eca", "none"),
    "+0.12 ± 0.53": ("cifar10", "cbam-paper", "none"),
    "-5.7 ± 2.0": ("photographs", "cbam-paper", "none"),
    "5.4 ± 1.7": ("photographs-frozen-chosen", "affine", "cbam"),
    "4.1 ± 1.1": ("photographs-frozen-chosen", "lora", "cbam"),
    "+4.4 ± 3.4": ("photographs-frozen-chosen", "cbam", "none-20-epochs"),
    "+4.8 ± 2.5": ("photographs-frozen-chosen", "se", "none-20-epochs"),
    "+9.8 ± 2.0": ("photographs-frozen-chosen", "affine", "none-20-epochs"),
    "+8.5 ± 3.5": ("photographs-frozen-chosen", "lora", "none-20-epochs"),
    "-17.5 ± 1.8": ("photographs-frozen", "batch-norm", "none"),
    "+0.22 ± 0.38": ("photographs-frozen", "eca", "none"),
    "-0.01 ± 0.64": ("digits-stages", "cbam", "none"),
    "+0.45 ± 0.26": ("digits-stages", "cbam-stage-1,3", "none"),
    "+0.60 ± 0.62": ("digits-stages", "cbam-stage-2,3", "none"),
    "+0.63 ± 1.23": ("camvid", "skip-gate", "none"),
    "+5.9": ("photographs-frozen", "cbam", "none"),
    "+9.4": ("photographs-frozen-chosen", "affine", "none"),
    "+8.1": ("photographs-frozen-chosen", "lora", "none"),
    "+4.4": ("photographs-frozen-chosen", "se", "none"),
    "+4.0": ("photographs-frozen-chosen", "cbam", "none"),
    "+4.01 ± 1.49": ("photographs-frozen-chosen", "cbam", "none"),
    "+9.36 ± 1.10": ("photographs-frozen-chosen", "affine", "none"),
    "+1.5": ("camvid", "none-wide", "none"),
    "+1.67": ("cifar10-converged", "cbam", "none", 0),
    "+1.44": ("cifar10-converged", "cbam", "none", 1),
    "-0.63": ("cifar10-again", "official", "none", 10),
    "-1.29": ("cifar10-again", "official", "none", 11),
}


def read():
    """Returns the studies by name, and two that combine others.

    One has all seeds of CIFAR-10, one the networks at one rate and, with other
    names, at the rates chosen.
    """
    lines = (HERE / "results.jsonl").read_text("utf-8").splitlines()
    studies = {x["study"]: x for x in map(json.loads, lines)}
    again = studies["cifar10-again"]["networks"]
    pooled = dict(studies["cifar10"])
    pooled["networks"] = pooled["networks"] + again
    rates = dict(studies["photographs-one-rate"])
    rates["networks"] = rates["networks"] + [
        x | {"variant": f"{x['variant']}-chosen"}
        for x in studies["photographs-chosen"]["networks"]
    ]
    return studies | {"cifar10-pooled": pooled, "photographs-rates": rates}


def read_notebook():
    """Returns the gains of CBAM that notebook 03 prints, as pages have them."""
    (path,) = ROOT.glob("notebooks/03_*.ipynb")
    return {
        "{:+.1f} points, interval {:+.1f} to {:+.1f}".format(*map(float, gain))
        for gain in VERDICT.findall(path.read_text("utf-8"))
    }


def difference(content, network, baseline="none", seed=None):
    """Returns mean and half width of a difference in points, and the seeds.

    Or the difference of one seed.

    The half width is that of Student's t of the paired differences, by Nadeau
    and Bengio if there are folds.
    """
    measure = content["measures"][0]["key"]
    values = {
        (x["variant"], x["seed"], x.get("fold")): x["metrics"][measure]
        for x in content["networks"]
    }
    both = [run for name, *run in values if name == network]
    both = both if seed is None else [(seed, None)]
    runs = [run for run in both if (baseline, *run) in values]
    changes = np.array(
        [values[network, *run] - values[baseline, *run] for run in runs]
    )
    if len(changes) < 2:
        return 100 * changes.mean(), None, len(runs)
    _, high = stats.ttest_1samp(changes, 0).confidence_interval()
    mean, half = changes.mean(), high - changes.mean()
    if folds := content["settings"].get("folds"):
        half *= np.sqrt(1 + len(changes) / (folds - 1))
    return 100 * mean, 100 * half, len(runs)


def agree(text, mean, half):
    """Returns whether a text has these numbers, as it has rounded them."""
    printed = re.findall(r"[+-]?\d+\.\d+", text)
    numbers = [mean] if len(printed) == 1 else [mean, half]
    # Means may end in a 5.
    return None not in numbers and all(
        abs(float(x) - number) <= 0.501 * 10 ** -len(x.partition(".")[2])
        for x, number in zip(printed, numbers, strict=True)
    )


def cells_of(table):
    """Yields the cells of a table, by the headings of row and column."""
    lines = [x for x in table.splitlines() if x.startswith("|")]
    rows = [[x.strip() for x in line.split("|")[1:-1]] for line in lines]
    headings = rows[0]
    for row in rows[2:]:
        for heading, cell in zip(headings[1:], row[1:], strict=True):
            yield headings[0], row[0], heading, cell


def differences(text):
    """Yields the differences of a page: their text, study and networks."""
    names = {title: name for name, title in TITLES.items()}
    for table, content in TABLE.findall(text):
        if table in OTHERS:
            continue
        for first, row, column, cell in cells_of(content):
            title, _, count = column.rpartition(", ")
            if table in OF_ONE:
                study, network = OF_ONE[table], names[row]
                is_difference = column == "difference in points"
            elif first == "data":
                study, network = names[row], names.get(column)
                is_difference = network is not None
            else:
                study, network = names[title], names[row]
                is_difference = network != "none" and bool(count)
            if not is_difference or not cell:
                continue
            yield cell, study, network, "none"
    for pattern in (PRINTED, TABLE, OF_NOTEBOOK, POOLED):
        text = pattern.sub("", text)
    for found in IN_SENTENCE.findall(text):
        # A network "lost 5.7 points".
        key = f"-{found}" if f"-{found}" in SENTENCES else found
        yield (key, *SENTENCES.get(key, ()))


def mismatches(text, studies):
    """Returns the differences of a page that are not the recomputed ones.

    And how many there are.
    """
    gains = OF_NOTEBOOK.findall(text)
    number, known = len(gains), read_notebook()
    wrong = [f"{x} is not in notebook 03" for x in gains if x not in known]
    for printed, *source in differences(text):
        number += 1
        if not source:
            wrong.append(f"{printed} is not among `SENTENCES`")
            continue
        study, *compared = source
        mean, half, seeds = difference(studies[study], *compared)
        told = re.search(r"\((\d+) seeds?\)", printed)
        # Two seeds have no interval.
        if (
            not agree(printed.partition(" (")[0], mean, half)
            or ("±" in printed and seeds < 3)
            or (told and int(told[1]) != seeds)
        ):
            wrong.append(
                f"{printed} in {study} of {', '.join(map(str, compared))}: "
                f"{mean:+.3f} ± {half} over {seeds} seeds"
            )
    return wrong, number


def main():
    studies, numbers, wrong = read(), 0, []
    for page in PAGES:
        found, number = mismatches((ROOT / page).read_text("utf-8"), studies)
        wrong += [f"{page}: {x}" for x in found]
        numbers += number
    print(f"{numbers} differences recomputed, {len(wrong)} are not as printed")
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
