"""What predictions say of classes, curves and calibration, as sections."""

import dataclasses
from collections.abc import Mapping

from cbam_keras import _files, _terminal
from cbam_keras._files import Json
from cbam_keras._terminal import Table, number_cell
from cbam_keras.report.classes import put_first, score_tables
from cbam_keras.report.page import MAX_NETWORKS, TEXTS, Figure, Page, Section
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results import figures, predictions
from cbam_keras.study.results.kept import CLASSES, OF_CLASSES, OF_NUMBERS
from cbam_keras.study.results.results import Results
from cbam_keras.study.results.tables import DEVIATION

NOTES, CAPTIONS = TEXTS["notes"], TEXTS["captions"]
TABLES_FOLDER = "tables"
# The columns of a class in a paper.
OF_CLASS = "class", "precision", "recall", "F1"
AT_THRESHOLD = "variant", "sensitivity", "specificity", "ppv", "npv", "auc"


def add_judged(page: Page, results: Results, content: Json) -> None:
    """Metrics of predictions. It also writes figures and `tables/`."""
    if content["kind"] == "tune" or not results.tested:
        return
    frames = predictions.judged(results)
    tables = _tables(results, frames)
    if results.predicts == OF_NUMBERS:
        drawn, caption = figures.plot_numbers(results), CAPTIONS["predicted"]
        figure = _write(page, results, "numbers.png", drawn, caption)
        page.sections.append(Section("Regression", figures=[figure]))
    if results.predicts in OF_CLASSES:
        page.sections.append(_classes(results, tables["per_class"]))
        page.sections.append(_curves(page, results, frames, tables))
    if results.predicts == CLASSES:
        page.sections.append(_confusion(page, results, tables))
        for name in results.tested:
            frames[f"confusion-{name}"] = results.confusion(name)
    if "calibration" in tables:
        drawn = figures.plot_reliability(results)
        caption = CAPTIONS["reliability"].format(results.noun)
        figure = _write(page, results, "calibration.png", drawn, caption)
        found = [tables["calibration"]]
        section = Section(
            "Calibration", [NOTES["calibration"]], found, figures=[figure]
        )
        page.sections.append(section)
    frames["results"] = results.to_dataframe()
    texts = _latex(results, frames, tables)
    _write_tables(results.output / TABLES_FOLDER, frames, texts)


def _tables(results, frames):
    """Returns data frames as tables, by the same names."""
    used, tables = predictions.describe_left_out(results), {}
    note = DEVIATION if len(results.planned_runs) > 1 else ""
    for name, frame in frames.items():
        rows = [_cells(results, x) for x in frame.to_dict("records")]
        below = used if "seed" in frame else f"{note} {used}".strip()
        if rows:
            title = f"{TEXTS['titles'][name]}, {results.seeds_in_words}"
            tables[name] = Table(title, rows, note=below)
    return tables


def _write(page, results, name, drawn, caption):
    """Writes a figure, and returns it for the page."""
    path = results.output / name
    _files.write_figure(path, drawn, as_pdf=page.as_pdf)
    return Figure.read(path, caption)


def _classes(results, table):
    """Returns the section of the scores of each class."""
    section = Section("Classes", [NOTES["classes"]], [table])
    if len(results.tested) > 1:
        section.tables, section.folded = [], score_tables(results, table.note)
        section.tables.append(section.folded.pop(0))
    return section


def _curves(page, results, frames, tables):
    """Returns the section of ROC curves and thresholds, empty without any."""
    section = Section("Threshold")
    if predictions.with_probabilities(results):
        drawn = figures.plot_roc(results, macro=True)
        figure = _write(page, results, "roc.png", drawn, CAPTIONS["roc"])
        section = Section("ROC", figures=[figure])
    if "thresholds" not in tables:
        return section
    if section:
        section.title = "ROC and threshold"
    section.texts.append(describe_threshold(results))
    if len(results.planned_runs) > 1:
        # Without images of a class one of the scores is missing.
        means = frames["thresholds"].filter(AT_THRESHOLD)
        means = predictions.mean_and_deviation(means, ["variant"])
        rows = [_cells(results, x) for x in means.to_dict("records")]
        title = f"At the threshold (%), mean over {results.seeds_in_words}"
        section.tables.append(Table(title, rows, note=DEVIATION))
    section.tables.append(tables["thresholds"])
    return section


def _confusion(page, results, tables):
    """Returns the section of confusion matrices."""
    section, used = Section("Confusion"), predictions.describe_left_out(results)
    pooled = f"{results.seeds_in_words}. {used}".rstrip()
    if len(results.planned_runs) > 1:
        pooled = f"pooled over {pooled}"
    names = put_first(results.baseline, results.tested)[:MAX_NETWORKS]
    labels = [results.labels.get(name, name) for name in names]
    reference = results.confusion(names[0])
    title = f"Confusion matrix of {labels[0]}"
    drawn = figures.plot_confusion(reference, title)
    caption = f"Test {results.noun}s by true and predicted class, {pooled}"
    file = f"confusion-{names[0]}.png"
    section.figures.append(_write(page, results, file, drawn, caption))
    for name, label in zip(names[1:], labels[1:], strict=True):
        title = f"{label} - {labels[0]}"
        matrix = results.confusion(name)
        drawn = figures.plot_confusion_change(matrix, reference, title)
        caption = CAPTIONS["confusion_change"].format(label, labels[0], pooled)
        file = f"confusion-change-{name}.png"
        section.figures.append(_write(page, results, file, drawn, caption))
    if "mcnemar" in tables:
        section.texts.append(NOTES["mcnemar"])
        section.tables.append(tables["mcnemar"])
    return section


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
    for key, heading in TEXTS["scores"].items():
        if key in row:
            cells[heading] = _mean_cell(row, key)
        if f"{key}_low" in row and cells[heading]:
            low, high = (100 * row[f"{key}_{end}"] for end in ("low", "high"))
            cells[heading] += f" [{low:.1f}, {high:.1f}]"
    cells |= {y: f"{row[x]:,}" for x, y in TEXTS["counts"].items() if x in row}
    for name, heading in TEXTS["p_values"].items():
        if name in row:
            is_small = row[name] < 0.001
            form = "< 0.001" if is_small else "{:.3f}"
            cells[heading] = _mean_cell(row, name, form, 1)
    if "brier" in row:
        cells["Brier score"] = _mean_cell(row, "brier", "{:.4f}", 1)
    return cells


def _mean_cell(
    row: Mapping, key: str, form: str = "{:.1f}", scale: float = 100
) -> str:
    """Returns a mean and its deviation as shown, without what is NaN."""
    numbers = (row.get(name) for name in (key, f"{key}_std"))
    known = [number_cell(form, x, scale) for x in numbers if x == x]
    return " \N{PLUS-MINUS SIGN} ".join(filter(None, known))


def describe_threshold(results: Results) -> str:
    """Returns how the threshold was chosen, as sentences."""
    of_groups = NOTES["groups"] if results.has_groups else ""
    text = NOTES["threshold"].format(*results.class_names, of_groups)
    rule = results.threshold
    if rule is None:
        return f"{text} is 0.5, the default."
    words = f"a {rule.replace('=', ' of at least ')}"
    if rule == "youden":
        words = "the highest sum of sensitivity and specificity (Youden)"
    if predictions.count_labels(results, "validation") is None:
        return f"{text} is 0.5: no validation split to choose it for {words}."
    return f"{text} was chosen for {words} on the validation split."


def _latex(results, frames, tables):
    """Returns tables for LaTeX, those of classes one for each network."""
    texts = {"results": results.latex()}
    for name, frame in frames.items():
        if name.startswith("confusion-"):
            cells = frame.map("{:,}".format)
            cells.insert(0, "true class", frame.index, allow_duplicates=True)
            rows = cells.to_dict("records")
            texts[name] = Table(CAPTIONS["confusion"], rows).latex()
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
