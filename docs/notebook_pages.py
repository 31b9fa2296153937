"""Shows the notebooks as pages of the site, with their outputs."""

import pathlib
import re

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "notebooks"
# Nothing is fetched when a page is read.
BADGE = re.compile(r"\[!\[(Open In Colab)\]\([^)]+\)\]")
OTHER = re.compile(r"\]\((\d\d_\w+)\.ipynb\)")


# Before the search looks at the files.
@event_priority(100)
def on_files(files, config):
    """Adds a page, and its pictures, for each notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        body, resources = MarkdownExporter().from_filename(
            str(path), {"output_files_dir": path.stem}
        )
        body = OTHER.sub(r"](\1.md)", BADGE.sub(r"[\1]", body))
        body = body.replace("![png]", "![What the cell above draws]")
        added = {f"{path.stem}.md": body, **resources["outputs"]}
        for name, content in added.items():
            files.append(
                File.generated(config, f"notebooks/{name}", content=content)
            )
    return files
