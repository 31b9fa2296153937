"""The documentation site: built offline, complete, fetching nothing."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("mkdocs", reason="builds the site: extra `docs`")

pytestmark = pytest.mark.exhaustive
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
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
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


def test_arguments_are_a_list(pages):
    page = pages["reference/layers/index.html"]
    assert "<li><code>order</code>: String." in page


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
