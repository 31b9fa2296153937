"""What was measured, `results.jsonl`: a line for each study."""

import dataclasses
import json
import pathlib

from benchmarks.when_it_helps.plans import LONGER, PLANS
from cbam_keras import study

STORED = pathlib.Path(__file__).with_suffix(".jsonl")


def stored():
    """Returns what `results.json` held of each study."""
    rows = map(json.loads, STORED.read_text().splitlines())
    return {row["study"]: row for row in rows}


def results_of(content):
    """Returns what is stored of a study, which is called as its data are."""
    found = study.Results.of(pathlib.Path(content["study"]), content)
    return dataclasses.replace(found, data=content["study"])


def merge(cells, new):
    """Returns the cells of one study, those of new runs in place of old."""
    merged = {(x["seed"], x["variant"]): x for x in [*cells, *new]}
    return [*merged.values()]


def store(runs):
    """Adds what has been trained to what is stored of the same study."""
    studies = stored()
    for run in PLANS:
        if not (path := runs / run / "results.json").exists():
            continue
        # All are printed alike, and without places on one machine.
        new = study.read_content(path.parent) | {"kind": "study", "labels": {}}
        new |= {"study": run, "source": None, "command": None}
        # It follows from the cells, by the tests of today.
        new.pop("verdict", None)
        cells = new["cells"]
        for cell in cells:
            cell |= {"file": None, "traceback": None}
        if run.endswith(LONGER):
            new = studies[run.removesuffix(LONGER)]
            new["settings"]["variants"][f"none{LONGER}"] = {}
            cells = [x | {"variant": f"none{LONGER}"} for x in cells]
        old = studies.get(new["study"])
        # One of an earlier version is replaced.
        if old and "recipe" in old["settings"]:
            for key in ("variants", "data"):
                more = new["settings"][key]
                new["settings"][key] = old["settings"][key] | more
            cells = merge(old["cells"], cells)
        if not cells:
            continue
        new["cells"] = cells
        new["seeds"] = sorted({cell["seed"] for cell in cells})
        studies[new["study"]] = new
    lines = map(json.dumps, studies.values())
    STORED.write_text("".join(f"{line}\n" for line in lines))
