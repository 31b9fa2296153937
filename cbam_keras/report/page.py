"""What a page holds, and the HTML file that it becomes.

The page is one file, from which no request leaves: figures are data, and the
content security policy names the style by its hash.
"""

import base64
import dataclasses
import hashlib
import io
import pathlib

from cbam_keras import _checks
from cbam_keras._terminal import Table

# With which figures are drawn, in dots per inch.
DPI = 150


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
        data = path.read_bytes()
        image = pillow.open(io.BytesIO(data))
        image.load()
        # A browser shows 96 pixels per inch, and sharp screens show more.
        width, height = (round(side * 96 / DPI) for side in image.size)
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return cls(source, width, height, caption)


def _empty(kind):
    return dataclasses.field(default_factory=kind)


@dataclasses.dataclass
class Page:
    """What a report says, from its head to its end."""

    title: str = "A run of cbam_keras"
    question: str = ""
    verdict: str = ""
    about: str = ""
    # A line for each thing that is not there.
    missing: list[str] = _empty(list)
    tables: list[Table] = _empty(list)
    # A line of Python that makes the best layer.
    code: str = ""
    figures: list[Figure] = _empty(list)
    # What the networks look at, and what they predict for these images.
    explanations: list[Figure] = _empty(list)
    predictions: Table | None = None
    # `None` for a run that was started from Python.
    command: str | None = None
    facts: dict[str, str] = _empty(dict)
    settings: str = ""


def render(page: Page) -> str:
    """Returns a page as HTML."""
    jinja2 = _checks.require("jinja2", extra="plot")
    folder = pathlib.Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        page=page, style=style, style_hash=f"'sha256-{digest}'"
    )
