"""What a folder of `detect` says."""

import pathlib

from cbam_keras import training
from cbam_keras.report.findings import findings_in
from cbam_keras.report.page import Page, Table
from cbam_keras.report.trained import RESUME, facts_of

MEASURES = {"map50": "mAP@.5 (%)", "map75": "mAP@.75 (%)"}
SIZES = ("small", "medium", "large")


def results(page: Page, folder: pathlib.Path, content: dict) -> None:
    """The results."""
    settings, runs = content["settings"], content["runs"]
    data = settings["data"]
    page.title = f"Detectors: {settings['model']} on {data['name']}"
    page.question = (
        f"Does attention in the backbone {settings['model']} improve "
        f"detection on {data['name']}?"
    )
    page.facts |= facts_of(data)
    seeds = list(dict.fromkeys(run["seed"] for run in runs))
    page.facts["seeds"] = ", ".join(map(str, seeds))
    page.verdict = content.get("verdict") or "Nothing is known yet."
    if "verdict" not in content:
        page.missing.append(f"Not all detectors are trained. {RESUME}")
    if not runs:
        return
    networks = list(dict.fromkeys(run["network"] for run in runs))
    own = {name: [r for r in runs if r["network"] == name] for name in networks}
    rows = [_row(name, own[name], own.get("none", [])) for name in networks]
    # There may be no objects of a size, and nothing to compare with.
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    page.tables.append(
        Table(
            {**dict.fromkeys(names, "right"), "backbone": "left"},
            [[row[name] for name in names] for row in rows],
            "Mean average precision" + _over(len(seeds)),
            f"Measured on the same {data['sizes']['test']:,} test images; "
            "small, medium and large by the size of objects, as COCO counts. "
            "The difference is of mAP@[.5,.95], in brackets its 95 % interval.",
        )
    )


def _over(seeds):
    return f", mean over {seeds} seeds" if seeds > 1 else ", one seed"


def _row(name, runs, baseline):
    """Returns the cells of a network by their headings."""
    return {
        "backbone": name,
        "mAP@[.5,.95] (%)": _mean(runs, "map"),
        'difference to "none"': _difference(runs, baseline),
        **{title: _mean(runs, key) for key, title in MEASURES.items()},
        **{f"{size} (%)": _mean(runs, size) for size in SIZES},
        "parameters": f"{runs[0]['parameters']:,}",
        "seeds": ", ".join(str(run["seed"]) for run in runs),
        "seconds per epoch": f"{runs[0]['seconds_per_epoch']:.1f}",
    }


def _mean(runs, key):
    values = [run["precision"].get(key) for run in runs]
    if None in values:
        return ""
    return training.Measured.of(values, None).mean_cell(digits=1)


def _difference(runs, baseline):
    """Returns the difference to the baseline over the seeds of both."""
    found = {run["seed"]: run["precision"]["map"] for run in runs}
    others = {run["seed"]: run["precision"]["map"] for run in baseline}
    both = [seed for seed in found if seed in others]
    if runs == baseline or not both:
        return ""
    measured = training.Measured.of(
        [found[seed] for seed in both], [others[seed] for seed in both]
    )
    return measured.difference_cell(digits=1)


def looks(page: Page, folder: pathlib.Path, content: dict) -> None:
    """What the detectors find."""
    page.looks_title = "What the detectors find"
    if (folder / "detections.npz").exists():
        page.looks, page.looks_note = findings_in(
            folder, content["class_names"]
        )
    else:
        page.missing.append(
            "What the detectors find: drawn when all are trained."
        )


PARTS = (results, looks)
