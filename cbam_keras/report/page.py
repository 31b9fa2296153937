"""What a page holds, and the HTML file that it becomes.

The page is one file, from which no request leaves: figures are data, and the
content security policy names the style by its hash.
"""

import base64
import dataclasses
import hashlib
import io
import pathlib
import tomllib

from cbam_keras import _checks
from cbam_keras._terminal import Table

FOLDER = pathlib.Path(__file__).parent
# The resolution of figures, in dots per inch.
DPI = 150
# Captions, notes and headings.
TEXTS = tomllib.loads((FOLDER / "page.texts.toml").read_text("utf-8"))
# Figures of more networks make a page too long.
MAX_NETWORKS = 6
# The titles of sections in the order of the page: first what answers the
# question, then what it was computed from.
SECTIONS = (
    "Results",
    "Learning curves",
    "Regression",
    "Classes",
    "Confusion",
    "What the networks look at",
    "Calibration",
    "ROC",
    "ROC and threshold",
    "Threshold",
    "Data",
    "Methods",
    "Reporting checklist",
    "Files",
)
REPEAT = "Reproduce this run"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure: a `data:` address, its size on the page, what it shows."""

    source: str
    width: int
    height: int
    caption: str

    @classmethod
    def read(cls, path: pathlib.Path, caption: str) -> "Figure":
        """Returns the figure in a PNG file."""
        pillow = _checks.require("PIL.Image", extra="plot")
        image, encoded = pillow.open(path), io.BytesIO()
        # A quarter of the size.
        image.save(encoded, "webp", quality=90)
        # A browser shows 96 pixels per inch, and sharp screens show more.
        width, height = (round(side * 96 / DPI) for side in image.size)
        data = base64.b64encode(encoded.getvalue()).decode()
        return cls(f"data:image/webp;base64,{data}", width, height, caption)


@dataclasses.dataclass
class Section:
    """A part of a page: texts, tables, listings to be copied, figures."""

    title: str
    texts: list[str] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    # These tables are seen only when they are opened.
    folded: list[Table] = dataclasses.field(default_factory=list)
    listings: dict[str, str] = dataclasses.field(default_factory=dict)
    figures: list[Figure] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        shown = self.texts, self.tables, self.folded, self.listings
        return any((*shown, self.figures))

    @property
    def anchor(self) -> str:
        """What links to the section name."""
        return anchor_of(self.title)


@dataclasses.dataclass
class Page:
    """What a report says, from its head to its end."""

    title: str = "A run of cbam_keras"
    question: str = ""
    verdict: str = ""
    about: str = ""
    # What makes results wrong or doubtful, as copies among the test images.
    warnings: list[str] = dataclasses.field(default_factory=list)
    # A line for each thing that is not there.
    missing: list[str] = dataclasses.field(default_factory=list)
    sections: list[Section] = dataclasses.field(default_factory=list)
    # `None` for a run that was started from Python.
    command: str | None = None
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: str = ""
    # Whether its figures are also written as PDF.
    as_pdf: bool = False

    @property
    def shown_sections(self) -> list[Section]:
        """The sections that hold something, in the order of the page."""
        sections = filter(None, self.sections)
        return sorted(
            sections, key=lambda section: SECTIONS.index(section.title)
        )

    @property
    def contents(self) -> dict[str, str]:
        """The titles of the sections, by what links to them name."""
        titles = [section.title for section in self.shown_sections]
        if self.facts:
            titles.append(REPEAT)
        return {anchor_of(title): title for title in titles}


def anchor_of(title: str) -> str:
    """Returns what links to a title name, such as "learning-curves"."""
    return title.lower().replace(" ", "-")


def render(page: Page) -> str:
    """Returns a page as HTML."""
    jinja2 = _checks.require("jinja2", extra="plot")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        page=page,
        repeat=REPEAT,
        repeat_anchor=anchor_of(REPEAT),
        style=style,
        style_hash=f"'sha256-{digest}'",
    )
