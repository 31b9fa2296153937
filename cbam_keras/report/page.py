"""What a page holds, and the HTML file that it becomes.

The page is one file, from which no request leaves: pictures are data, and the
content security policy names style and script by their hashes.
"""

import base64
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.report.looks import Look
from cbam_keras.report.pictures import Picture

NUMBER = re.compile(r"^\s*([+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)")


@dataclasses.dataclass
class Table:
    """A table whose rows a click on a heading sorts.

    Attributes:
        columns: Mapping of headings to `"left"` or `"right"`.
        rows: Rows of strings.
        title: String.
        note: String below the table. Defaults to `""`.
        ids: Sequence of strings, the rows' ids in the page, or empty.
    """

    columns: Mapping[str, str]
    rows: Sequence[Sequence[str]]
    title: str
    note: str = ""
    ids: Sequence[str] = ()


@dataclasses.dataclass
class Point:
    """A trial on the map of a search.

    Attributes:
        x: Number, the column, from 0; trials of one cell stand side by side.
        y: Number, the row, from 0.
        share: Number in [0, 1], from the worst trial to the best.
        number: Integer, that of the trial.
        text: String, its settings and accuracy.
    """

    x: float
    y: float
    share: float
    number: int
    text: str


@dataclasses.dataclass
class Map:
    """Trials by reduction ratio (columns) and kernel size (rows)."""

    columns: Sequence[str]
    rows: Sequence[str]
    points: Sequence[Point]


@dataclasses.dataclass
class Page:
    """What a report says.

    Attributes:
        title: String.
        question: String, what the run asks.
        verdict: String, the answer.
        missing: List of strings, a line for each thing that is not there.
        tables: List of `Table`.
        map: A `Map`, or `None`.
        figures: List of `Picture`.
        looks: List of `Look`.
        looks_title: String, the heading above them.
        looks_note: String, which images these are.
        code: String, a line of Python that makes the best layer, or empty.
        facts: Mapping of names to what identifies the run.
        settings: Plain values, all that the run was started with.
        command: String, or `None` for a run that was started from Python.
    """

    title: str = "A run of cbam_keras"
    question: str = ""
    verdict: str = ""
    missing: list[str] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    map: Map | None = None
    figures: list[Picture] = dataclasses.field(default_factory=list)
    looks: list[Look] = dataclasses.field(default_factory=list)
    looks_title: str = "Where the networks look"
    looks_note: str = ""
    code: str = ""
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: Any = None
    command: str | None = None


def render(page: Page) -> str:
    """Returns a page as HTML."""
    jinja2 = _checks.require("jinja2", extra="plot")
    folder = pathlib.Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["key"] = sort_key
    return environment.get_template("page.html").render(
        page=page,
        settings=json.dumps(page.settings, indent=2, ensure_ascii=False),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def sort_key(cell: Any) -> str:
    """Returns what a cell is sorted by: its first number, else its text."""
    found = NUMBER.match(str(cell))
    return found[1].replace(",", "") if found else str(cell)


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
