"""Tests of the documentation site: built offline, complete docstrings."""

import html
import os
import pathlib
import re
import subprocess
import sys

import pytest
from test_docs import PUBLIC
from test_docs_pages import REFERENCED

pytest.importorskip("mkdocs", reason="builds the site: extra `docs`")
pytest.importorskip("mkdocstrings", reason="reads docstrings: extra `docs`")

ROOT = pathlib.Path(__file__).parent.parent
# Runs `mkdocs` without network access.
OFFLINE = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError(f"the site is to be built offline: {args}")

socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, "build", "--strict", "-d", folder],
        cwd=ROOT,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            # So that bytecode of the hooks lies beside the pages.
            "PYTHONDONTWRITEBYTECODE": "",
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): path.read_text()
        for path in site.glob("**/*.html")
    }


def text_of(page):
    """Returns the visible text of a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def test_every_page_is_in_the_menu(pages):
    menu = pages["index.html"]
    for page in pages:
        folder = page.removesuffix("index.html")
        assert page == "404.html" or f'href="{folder or "."}"' in menu, page


def test_notebooks_are_pages_with_their_outputs(pages, site):
    stored = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name in stored:
        page = pages[f"notebooks/{name}/index.html"]
        pictures = re.findall(r'<img [^>]*src="([^"]+)"', page)
        assert all(
            (site / "notebooks" / name / one).is_file() for one in pictures
        )
        assert pictures or name.startswith("05")
        assert "backend tensorflow" in text_of(page)


def test_nothing_is_fetched_when_a_page_is_read(pages, site):
    loaded = [
        address
        for page in pages.values()
        for tag in re.findall(r"<(?:script|link|img|iframe)[^>]*>", page)
        for address in re.findall(r'(?:src|href)="([^"]+)"', tag)
    ]
    assert any(address.endswith(".js") for address in loaded)
    assert not [address for address in loaded if "//" in address]
    styles = "".join(path.read_text() for path in site.glob("**/*.css"))
    assert not re.findall(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", styles)


def test_tools_of_the_site_are_not_on_it(site):
    assert not [*site.glob("**/*.py"), *site.glob("**/__pycache__")]
    assert (site / "cluster" / "slurm.sh").is_file()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstrings_are_shown_whole(pages, name):
    value = PUBLIC[name]
    identifier = REFERENCED[value]
    (page,) = [page for page in pages.values() if f'id="{identifier}"' in page]
    # Spaces and markup of code, lists and emphasis may differ.
    seen = re.sub(r"[\s`*_]", "", text_of(page))
    lines = [
        re.sub(r"# doctest:.*|^ *- |[\s`*_]", "", line)
        for line in value.__doc__.split("\n")
    ]
    assert not [
        line
        for line in lines
        # The site separates the name of an argument or error from its text.
        if line.rpartition(":")[2] not in seen
    ]


def test_sections_that_keras_has_are_headings_like_the_others(pages):
    page = pages["reference/layers/index.html"]
    layer = page[page.index('<h2 id="cbam_keras.CBAM"') :]
    titles = re.findall(
        r'<span class="doc-section-title">([\w ]+):</span>', layer
    )
    assert titles[:7] == [
        "Parameters",
        "Call arguments",
        "Input shape",
        "Output shape",
        "Raises",
        "Examples",
        "Reference",
    ]


def test_lists_in_docstrings_are_lists(pages):
    page = pages["reference/data/index.html"]
    items = re.findall(r"<li>\s*(?:<p>)?<code>(.*?)</code>", page, flags=re.S)
    assert {'"mnist5k"', '"cluttered_mnist"', '"flip"', '"crop"'} <= {
        html.unescape(item) for item in items
    }


def test_examples_are_code(pages):
    quoted = [page for page in pages.values() if "<blockquote>" in page]
    assert not [page for page in quoted if "&gt;&gt;&gt;" in text_of(page)]
    assert "&gt;&gt;&gt;" in pages["reference/explain/index.html"]
