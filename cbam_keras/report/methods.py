"""What was done, in words that one may paste."""

import collections
import pathlib
import re

from cbam_keras import study
from cbam_keras._files import Json
from cbam_keras.report.page import Page, Section, find_template

SPLITS = {"train": "training", "test": "testing"}


def add_methods(page: Page, folder: pathlib.Path, content: Json) -> None:
    """What was done, in words."""
    results = study.Results.of(folder, content)
    if content["kind"] == "tune" or not results.networks():
        return
    reasons = (run.selected_by for run in results.runs)
    text = find_template("page.methods.txt", autoescape=False).render(
        results=results,
        data=next(iter(results.settings["data"].values())),
        sizes=describe_sizes(results),
        networks=[
            _describe_network(results, name, options)
            for name, options in results.settings["variants"].items()
        ],
        tested=collections.Counter(filter(None, reasons)).most_common(),
        over=next((x.over for x in results.rows if x.interval), ""),
        has_heat=(folder / study.EXPLANATIONS / "grad_cam.png").exists(),
        versions=content["versions"],
    )
    text = re.sub(r" +(?=[.,:;])", "", " ".join(text.split()))
    page.sections.append(Section("Methods in words", texts=[text]))


def describe_sizes(results: study.Results) -> str:
    """Returns how many images there are for what."""
    sizes = results.sizes.items()
    counts = [f"{n:,} for {SPLITS.get(x, x)}" for x, n in sizes if n]
    return ", ".join(counts).replace(" for", f" {results.noun}s for", 1)


def _describe_network(results, name, options):
    parameters = {x.parameters for x in results.runs if x.variant == name}
    return {
        "label": results.labels.get(name, name),
        "facts": [f"{key}={value}" for key, value in options.items()]
        + [f"{count:,} parameters" for count in parameters],
    }
