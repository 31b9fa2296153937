"""What checklists of reviewers ask for, and what a folder answers."""

import dataclasses
from collections.abc import Callable, Sequence

from cbam_keras._terminal import Table
from cbam_keras.report.methods import (
    describe_selection,
    describe_versions,
    name_epoch,
)
from cbam_keras.report.page import Page, Section
from cbam_keras.report.summary import Summary
from cbam_keras.study.results.kept import CLASSES, LABELS, OF_SCORES

YOURS = "To be completed by the authors."
LISTS = (
    "Items of four checklists in our own words: REFORMS (2024; items after 3d "
    "without their numbers), CLAIM (2024), TRIPOD+AI (2024) and NeurIPS. The "
    "answers come from this folder; see the original lists for what a full "
    "answer needs."
)


@dataclasses.dataclass(frozen=True)
class Item:
    """What lists ask for, in our words, and what answers it.

    Attributes:
        asked_for: String, what is asked for.
        answer: Function of a `Summary` and the `Page` that returns the answer,
            or an empty string where the folder does not know it.
        lists: String, the lists that ask, with the numbers of their items.
    """

    asked_for: str
    answer: Callable[[Summary, Page], str]
    lists: str


def add_checklist(page: Page, summary: Summary) -> None:
    """Adds what checklists ask to a page that has all other sections."""
    rows = [
        {
            "item": item.asked_for,
            "this run": item.answer(summary, page) or YOURS,
            "checklist items": item.lists,
        }
        for item in ITEMS
    ]
    answered = sum(row["this run"] != YOURS for row in rows)
    title = f"{len(rows)} items, {answered} answered in full or in part"
    table = Table(title, rows)
    section = Section("Reporting checklist", [LISTS], folded=[table])
    page.sections.append(section)


def _titles(page: Page) -> list[str]:
    """Returns the titles of the sections that have content."""
    return [section.title for section in page.sections if section]


# The answers, one function for each item. Those that only authors can give
# have none.


def answer_nothing(summary: Summary, page: Page) -> str:
    return ""


def answer_question(summary: Summary, page: Page) -> str:
    text = f"{page.question} Outcome: {summary.measure.heading}"
    if summary.baseline:
        text += f". Baseline: {summary.baseline_in_words}"
    return f"{text}."


def answer_origin(summary: Summary, page: Page) -> str:
    fingerprint = summary.data.get("fingerprint")
    if not fingerprint:
        return ""
    return (
        f"The fingerprint {fingerprint} identifies the data. State where they "
        "come from."
    )


def answer_left_out(summary: Summary, page: Page) -> str:
    if summary.is_given or not summary.notes:
        return ""
    return f"{'. '.join(summary.notes)}. State the criteria."


def answer_outcome(summary: Summary, page: Page) -> str:
    if summary.class_names:
        kind = "classes"
        if summary.predicts == LABELS:
            kind = "labels, of which several may apply"
        text = f"{len(summary.class_names)} {kind}"
        data = [x for x in page.sections if x.title == "Data"]
        if any(x.tables or x.folded for x in data):
            text += '; see "Data" for the number of examples'
        return f"{text}."
    if summary.predicts == OF_SCORES:
        return f"A score for each {summary.noun}."
    return "A continuous target; add its distribution."


def answer_preprocessing(summary: Summary, page: Page) -> str:
    if summary.is_given:
        if not summary.notes:
            return ""
        return f"{'. '.join(summary.notes)}. Add the rest."
    text = "No augmentation"
    if summary.recipe.get("augment"):
        text = f'Training {summary.noun}s were augmented ("Methods")'
    return (
        f'{text}; see "All settings" for the rest. State how the files were '
        "processed before."
    )


def answer_division(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    division = summary.sizes
    if summary.folds:
        division = f"{summary.folds}-fold cross-validation"
    unit = "each group, such as a patient, is in one split only"
    if not summary.has_groups:
        unit = f"each {summary.noun} counts as independent"
    elif summary.leaks:
        unit = 'groups: see "Read this first"'
    return f"{division}; {unit}."


def answer_duplicates(summary: Summary, page: Page) -> str:
    if summary.leaks:
        return f"{'. '.join(summary.leaks)}."
    if not summary.is_searched_for_copies:
        return ""
    of_fold = " of the first fold" if summary.folds else ""
    return (
        f"No test {summary.noun}{of_fold} is an exact copy of a training "
        f"{summary.noun}; near-duplicates were not searched for."
    )


def answer_selection(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    return (
        f"{describe_selection(summary)} State what was chosen on the test set "
        "in earlier runs."
    )


def answer_networks(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    has_weights = summary.settings.get("weights")
    weights = "ImageNet weights" if has_weights else "random weights"
    return (
        f'See "Methods" for the variants of {summary.model}, with their '
        f"options and trainable parameters; each started from {weights}."
    )


def answer_baseline(summary: Summary, page: Page) -> str:
    if summary.is_given or not summary.baseline:
        return ""
    controls = (
        "No variant without attention matches the parameters or the training "
        "time of the others."
    )
    if summary.controls:
        controls = (
            "Controls without attention and with at least as many parameters: "
            f"{', '.join(summary.controls)}."
        )
    baseline = summary.baseline_in_words
    baseline = f"{baseline[:1].upper()}{baseline[1:]}"
    return f"{baseline}, with the same recipe, data and seeds. {controls}"


def answer_optimization(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    return 'See "Methods" and "All settings".'


def answer_hyperparameters(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    text = "All variants share one recipe"
    if summary.has_own_rates:
        text += ", apart from their learning rates"
    elif summary.rates:
        text += (
            f" and choose among {len(summary.rates)} learning rates in the "
            "same way"
        )
    return f"{text}; none was tuned separately. State how the recipe was found."


def answer_tested_network(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    epochs = ", ".join(
        name_epoch(reason) for reason, _ in summary.epochs_tested
    )
    return f"Weights of {epochs}."


def answer_runs(summary: Summary, page: Page) -> str:
    runs = summary.runs_in_words
    if summary.is_given:
        if summary.planned_runs == 1:
            runs = "one run"
        return f"{runs.capitalize()} for each network."
    planned = len(summary.networks) * summary.planned_runs
    return (
        f"{runs.capitalize()} for each network; {summary.finished_runs} of "
        f"{planned} training runs are complete."
    )


def answer_sample_size(summary: Summary, page: Page) -> str:
    text = f"{summary.test_images:,} test {summary.noun}s."
    if summary.detectable:
        text += (
            " Minimum detectable difference at 80% power, from these results: "
            f"{summary.detectable}."
        )
    return f"{text} State how the sample size was chosen."


def answer_metrics(summary: Summary, page: Page) -> str:
    return (
        f"The verdict is based on {summary.measure.heading} only. State why "
        "this metric was chosen. The tables show further metrics."
    )


def answer_uncertainty(summary: Summary, page: Page) -> str:
    if not summary.interval.over:
        return "None is shown."
    over = summary.interval.over.replace(", these", ", on these")
    return f"95% confidence intervals, over {over}."


def answer_tests(summary: Summary, page: Page) -> str:
    if not summary.interval.over:
        return ""
    text = (
        "Student's t assumes that paired differences are approximately normal"
    )
    if summary.folds:
        text += "; overlapping training sets are corrected for"
    text += "."
    if len(summary.networks) > 2:
        text += " Holm's correction needs no further assumption."
    return text


def answer_calibration(summary: Summary, page: Page) -> str:
    return 'See "Calibration".' if "Calibration" in _titles(page) else ""


def answer_unequal_classes(summary: Summary, page: Page) -> str:
    if not summary.class_names:
        return ""
    sentences = []
    if not summary.is_given:
        is_weighted = summary.recipe.get("class_weight")
        weighted = "weighted" if is_weighted else "not weighted"
        sentences.append(f"The loss was {weighted} by class.")
    if summary.guess:
        sentences.append(
            f"Always predicting one class gives a {summary.measure.heading} "
            f"of {summary.guess}."
        )
    return " ".join(sentences)


def answer_output(summary: Summary, page: Page) -> str:
    if summary.predicts != CLASSES and not summary.has_masks:
        return ""
    of_what = " of each pixel" if summary.has_masks else ""
    text = f"The most probable class{of_what}."
    for title in _titles(page):
        if "hreshold" in title:
            text += f' See "{title}" for the threshold.'
    return text


def answer_errors(summary: Summary, page: Page) -> str:
    titles = _titles(page)
    looked_at = '"What the networks look at"'
    has_examples = looked_at.strip('"') in titles
    if "Confusion" in titles:
        text = 'See "Confusion"'
        if has_examples:
            text += f"; mistakes come first in {looked_at}"
        return f"{text}."
    if has_examples:
        return f"See {looked_at}."
    if "Regression" in titles:
        return '"Regression" shows the residual of each prediction.'
    return ""


def answer_explanations(summary: Summary, page: Page) -> str:
    if not summary.has_heat_maps:
        return ""
    return f"Grad-CAM of a few test {summary.noun}s; not validated."


def answer_robustness(summary: Summary, page: Page) -> str:
    return "" if summary.is_given else "Not tested in this run."


def answer_external_data(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    return (
        f"None in this run: all {summary.noun}s are from {summary.data_name}."
    )


def answer_subgroups(summary: Summary, page: Page) -> str:
    if not summary.has_groups:
        return ""
    text = "Add results by group."
    if summary.interval.has_groups:
        return f"Confidence intervals are over groups. {text}"
    return text


def answer_limitations(summary: Summary, page: Page) -> str:
    if summary.is_given:
        return ""
    text = "Only these networks, data and epochs were tested"
    if page.warnings:
        text += '; see "Read this first"'
    return f"{text}. State what follows from that."


def answer_plan(summary: Summary, page: Page) -> str:
    if not summary.plans:
        return ""
    first, *later = (plan["written"] for plan in summary.plans)
    text = f"The settings were recorded on {first}, when the run began"
    if later:
        text += f", and changed on {' and '.join(later)}"
    return f"{text}. Name a plan that is older or public, if there is one."


def answer_code(summary: Summary, page: Page) -> str:
    of_what = "This evaluation: " if summary.is_given else ""
    return f"{of_what}{describe_versions(summary)}. Add where your own code is."


def answer_machines(summary: Summary, page: Page) -> str:
    if not summary.machines:
        return ""
    text = "; ".join(summary.machines)
    if summary.time:
        text += f"; {summary.time} of training in all"
    return f"{text}."


def answer_repeating(summary: Summary, page: Page) -> str:
    if page.command:
        return 'The command is in "Reproduce this run", with the seeds.'
    if summary.is_given:
        return ""
    return (
        'The settings are in "All settings", the seeds in "Reproduce this '
        'run"; share the script.'
    )


def answer_availability(summary: Summary, page: Page) -> str:
    if summary.is_given or "Files" not in _titles(page):
        return ""
    return '"Files" names the networks. State where they are available.'


ITEMS: Sequence[Item] = (
    Item(
        "Population, setting, purpose, and why these networks",
        answer_nothing,
        "REFORMS 1a, 1b, 1c; CLAIM 3, 6; TRIPOD+AI 3a, 3b, 6a, 12c",
    ),
    Item(
        "Research question, outcome and baseline",
        answer_question,
        "CLAIM 4; TRIPOD+AI 4; NeurIPS 1",
    ),
    Item(
        "Origin of the data: source, dates, license, link",
        answer_origin,
        "REFORMS 2a, 3a, 3b; CLAIM 7, 43; TRIPOD+AI 5a, 5b, 18e; NeurIPS 5, 12",
    ),
    Item(
        "Inclusion and exclusion; damaged or missing data",
        answer_left_out,
        "REFORMS; CLAIM 8, 12, 35; TRIPOD+AI 6b, 11, 20a",
    ),
    Item(
        "How labels were made, by whom, and how well they agree",
        answer_nothing,
        "REFORMS 3a; CLAIM 14 to 18; TRIPOD+AI 8a, 8b",
    ),
    Item(
        "Outcome, and how often each class occurs",
        answer_outcome,
        "REFORMS 3d; TRIPOD+AI 8a, 20a, 21",
    ),
    Item(
        "Preprocessing and augmentation",
        answer_preprocessing,
        "REFORMS; CLAIM 9; TRIPOD+AI 7, 12b; NeurIPS 6",
    ),
    Item(
        "How the data were divided, and by which unit",
        answer_division,
        "REFORMS; CLAIM 19, 20; TRIPOD+AI 12a, 21; NeurIPS 6",
    ),
    Item(
        "Duplicates and related examples in several splits",
        answer_duplicates,
        "REFORMS; CLAIM 20",
    ),
    Item(
        "No test data in training or model selection",
        answer_selection,
        "REFORMS; CLAIM 26, 32; TRIPOD+AI 12c; NeurIPS 6",
    ),
    Item(
        "Networks, their parameters and initial weights",
        answer_networks,
        "REFORMS; CLAIM 22, 24; TRIPOD+AI 22; NeurIPS 4, 6",
    ),
    Item(
        "A fair baseline",
        answer_baseline,
        "REFORMS; CLAIM 28; NeurIPS 6",
    ),
    Item(
        "Loss, optimizer, schedule, epochs, batch size",
        answer_optimization,
        "CLAIM 25; TRIPOD+AI 12c; NeurIPS 6",
    ),
    Item(
        "Choice of hyperparameters, with equal effort for all",
        answer_hyperparameters,
        "REFORMS; CLAIM 25; TRIPOD+AI 12c; NeurIPS 6",
    ),
    Item(
        "Checkpoint selection",
        answer_tested_network,
        "REFORMS; CLAIM 26; TRIPOD+AI 12c",
    ),
    Item(
        "How many training runs, and whether all are counted",
        answer_runs,
        "CLAIM 29; NeurIPS 7",
    ),
    Item(
        "Sample size, and how it was planned",
        answer_sample_size,
        "REFORMS; CLAIM 21; TRIPOD+AI 10",
    ),
    Item(
        "Metrics, and why these",
        answer_metrics,
        "REFORMS; CLAIM 28; TRIPOD+AI 12e",
    ),
    Item(
        "Uncertainty of the results",
        answer_uncertainty,
        "REFORMS; CLAIM 29, 38; TRIPOD+AI 23a; NeurIPS 7",
    ),
    Item(
        "Statistical tests, and what they assume",
        answer_tests,
        "REFORMS; CLAIM 29; NeurIPS 7",
    ),
    Item(
        "Calibration of probabilities",
        answer_calibration,
        "TRIPOD+AI 12e, 23a",
    ),
    Item(
        "Class imbalance",
        answer_unequal_classes,
        "CLAIM 19, 38; TRIPOD+AI 13",
    ),
    Item(
        "Output and threshold",
        answer_output,
        "TRIPOD+AI 15",
    ),
    Item(
        "Errors and failures",
        answer_errors,
        "CLAIM 39",
    ),
    Item(
        "Explanations, and whether they were validated",
        answer_explanations,
        "CLAIM 31",
    ),
    Item(
        "Robustness and sensitivity",
        answer_robustness,
        "CLAIM 30",
    ),
    Item(
        "External test data",
        answer_external_data,
        "REFORMS; CLAIM 33; TRIPOD+AI 16",
    ),
    Item(
        "Subgroups, their size in each split, and fairness",
        answer_subgroups,
        "CLAIM 36, 37; TRIPOD+AI 3c, 14, 20b, 20c, 23a; NeurIPS 10",
    ),
    Item(
        "Limitations, and use in practice with its risks",
        answer_limitations,
        "REFORMS; CLAIM 40, 41; TRIPOD+AI 25, 26, 27; NeurIPS 2, 10, 11",
    ),
    Item(
        "A plan fixed in advance",
        answer_plan,
        "CLAIM 34, 42; TRIPOD+AI 18c, 18d",
    ),
    Item(
        "Code and versions",
        answer_code,
        "REFORMS 2b; CLAIM 23, 43; TRIPOD+AI 18f; NeurIPS 5",
    ),
    Item(
        "Hardware and training time",
        answer_machines,
        "REFORMS 2c; NeurIPS 8",
    ),
    Item(
        "How to reproduce the results",
        answer_repeating,
        "REFORMS 2d, 2e; CLAIM 42; NeurIPS 4, 5",
    ),
    Item(
        "Availability of networks and predictions",
        answer_availability,
        "CLAIM 43; TRIPOD+AI 22; NeurIPS 5",
    ),
    Item(
        "Consent, de-identification, ethics, funding, competing interests",
        answer_nothing,
        "CLAIM 11, 44; TRIPOD+AI 17, 18a, 18b; NeurIPS 9, 15",
    ),
)
