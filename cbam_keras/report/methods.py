"""What was done, in words that one may paste, and what it rests on."""

import collections
import pathlib
import re

from cbam_keras import study
from cbam_keras._files import Json
from cbam_keras.report.page import Page, Section, find_template

# Keys of page.bib by words in the names of networks.
PAPERS = {
    **dict.fromkeys(("cbam", "channel", "spatial"), "woo2018cbam"),
    **{"se": "hu2018squeeze", "eca": "wang2020eca", "bam": "park2018bam"},
    **{"coordinate": "hou2021coordinate", "simam": "yang2021simam"},
    **{"scse": "roy2018scse", "gc": "cao2019gcnet"},
    **{"triplet": "misra2021triplet", "gate": "oktay2018attention"},
}
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
        devices=sorted({x.device for x in results.runs if x.device}),
    )
    text = re.sub(r" +(?=[.,:;])", "", " ".join(text.split()))
    section = Section("Methods in words", texts=[text])
    section.listings["BibTeX"] = find_entries(text)
    page.sections.append(section)


def describe_sizes(results: study.Results) -> str:
    """Returns how many images there are for what."""
    sizes = results.sizes.items()
    counts = [f"{n:,} for {SPLITS.get(x, x)}" for x, n in sizes if n]
    return ", ".join(counts).replace(" for", f" {results.noun}s for", 1)


def _describe_network(results, name, options):
    words = re.findall("[a-z]+", name.lower())
    parameters = {x.parameters for x in results.runs if x.variant == name}
    return {
        "label": results.labels.get(name, name),
        "papers": dict.fromkeys(PAPERS[x] for x in words if x in PAPERS),
        "facts": [f"{key}={value}" for key, value in options.items()]
        + [f"{count:,} parameters" for count in parameters],
    }


def find_entries(text: str) -> str:
    """Returns the entries of page.bib whose keys a text has in brackets."""
    file = pathlib.Path(__file__).with_name("page.bib")
    entries = [
        re.sub(r", (?=[a-z]+ = )", ",\n  ", line)
        for line in file.read_text("utf-8").splitlines()
        if f"[{line.partition('{')[2].partition(',')[0]}]" in text
    ]
    return "\n\n".join(entries)
