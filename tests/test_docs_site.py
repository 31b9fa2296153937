"""Tests of the documentation site: built offline, complete docstrings."""

import functools
import html
import http.server
import os
import pathlib
import re
import subprocess
import sys
import threading

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


# In a real browser.


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on a server of this machine."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser, address):
    """Returns a function that opens a page of the site."""
    problems, pages = [], []

    def opening(name, width):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", note)
        page.goto(address + name)
        pages.append(page)
        return page

    def note(request):
        if not request.url.startswith(("data:", "blob:", address)):
            problems.append(request.url)

    yield opening
    for page in pages:
        page.close()
    assert not problems


@pytest.mark.parametrize("width", [400, 1280])
def test_a_word_is_found_and_a_click_opens_its_page(opened, width):
    page = opened("", width)
    if width == 400:
        page.locator("label[for=__search].md-header__button").click()
    words = page.locator("[data-md-component=search-query]")
    # Typed, since the search listens to keys.
    words.press_sequentially("saturation")
    found = page.locator(".md-search-result__link")
    found.first.wait_for()
    links = [link.get_attribute("href") for link in found.all()]
    assert any("reference/monitor/" in link for link in links)
    number = ["reference/monitor/" in link for link in links].index(True)
    found.nth(number).click()
    page.wait_for_url("**/reference/monitor/**")
    assert "saturation" in page.locator("article").inner_text()


@pytest.mark.parametrize(
    "name", ["", "gallery/", "guides/detection/", "reference/layers/"]
)
def test_pages_and_commands_fit_a_narrow_screen(opened, name):
    page = opened(name, 400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    overflow = "code => code.scrollWidth - code.clientWidth"
    commands = page.query_selector_all(".language-bash pre > code")
    assert commands or name.startswith("reference")
    assert not [one for one in commands if one.evaluate(overflow) > 0]
    broken = "option => option.getClientRects().length > 1"
    options = page.query_selector_all(".option")
    assert not [one for one in options if one.evaluate(broken)]
    # An invisible picture has no size.
    for picture in page.query_selector_all("article img"):
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.naturalWidth") > 0


def test_the_reference_is_listed_in_the_order_of_the_menu(pages):
    menu = re.findall(r"reference/(\w+)\.md", (ROOT / "mkdocs.yml").read_text())
    index = (ROOT / "docs/reference/index.md").read_text()
    assert re.findall(r"^- \*\*\[\w+\]\((\w+)\.md\)", index, re.M) == menu[1:]
