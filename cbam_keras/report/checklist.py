"""What checklists of reviewers ask for, and what a folder answers."""

import csv
import pathlib
from typing import Any

from cbam_keras._files import Json
from cbam_keras._terminal import Table
from cbam_keras.report.page import FOLDER, Page, Section, find_template
from cbam_keras.study.results.results import Results

# What is asked for, in our words, a template of the sentence that answers it,
# and the lists that ask.
QUESTIONS, YOURS = FOLDER / "page.checklist.csv", "Yours to write."
LISTS = (
    "Items of four checklists in our own words: REFORMS (2024; item numbers up "
    "to 3d), CLAIM (2024), TRIPOD+AI (2024) and NeurIPS. The answers come from "
    "this folder; see the original lists for what a full answer needs."
)


def describe_making(results: Results, content: Json) -> dict[str, Any]:
    """Returns when a run was planned, on what it was trained, and how long."""
    # A network that a run has chosen was trained as a candidate.
    own = [x for x in results.outcomes if x.learning_rate is None]
    seconds = sum(x.seconds for x in (*own, *results.candidates))
    took = f"{seconds / 3600:.1f} hours"
    if seconds < 5400:
        took = f"{seconds / 60:.0f} minutes" if seconds > 90 else "a minute"
    known = {x: content.get(x) or [] for x in ("plans", "machines")}
    return {**known, "took": took if seconds else ""}


def add_checklist(
    page: Page, results: Results, content: Json, known: dict[str, Any]
) -> None:
    """Adds what checklists ask, to what the methods know and all sections."""
    measure, source = results.measures[0], content.get("source") or {}
    guess, seen, rows = results.guess, results.detectable, []
    # Copies are searched for in data that nobody has published.
    is_own = pathlib.Path(str(source.get("name", "/"))).is_absolute()
    known = known | {
        "page": page,
        "content": content,
        "titles": [x.title for x in page.sections if x],
        "has_masks": bool(source.get("masks")),
        "is_searched": content.get("leaks") == [] and is_own,
        "guess": guess and f"{measure.number(guess)}{measure.unit}",
        "detectable": seen and measure.in_points(measure.number(seen)),
    }
    environment = find_template("page.html", autoescape=False).environment
    with QUESTIONS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            answer = environment.from_string(row["answer"]).render(known)
            rows.append(row | {"answer": " ".join(answer.split()) or YOURS})
    answered = sum(row["answer"] != YOURS for row in rows)
    title = f"{len(rows)} items, {answered} answered at least in part"
    table = Table(title, rows)
    section = Section("For your checklist", [LISTS], [table], is_folded=True)
    page.sections.append(section)
