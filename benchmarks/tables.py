"""Writes what was measured into the tables of the pages.

    python -m benchmarks.tables
    python -m benchmarks.tables runs/bench/*.json

What stands between `<!-- table: NAME -->` and `<!-- /table -->` in a page is
rendered from `measured.jsonl` and `when_it_helps/results.jsonl`; a test fails
where it differs. `TABLES` has the names. Any other name is that of a line of
`measured.jsonl`. Files that `networks`, `small_network`, `layers` and `job`
wrote are stored there first.
"""

import json
import pathlib
import re
import sys

from benchmarks import builders, measured
from benchmarks.when_it_helps import tables as when_it_helps

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ("*.md", "docs/*.md", "docs/guides/*.md", "benchmarks/**/*.md")
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.S)
TABLES = {
    **measured.TABLES,
    **when_it_helps.TABLES,
    "builders": builders.table,
}


def table(name):
    if name in TABLES:
        return TABLES[name]()
    if name in {record.get("name") for record in measured.stored()}:
        return measured.by_hand(name)
    raise ValueError(
        f"A table must be one of {', '.join(TABLES)}, or have a line in "
        f"{measured.STORED.name}. Received: {name!r}"
    )


def page(text):
    """Returns the text of a page with its tables."""
    return MARKED.sub(lambda x: f"{x[1]}\n{table(x[2])}\n\n{x[3]}", text)


def pages():
    """Returns the texts of all pages with tables, by their paths."""
    paths = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    texts = {path: path.read_text("utf-8") for path in paths}
    return {x: page(text) for x, text in texts.items() if MARKED.search(text)}


def main():
    for path in sys.argv[1:]:
        measured.store(json.loads(pathlib.Path(path).read_text("utf-8")))
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
