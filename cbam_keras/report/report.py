"""`write`: reads an output folder and writes its page."""

import datetime
import json
import os
import pathlib

from cbam_keras import _checks, _files, _terminal
from cbam_keras._terminal import Table
from cbam_keras.report import looking
from cbam_keras.report.checklist import add_checklist
from cbam_keras.report.classes import add_ious, put_first
from cbam_keras.report.judged import add_judged
from cbam_keras.report.methods import describe_methods
from cbam_keras.report.page import TEXTS, Figure, Page, Section, render
from cbam_keras.report.summary import describe_sizes, summarize
from cbam_keras.study.files.folder import EXPLANATIONS, REPORT, read_content
from cbam_keras.study.plans.measures import validation_key
from cbam_keras.study.results.figures.curves import CURVES, draw_curves
from cbam_keras.study.results.learning import rates_table
from cbam_keras.study.results.predictions import count_labels
from cbam_keras.study.results.results import read_results

RESUME = "The same command resumes the run."


@_checks.named
def write(
    folder: str | os.PathLike, draw: bool = False, figures: str | None = None
) -> pathlib.Path:
    """Writes the report of an output folder, one HTML page.

    The commands `train` and `tune` write it when they end, and `cbam-keras
    report` writes it again. It holds the question and the answer, the tables,
    the figures, where the networks look, what identifies the run, and the
    command that repeats it. It is one file to read and to send. Of an
    unfinished or damaged run it holds what there is, and says what is missing.

    Args:
        folder: Path of an output folder. A report in it is replaced.
        draw: Boolean, whether to first draw heat maps of eight test images, or
            the predicted masks of six; if it cannot, it warns. Defaults to
            `False`, which means the figures there are.
        figures: `"pdf"` to write the figures also as PDF beside the PNG: where
            the networks look, only with `draw`. Defaults to `None`.

    Returns:
        Path of the page, `report.html` in that folder.

    Raises:
        TypeError: If `folder` is not a path.
        ValueError: If it holds no run, if it cannot be written to, if its
            `report.html` is that of another program, or for other `figures`.
        ImportError: If Jinja or Pillow is not installed.

    Example:
        >>> page = write(folder)
        >>> page.name
        'report.html'
    """
    _checks.require("jinja2", extra="plot")
    _checks.one_of("figures", figures, (None, "pdf"))
    path = pathlib.Path(folder)
    if not os.fspath(folder) or not (path / _files.STUDY).exists():
        raise ValueError(
            "`folder` must be the output folder of a run. Received: "
            f'folder="{folder}", which holds no {_files.STUDY}'
        )
    path = _files.output_folder(path, "folder")
    file = path / REPORT
    if file.exists() and b"cbam_keras" not in file.read_bytes():
        raise ValueError(
            f"`folder` must not hold the {REPORT} of another program. "
            f'Received: folder="{folder}". Move or rename that file'
        )
    page = Page(as_pdf=figures is not None)
    if draw:
        looking.try_to_draw(path, as_pdf=page.as_pdf)
    with _files.folder_locked(path):
        _fill(page, path)
        text = _terminal.make_printable(render(page))
        with _files.replacing(file) as beside:
            beside.write_text(text, encoding="utf-8")
    return file


def _fill(page, folder):
    """Adds what a folder holds to a page, with a line for what is missing."""
    try:
        content = read_content(folder)
        # Each file of predictions is read once, and warned of once.
        results = read_results(folder, content)
    # Damage has many types; a package may be missing, too.
    except Exception as error:
        page.missing.append(f"The results cannot be read ({error!r}).")
        return
    for part in PAGE_PARTS:
        try:
            part(page, results, content)
        except Exception as error:
            what = part.__doc__.split(".")[0]
            page.missing.append(f"{what} cannot be read ({error!r}).")
    for reason in results.files_left_out.values():
        # The page names no more than the folder of a run.
        named = reason.replace(f"{results.output}{os.sep}", "")
        page.missing.append(f"Predictions: {named}.")


def _add_identity(page, results, content):
    """Versions and settings."""
    if isinstance(content.get("command"), str):
        page.command = content["command"]
    page.settings = json.dumps(
        content.get("settings"), indent=2, ensure_ascii=False
    )
    page.facts["folder"] = results.output.resolve().name
    if plans := content.get("plans"):
        page.facts["started"] = plans[0]["written"]
    today = datetime.datetime.now(datetime.UTC)
    page.facts["report written"] = f"{today:%Y-%m-%d}"
    for name, version in (content.get("versions") or {}).items():
        page.facts[name] = str(version)


def _add_question(page, results, content):
    """The question."""
    settings = content["settings"]
    data = next(iter(settings["data"].values()))
    subject = settings.get("model", "your own"), data["name"]
    page.title = "{}: {} on {}".format(content["kind"], *subject)
    meanings = TEXTS["meanings"]
    known = [f"{x}: {meanings[x]}" for x in subject if x in meanings]
    page.about = "; ".join(known)
    page.question = content.get("question") or (
        f"How do the networks compare on {data['name']}?"
    )
    if results.are_given:
        page.title = "Comparison of predictions"
        page.question = _ask_of_given(results)
    folds = settings.get("folds")
    seeds = content["seeds"]
    page.facts |= {
        "data": str(data["name"]),
        f"{results.noun}s": describe_sizes(results),
        "data fingerprint": str(data.get("fingerprint", "unknown")),
        "seed" if len(seeds) == 1 else "seeds": ", ".join(map(str, seeds)),
        **({"folds": str(folds)} if folds else {}),
    }


def _ask_of_given(results):
    """Returns the question about networks whose predictions were given."""
    names = put_first(results.baseline, results.variants)
    labels = [
        "no attention" if name == "none" else results.labels.get(name, name)
        for name in names
    ]
    if len(names) == 1:
        return f"How good are the predictions of {labels[0]}?"
    if len(names) > 4:
        return f"How do the predictions of {len(names)} networks compare?"
    *others, last = labels[1:]
    named = f"{', '.join(others)} and {last}" if others else last
    verb = "do" if others else "does"
    return f"How {verb} {named} compare with {labels[0]}?"


def _add_data(page, results, content):
    """The data."""
    section = Section("Data")
    names, sizes = content["class_names"], describe_sizes(results)
    classes = f"{len(names)} classes; " if names else ""
    section.texts.append(f"{classes}{sizes}.")
    section.texts += [f"{text}." for text in content.get("notes") or ()]
    page.warnings += [f"{text}." for text in content.get("leaks") or ()]
    counts = {
        "train": content.get("class_counts"),
        **{x: count_labels(results, x) for x in ("validation", "test")},
    }
    counts = {split: x for split, x in counts.items() if x is not None}
    page.warnings += [
        f'No test {results.noun} is of class "{name}".'
        for name, count in zip(names, counts.get("test", ()), strict=False)
        if count == 0
    ]
    rows = [
        {"class": name, **{split: f"{x[row]:,}" for split, x in counts.items()}}
        for row, name in enumerate(names)
    ]
    if counts:
        which = str(results.first_run)
        has_masks = (content["source"] or {}).get("masks")
        noun = "pixel" if has_masks else results.noun
        title = f"{noun.capitalize()}s per class ({which})"
        are_equal = all(len({*x}) == 1 for x in counts.values())
        tables = section.folded if are_equal else section.tables
        tables.append(Table(title, rows))
    page.sections.append(section)


def _add_results(page, results, content):
    """The results."""
    section = Section("Results")
    results = results.confirmed()
    page.sections.append(section)
    page.verdict = "No results yet: no network has been trained."
    if results.runs and (tables := results.tables()):
        page.verdict = results.verdict
        section.tables += tables
        if rates := rates_table(results):
            section.tables.append(rates)
        if code := getattr(results, "code", ""):
            section.listings["To use it"] = code
    page.missing += [f"{line} {RESUME}" for line in results.unfinished()]
    caption = TEXTS["captions"]["comparison"]
    file = results.output / "comparison.png"
    if page.as_pdf and file.exists():
        # A figure of the run is drawn again.
        _files.write_figure(file, results.plot(), as_pdf=True)
    section.figures = _read_figures(results.output, {file.name: caption})


def _add_curves(page, results, content):
    """The learning curves."""
    if content["kind"] == "tune":
        # The curves of many trials could not be told apart.
        results = results.confirmed().retrained
    # They are drawn again, since the curves of an unfinished run are not there,
    # and older versions drew those of the first seed alone.
    if results is not None and draw_curves(results, as_pdf=page.as_pdf):
        captions = {CURVES: TEXTS["captions"]["curves"]}
        figures = _read_figures(results.output, captions)
        page.sections.append(Section("Learning curves", figures=figures))


def _add_files(page, results, content):
    """The files of the networks."""
    measure = results.measures[0]
    rows = [
        {
            "network": results.labels.get(x.variant, x.variant),
            "seed": str(x.run).removeprefix("seed "),
            "validation": measure.number(
                x.metrics.get(validation_key(measure.key))
            ),
            measure.column: measure.number(x.metrics.get(measure.key)),
            "file or error": x.file or f"{x.status} ({x.message})",
        }
        for x in results.outcomes
        if x.file or not x.finished
    ]
    if rows:
        tables = [Table("Networks by seed", rows)]
        page.sections.append(
            Section("Files", [TEXTS["notes"]["files"]], tables)
        )


def _read_figures(folder, captions):
    """Returns the figures that are in a folder, by the captions of all."""
    return [
        Figure.read(folder / name, caption)
        for name, caption in captions.items()
        if (folder / name).exists()
    ]


def _add_examples(page, results, content):
    """The heat maps."""
    folder = results.output
    drawn = folder / EXPLANATIONS
    section = Section("What the networks look at")
    file = drawn / looking.ANSWERS
    answers = json.loads(file.read_text("utf-8")) if file.exists() else []
    texts = TEXTS["captions"]
    captions = {looking.MASKS_FIGURE: texts["masks"]}
    if answers:
        note = TEXTS["notes"]["answers"]
        section.tables.append(Table("Predictions", answers, note=note))
        names = [*answers[0]][2:]
        captions[looking.HEAT] = texts["heat"].format(", ".join(names))
        captions[looking.MORE_HEAT] = texts["more_heat"]
        captions |= {
            f"attention-{name}.png": texts["attention"].format(name)
            for name in names
        }
    section.figures = _read_figures(drawn, captions)
    page.sections.append(section)
    were_trained = content["settings"]["recipe"]
    if not section and results.are_classifiers and were_trained:
        page.missing.append(
            f"Heat maps. To draw them, run cbam-keras report {folder}; the "
            "training command also draws them once all networks are trained."
        )


def _add_methods(page, results, content):
    """The methods paragraph and the checklist."""
    is_known = results.networks() or results.are_given
    if content["kind"] == "tune" or not is_known:
        return
    summary = summarize(results, content)
    text = " ".join(describe_methods(summary))
    page.sections.append(Section("Methods", texts=[text]))
    add_checklist(page, summary)


# The checklist names what the other parts have added. The page has an order of
# its own.
ABOUT = (_add_identity, _add_question, _add_data)
FOUND = (_add_results, _add_curves, add_ious, add_judged, _add_examples)
PAGE_PARTS = (*ABOUT, *FOUND, _add_files, _add_methods)
