"""What predictions say of classes, curves and calibration, as sections."""

import dataclasses
from collections.abc import Mapping

from cbam_keras import _files, _terminal
from cbam_keras._files import Json
from cbam_keras._terminal import Table
from cbam_keras.report.page import Figure, Page, Section
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results import figures
from cbam_keras.study.results.kept import CLASSES, NUMBERS, OF_CLASSES
from cbam_keras.study.results.predictions import (
    count_labels,
    describe_left_out,
    judged,
    mean_and_deviation,
    mean_cell,
    with_probabilities,
)
from cbam_keras.study.results.results import Results
from cbam_keras.study.results.tables import DEVIATION

# Figures of more networks make a page too long; their tables are files.
MAX_NETWORKS = 6
TABLES = "tables"
# Headings of scores, in percent.
SCORES = {
    **{"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"},
    **{"average_precision": "AP", "ece": "ECE (%)"},
    **{"sensitivity": "sensitivity", "specificity": "specificity"},
    **{"ppv": "PPV", "npv": "NPV"},
}
TITLES = {
    **{"per_class": "Per class (%)", "calibration": "Calibration"},
    **{"thresholds": "Thresholds (%)", "mcnemar": "McNemar's test"},
}
# The columns of a class in a paper.
OF_CLASS = "class", "precision", "recall", "F1"
AT_THRESHOLD = "variant", "sensitivity", "specificity", "ppv", "npv", "auc"
BY_CLASS = (
    "A class without test examples has no scores; a class that is never "
    "predicted has precision 0. AUC: one class vs. rest; AP: average precision."
)
CALIBRATED = (
    "Expected calibration error (ECE, 15 equal-mass bins): mean gap between "
    "confidence and accuracy, biased upward on small test sets, so omitted "
    "below 1,000 examples. Brier score: at most 2. Lower is better for both."
)
PREDICTED = (
    "Test examples, networks of the first seed or fold. Top: predictions and "
    "targets, equal on the line. Bottom: residuals (prediction - target)."
)
OF_THRESHOLD = (
    'The positive class is "{1}". Sensitivity: fraction of "{1}" detected; '
    'specificity: fraction of "{0}" not flagged; PPV and NPV: fractions of '
    "positive and of negative predictions that are correct at this prevalence. "
    "Brackets: Wilson 95% CI over the test examples of one run{2}; AUC: "
    "bootstrap. Other sections use the most probable class. The threshold"
)
# Numbers of examples, and p-values, in McNemar's table.
OF_MCNEMAR = {
    "both_right": "both right",
    "alone_right": "network alone right",
    "baseline_right": "baseline alone right",
    "both_wrong": "both wrong",
}
P_VALUES = {"mid_p": "mid-p", "exact_p": "exact p"}
MCNEMAR = (
    "McNemar's test compares each run of a network with the same run of the "
    "baseline on these examples; it does not generalize to other runs. The "
    "verdict is based on the confidence interval of the difference."
)
OF_CONFUSION = "Examples by true (rows) and predicted class"
OF_GROUPS = " (effective sample size from the design effect of groups)"


def add_judged(page: Page, results: Results, content: Json) -> None:
    """What predictions say. It also writes figures and `tables/`."""
    folder = results.output
    if content["kind"] == "tune" or not results.tested:
        return

    def draw(name, caption, plot, *arguments):
        _files.write_figure(folder / name, plot(*arguments))
        return Figure.read(folder / name, caption)

    frames, seeds = judged(results), results.seeds_in_words
    used = describe_left_out(results)
    note = DEVIATION if len(results.planned_runs) > 1 else ""
    tables = {}
    for name, frame in frames.items():
        rows = [_cells(results, x) for x in frame.to_dict("records")]
        below = used if "seed" in frame else f"{note} {used}".strip()
        if rows:
            tables[name] = Table(f"{TITLES[name]}, {seeds}", rows, note=below)
    if results.predicts == NUMBERS:
        drawn = "numbers.png", PREDICTED, figures.plot_numbers, results
        page.sections.append(Section("Numbers", figures=[draw(*drawn)]))
    if results.predicts in OF_CLASSES:
        curves = Section("Threshold")
        if with_probabilities(results):
            caption = "Means over seeds; bands: one standard deviation."
            drawn = "roc.png", caption, figures.plot_roc, results
            curves = Section("ROC", figures=[draw(*drawn)])
        if "thresholds" in tables:
            if curves:
                curves.title = "ROC and threshold"
            curves.texts.append(describe_threshold(results))
            if note:
                # Without images of a class one of the scores is missing.
                means = frames["thresholds"].filter(AT_THRESHOLD)
                means = mean_and_deviation(means, ["variant"])
                rows = [_cells(results, x) for x in means.to_dict("records")]
                title = f"At thresholds (%), mean over {seeds}"
                curves.tables.append(Table(title, rows, note=note))
            curves.tables.append(tables["thresholds"])
        classes = Section("Classes", [BY_CLASS], [tables["per_class"]])
        page.sections += [classes, curves] if curves else [classes]
    matrices = {}
    if results.predicts == CLASSES:
        matrices = {name: results.confusion(name) for name in results.tested}
        frames |= {f"confusion-{name}": x for name, x in matrices.items()}
        caption = (
            f"Test {results.noun}s by true and predicted class, "
            f"{seeds} pooled. {used}".rstrip()
        )
        section = Section("Confusion")
        for name in [*results.tested][:MAX_NETWORKS]:
            title = f"Confusion matrix of {results.labels.get(name, name)}"
            shown = caption, figures.plot_confusion, matrices[name], title
            section.figures.append(draw(f"confusion-{name}.png", *shown))
        if "mcnemar" in tables:
            section.texts.append(MCNEMAR)
            section.tables.append(tables["mcnemar"])
        page.sections.append(section)
    if "calibration" in tables:
        caption = (
            f"Each point: one of 15 bins of equally many {results.noun}s, all "
            "seeds pooled. Above the diagonal: underconfident."
        )
        drawn = "calibration.png", caption, figures.plot_reliability, results
        section = Section("Calibration", [CALIBRATED], [tables["calibration"]])
        section.figures.append(draw(*drawn))
        page.sections.append(section)
    frames["results"] = results.to_dataframe()
    texts = _latex(results, tables)
    for name, matrix in matrices.items():
        cells = matrix.map("{:,}".format)
        cells.insert(0, "true class", matrix.index, allow_duplicates=True)
        table = Table(OF_CONFUSION, cells.to_dict("records"))
        texts[f"confusion-{name}"] = table.latex()
    _write_tables(folder / TABLES, frames, texts)


def _cells(results: Results, row: Mapping) -> dict[str, str]:
    """Returns a row of a data frame as shown, deviations beside means."""
    cells = {"network": results.labels.get(row["variant"], row["variant"])}
    forms = {"class": "{}", "threshold": "{:.3f}"}
    if "seed" in row:
        run = Run(row["seed"], row.get("fold"))
        cells["seed"] = str(run).removeprefix("seed ")
    cells |= {x: form.format(row[x]) for x, form in forms.items() if x in row}
    if "images" in row:
        cells[f"{results.noun}s"] = f"{row['images']:,}"
    for key, heading in SCORES.items():
        if key in row:
            cells[heading] = mean_cell(row, key)
        if f"{key}_low" in row and cells[heading]:
            low, high = (100 * row[f"{key}_{end}"] for end in ("low", "high"))
            cells[heading] += f" [{low:.1f}, {high:.1f}]"
    cells |= {y: f"{row[x]:,}" for x, y in OF_MCNEMAR.items() if x in row}
    for name, heading in P_VALUES.items():
        if name in row:
            is_small = row[name] < 0.001
            form = "< 0.001" if is_small else "{:.3f}"
            cells[heading] = mean_cell(row, name, form, 1)
    if "brier" in row:
        cells["Brier score"] = mean_cell(row, "brier", "{:.4f}", 1)
    return cells


def describe_threshold(results: Results) -> str:
    """Returns how the threshold was chosen, as sentences."""
    of_groups = OF_GROUPS if results.has_groups else ""
    text = OF_THRESHOLD.format(*results.class_names, of_groups)
    rule = results.threshold
    if rule is None:
        return f"{text} is 0.5, the default."
    words = f"a {rule.replace('=', ' of at least ')}"
    if rule == "youden":
        words = "the highest sum of sensitivity and specificity (Youden)"
    if count_labels(results, "validation") is None:
        return f"{text} is 0.5: no validation split to choose {words}."
    return f"{text} was chosen for {words} on the validation split."


def _latex(results: Results, tables: Mapping[str, Table]) -> dict:
    """Returns tables for LaTeX, those of classes one for each network."""
    texts = {"results": results.latex()}
    for name, table in tables.items():
        if name != "per_class":
            texts[name] = table.latex()
            continue
        for variant in results.tested:
            label = results.labels.get(variant, variant)
            rows = [x for x in table.rows if x["network"] == label]
            of_one = dataclasses.replace(table, rows=rows)
            names = (*OF_CLASS, f"{results.noun}s")
            texts[f"{name}-{variant}"] = of_one.latex(names)
    return texts


def _write_tables(folder, frames, latex):
    """Writes data frames as CSV, and tables as LaTeX."""
    _files.output_folder(folder)
    cell, texts = _files.as_cell, {f"{x}.tex": y for x, y in latex.items()}
    for name, frame in frames.items():
        shown = frame.map(cell).rename(index=cell, columns=cell)
        has_index = frame.index.name is not None
        texts[f"{name}.csv"] = shown.to_csv(index=has_index)
    for name, text in texts.items():
        with _files.replacing(folder / name) as beside:
            text = _terminal.make_printable(text)
            beside.write_text(text, encoding="utf-8")
