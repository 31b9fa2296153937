"""Scores of each class, with the networks side by side, as tables."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cbam_keras import _files
from cbam_keras._terminal import Table
from cbam_keras.report.page import TEXTS, Page, Section
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results.predictions import of_classes
from cbam_keras.study.results.results import Results
from cbam_keras.study.results.tables import DEVIATION

# A score of each class, in percent, by network and run.
Scores = Mapping[str, Mapping[Run, np.ndarray]]
PLUS_MINUS = " \N{PLUS-MINUS SIGN} "
# The table of this score is shown; those of the others are folded.
MAIN_SCORE = "f1"


def compare_classes(
    results: Results,
    scores: Scores,
    title: str,
    classes: Mapping[str, Sequence[str]],
    note: str,
) -> Table:
    """Returns a table with a column for each network and each difference.

    The differences are from the baseline, or from the first network without
    one, over the runs that both have. `classes` are the first columns: the
    names of the classes and what else is known of them.
    """
    names = put_first(results.baseline, scores)
    reference = names[0]
    labels = {name: results.labels.get(name, name) for name in names}
    columns = dict(classes)
    for name in names:
        heading = labels[name]
        if heading in columns:
            heading += " (network)"
        columns[heading] = _cells(scores[name].values(), "{:.1f}")
        if name == reference:
            continue
        heading = "difference"
        if len(names) > 2:
            heading = f"{labels[name]} - {labels[reference]}"
        pairs = [
            (scores[name][run], scores[reference][run])
            for run in scores[name]
            if run in scores[reference]
        ]
        changes = [score - before for score, before in pairs]
        columns[heading] = _cells(changes, "{:+.1f}")
    rows = [
        dict(zip(columns, cells, strict=True))
        for cells in zip(*columns.values(), strict=True)
    ]
    if len(names) > 1:
        note = f"{note} {TEXTS['notes']['differences']}".strip()
    return Table(title, rows, note=note)


def put_first(baseline: str | None, names: Iterable[str]) -> list[str]:
    """Returns names of networks, that of the baseline before the others."""
    return sorted(names, key=lambda name: name != baseline)


def _cells(values: Iterable[np.ndarray], form: str) -> list[str]:
    """Returns means over runs and deviations, of each class."""
    cells = []
    for of_class in np.transpose([*values]):
        # A run without test examples of the class has no score of it.
        known = of_class[~np.isnan(of_class)]
        # Zero has no minus: what is rounded to -0.0 becomes 0.0.
        cell = form.format(known.mean().round(1) + 0.0) if len(known) else ""
        if len(known) > 1:
            cell += f"{PLUS_MINUS}{known.std(ddof=1):.1f}"
        cells.append(cell)
    return cells


def score_tables(results: Results, note: str) -> list[Table]:
    """Returns a table for each score of the classes, the shown one first."""
    tested = of_classes(results)
    of_first = [x.by_class for x in next(iter(tested.values())).values()]
    # The folds of one seed have tested all examples.
    images = np.mean([x["images"] for x in of_first], axis=0)
    images = (images * (results.folds or 1)).round().astype(int)
    classes = {
        "class": [*map(str, results.class_names)],
        f"{results.noun}s": [f"{count:,}" for count in images],
    }
    tables = []
    names = [name for name in TEXTS["scores"] if name in of_first[0]]
    for name in sorted(names, key=lambda name: name != MAIN_SCORE):
        scores = {
            variant: {
                run: 100 * np.asarray(x.by_class[name])
                for run, x in by_run.items()
            }
            for variant, by_run in tested.items()
        }
        every = [x for by_run in scores.values() for x in by_run.values()]
        if np.isnan(every).all():
            # Answers without probabilities have no curves.
            continue
        heading = TEXTS["scores"][name]
        title = (
            f"{heading[0].upper()}{heading[1:]} per class (%), "
            f"{results.seeds_in_words}"
        )
        tables.append(compare_classes(results, scores, title, classes, note))
    return tables


def add_ious(page: Page, results: Results, content: _files.Json) -> None:
    """The IoU of each class of masks."""
    scores, names = {}, content.get("class_names", ())
    for variant in results.variants:
        found = [results.values(variant, f"iou_{name}") for name in names]
        runs = dict.fromkeys(run for by_run in found for run in by_run)
        if runs:
            scores[variant] = {
                run: np.array([100 * x.get(run, np.nan) for x in found])
                for run in runs
            }
    if scores:
        title = f"IoU by class (%), {results.seeds_in_words}"
        classes = {"class": [*map(str, names)]}
        note = DEVIATION if len(results.planned_runs) > 1 else ""
        table = compare_classes(results, scores, title, classes, note)
        page.sections.append(Section("Classes", tables=[table]))
