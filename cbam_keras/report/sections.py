"""What the page says of each kind of run."""

import pathlib
from collections.abc import Callable
from typing import Any

from cbam_keras import ablation, study
from cbam_keras.report.explanations import FILE, add_explanations
from cbam_keras.report.page import Figure, Page, Table

Part = Callable[[Page, pathlib.Path, dict[str, Any]], None]

RESUME = "The same command resumes the run."
# What each kind of run asks, of its network and its data.
QUESTIONS = {
    "train": "Does attention improve the accuracy of the network {} on {}?",
    "study": "How do the networks compare on {1}?",
    "ablate": "Which parts of CBAM lower the error of the network {} on {}?",
    "detect": "Does attention in the backbone {} improve detection on {}?",
    "tune": "Which attention suits the network {} on {}, and does it improve "
    "the accuracy?",
}
# Further measures of networks, and their headings.
MEASURES = {
    "val_accuracy": "validation accuracy (%)",
    "map50": "mAP@.5 (%)",
    "map75": "mAP@.75 (%)",
    "small": "small (%)",
    "medium": "medium (%)",
    "large": "large (%)",
}
MEANS = {
    "accuracy": "accuracy (%)",
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
}
# Files with figures: what they show, which is their caption.
FIGURES = {
    "curves.png": "Loss and accuracy over the epochs, a line per network. Thin "
    "lines: training images. Bold lines with markers: validation images.",
    "comparison.png": "Means, seeds, and the intervals of the differences to "
    "the baseline, drawn from its mean (dashed).",
    "ablation.png": "Test errors by table. Where an interval does not touch "
    "the line of the first row, the difference excludes zero.",
    "detections.png": "The objects in test images, and what each detector of "
    "the first seed finds there with 50 % confidence or more.",
    "effects.png": "Validation accuracy by the value of each hyperparameter; a "
    "point is a trial.",
    "pareto.png": "Validation accuracy against parameters and "
    "multiply-accumulates. On the line no other trial is as accurate at a "
    "lower cost.",
}


def question(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The question."""
    settings = content["settings"]
    data = next(iter(settings["data"].values()))
    subject = settings.get("model", "your own"), data["name"]
    page.title = "{}: {} on {}".format(content["kind"], *subject)
    page.question = QUESTIONS[content["kind"]].format(*subject)
    sizes = ", ".join(f"{n:,} {split}" for split, n in data["sizes"].items())
    page.facts |= {
        "data": str(data["name"]),
        "images": sizes,
        "data fingerprint": str(data.get("fingerprint", "unknown")),
        "seeds": ", ".join(settings["data"]),
    }


def networks(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    results = study.Results.of(folder, content)
    page.verdict = "Nothing is known yet: no network is trained."
    if results.finished:
        _compare(page, results, 1 if content["kind"] == "detect" else 2)
    # Not of all runs.
    name = "comparison.png"
    if (folder / name).exists():
        page.figures.append(Figure.read(folder / name, FIGURES[name]))
    unfinished(page, folder, content)


def _compare(page, results, digits):
    """Adds the table of what has been trained, and the verdict."""
    baseline, measure = results.baseline, results.measure_name
    measured = results.compared()
    page.verdict = results.verdict
    if baseline is not None:
        page.verdict = study.verdict(measured, baseline, measure, digits)
    further = {
        heading: found
        for key, heading in MEASURES.items()
        if (found := results.compared(key))
    }
    rows = []
    for row in results.rows:
        if row.measured is None:
            continue
        cells = {
            "network": row.variant,
            f"{measure} (%)": row.measured.mean_cell(digits),
        }
        if baseline is not None:
            difference = row.measured.difference_cell(digits)
            cells[f'difference to "{baseline}"'] = difference
        for heading, found in further.items():
            one = found.get(row.variant)
            cells[heading] = one.mean_cell(digits) if one else ""
        cells["parameters"] = _text("{:,}", row.parameters)
        cells["seconds per epoch"] = _text("{:.1f}", row.seconds_per_epoch)
        if len(results.seeds) > 1:
            values = [f"{100 * v:.{digits}f}" for v in row.measured.values]
            cells["seeds"] = ", ".join(map(str, row.seeds))
            cells["each seed (%)"] = ", ".join(values)
        rows.append(cells)
    title = "Networks, one seed"
    note = f"Measured on the same {results.sizes['test']:,} test images."
    if len(results.seeds) > 1:
        title = f"Networks, mean over {len(results.seeds)} seeds"
        note += " In brackets: the 95 % interval of a difference."
    page.tables.append(Table(title, rows, note))


def unfinished(page: Page, folder: pathlib.Path, content: dict) -> None:
    """What is not trained yet, and what did not finish."""
    results = study.Results.of(folder, content)
    known = {(outcome.variant, outcome.seed) for outcome in results.outcomes}
    for seed in results.seeds:
        absent = [n for n in results.variants if (n, seed) not in known]
        if absent:
            page.missing.append(
                f"Not trained yet: {', '.join(absent)} (seed {seed}). {RESUME}"
            )
    failed = [
        {
            "network": outcome.variant,
            "seed": str(outcome.seed),
            "status": outcome.status,
            "message": str(outcome.message or ""),
        }
        for outcome in results.outcomes
        if not outcome.finished
    ]
    if failed:
        note = "They are left out of the means."
        page.tables.append(Table("Networks that did not finish", failed, note))


def tables(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The tables."""
    results = ablation.results_of(
        study.Results.of(folder, content),
        content.get("tables", ()),
        str(content["settings"]["model"]),
    )
    page.verdict = "Nothing is known yet: no table is finished."
    if results.rows:
        page.verdict = results.verdict
    for title, columns, rows, note in results.tables() if results.rows else ():
        cells = [dict(zip(columns, row, strict=True)) for row in rows]
        page.tables.append(Table(title, cells, note))


def search(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    page.verdict = content.get("verdict") or "Nothing is confirmed yet."
    page.code = content.get("code") or ""
    if "verdict" not in content:
        page.missing.append(f"The search is not finished. {RESUME}")
    rows = content.get("confirmation") or ()
    if rows:
        page.tables.append(_confirmation(rows))
    trials = content.get("trials") or _trials_so_far(content)
    if trials:
        page.tables.append(_trials(trials))


def _confirmation(rows):
    seeds = ", ".join(map(str, rows[0]["seeds"]))
    return Table(
        f"Confirmation: trained again, mean over seeds {seeds}",
        [
            {
                "trial": str(row["trial"]),
                "network": row["compared"]["network"],
                "test accuracy (%)": _text("{:.2f}", row["test_accuracy"], 100),
                "difference to none (points)": _text(
                    "{:+.2f}", row["difference"], 100
                ),
                "95 % interval": " to ".join(
                    _text("{:+.2f}", end, 100) for end in row["interval"] or ()
                ),
            }
            for row in rows
        ],
        "The highest of many accuracies is partly luck, so the best "
        "configurations and the controls are trained again from fresh seeds. "
        "The verdict is of these.",
    )


def _trials_so_far(content):
    values = content["settings"]["variants"]
    return [
        {
            **cell,
            "number": number,
            "values": values[cell["variant"]],
            "outcome": cell["status"],
            "val_accuracy": cell["metrics"].get("val_accuracy"),
            "epochs": len(cell["history"]),
        }
        for number, cell in enumerate(content["cells"], start=1)
    ]


def _trials(trials):
    # What is the same in all trials says nothing.
    varying = [
        key
        for key in dict.fromkeys(key for t in trials for key in t["values"])
        if not key.startswith("tuner/")
        and len({str(t["values"][key]) for t in trials if key in t["values"]})
        > 1
    ]
    ranked = sorted(trials, key=lambda trial: -(trial["val_accuracy"] or 0))
    return Table(
        "Trials",
        [
            {
                "trial": str(trial["number"]),
                **{
                    key.replace("_", " "): str(trial["values"].get(key, ""))
                    for key in varying
                },
                "validation accuracy (%)": _text(
                    "{:.2f}", trial["val_accuracy"], 100
                ),
                "epochs": str(trial["epochs"]),
                "parameters": _text("{:,}", trial["parameters"]),
                "MMACs": _text("{:,.4g}", trial["macs"], 1e-6),
                "seconds": _text("{:.1f}", trial["seconds"]),
                "outcome": ": ".join(
                    filter(None, (trial["outcome"], trial["message"]))
                ),
            }
            for trial in ranked
        ],
    )


def _text(form, value, factor=1):
    return "" if value is None else form.format(factor * value)


def figures(*names: str) -> Part:
    """Returns a part that adds figures of the folder."""

    def add(page, folder, content):
        """The figures."""
        for name in names:
            # Of several seeds, curves once were in the folders of the seeds.
            paths = [folder / name, *sorted(folder.glob(f"seed-*/{name}"))]
            found = [path for path in paths if path.exists()]
            if found:
                page.figures.append(Figure.read(found[0], FIGURES[name]))
            else:
                page.missing.append(f"{name}: not drawn yet.")

    return add


def explained(page: Page, folder: pathlib.Path, content: dict) -> None:
    """What the networks look at."""
    if content["kind"] == "explain":
        add_explanations(page, folder)
    elif (folder / study.EXPLANATIONS / FILE).exists():
        note = "Test images; the networks are those of the first seed."
        add_explanations(page, folder / study.EXPLANATIONS, note)
    else:
        page.missing.append(
            "Where the networks look: not drawn yet. The command draws it "
            "when all networks are trained."
        )


def means(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    summary, count = content["summary"], len(content["images"])
    page.title = f"Explanation: {', '.join(content['models'])}"
    page.question = "Where do the networks look, and are they right?"
    accuracies = [
        f"{model} is right about {found['accuracy']:.1%} of {count} images"
        for model, found in summary.items()
        if "accuracy" in found
    ]
    page.verdict = "; ".join(accuracies or [f"{count} images are explained"])
    page.verdict += "."
    note = ""
    if "box_fraction" in content:
        fraction = _text("{:.1f}", content["box_fraction"], 100)
        note = f"Heat spread evenly would have {fraction} % in the box."
    rows = [
        {MEANS[key]: _text("{:.1f}", found[key], 100) for key in found}
        for found in summary.values()
    ]
    if any(rows):
        named = zip(summary, rows, strict=True)
        cells = [{"model": model, **row} for model, row in named]
        page.tables.append(Table(f"Means over {count} images", cells, note))
    settings = content["settings"]
    page.facts |= {
        **{f"model {name}": str(p) for name, p in content["models"].items()},
        **{key: str(settings.get(key)) for key in ("data", "split", "seed")},
    }


# The parts of a page by the kind of run. Each adds what it finds.
PARTS: dict[str, tuple[Part, ...]] = {
    "train": (question, networks, figures("curves.png"), explained),
    "study": (question, networks),
    "ablate": (
        *(question, tables, unfinished, figures("ablation.png"), explained),
    ),
    "detect": (question, networks, figures("detections.png")),
    "tune": (
        *(question, search, figures("effects.png", "pareto.png"), explained),
    ),
    "explain": (means, explained),
}
