"""Shows notebooks, with their outputs, and measurements in the site."""

import pathlib
import re
import textwrap

from nbconvert import MarkdownExporter
from properdocs.plugins import event_priority
from properdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
# What was measured, with the tables that are too long for a guide.
MEASURED = ("benchmarks/**/*.md", "benchmarks/**/*.?sv")
# Notebooks name notebooks and pages in words, since links would lead nowhere
# in one that is uploaded. In the site they are links.
NOTEBOOK = re.compile(r"\b[Nn]otebook (\d\d)\b")
PAGE = re.compile(r"`docs/([\w/-]+\.md)`")
# In the site the folders of notebooks and benchmarks are in that of the pages.
FROM_PAGE = re.compile(r"\]\(\.\./((?:\.\./)*notebooks/\w+)\.ipynb\)")
TO_MEASURED = re.compile(r"\]\(\.\./((?:\.\./)*benchmarks/)")
FROM_MEASURED = re.compile(r"\]\(((?:\.\./)+)docs/")
# The first cell, which installs the package, is folded here as in Colab, which
# takes the title from its first line.
FIRST_CELL = re.compile(
    r"^```python\n# @title (?P<title>\w+) .*?\n(?P<code>.*?^```\n)", re.M | re.S
)
# Sentences that a cell prints, not rows of its tables.
LONG = re.compile(r"^ {4}[^\n│┃]{86,}$", re.M)


def linked(match):
    """Returns the link to the notebook of a number."""
    (path,) = NOTEBOOKS.glob(f"{match[1]}_*.ipynb")
    return f"[{match[0]}]({path.stem}.md)"


def folded(cell):
    code = textwrap.indent("```python\n" + cell["code"], "    ")
    return f'??? note "{cell["title"]}"\n\n{code}'


# Before the search looks at the files.
@event_priority(100)
def on_files(files, config):
    """Adds notebooks, with their pictures, and measurements."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        body, resources = MarkdownExporter().from_filename(
            str(path), {"output_files_dir": path.stem}
        )
        body = PAGE.sub(r"[\g<0>](../\1)", NOTEBOOK.sub(linked, body))
        body = LONG.sub(_wrapped, body)
        body = body.replace("![png]", "![What the cell above draws]")
        body = FIRST_CELL.sub(folded, body, count=1)
        added = {f"{path.stem}.md": body, **resources["outputs"]}
        for name, content in added.items():
            files.append(
                File.generated(config, f"notebooks/{name}", content=content)
            )
    paths = [path for pattern in MEASURED for path in ROOT.glob(pattern)]
    for path in sorted(paths):
        text = FROM_MEASURED.sub(r"](\1", path.read_text("utf-8"))
        text = text.replace(".ipynb)", ".md)")
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, content=text))
    return files


def _wrapped(match):
    """Returns a line in the width of a page."""
    return textwrap.fill(match[0], 88, subsequent_indent=" " * 4)


def on_page_markdown(markdown, **kwargs):
    """Lets links to notebooks and measurements lead to their pages."""
    return TO_MEASURED.sub(r"](\1", FROM_PAGE.sub(r"](\1.md)", markdown))
