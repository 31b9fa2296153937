"""Reports in a real browser: no error and no request."""

import pathlib

import pytest
from report_checks import FOLDERS

from cbam_keras import report


@pytest.fixture
def opened(browser, tmp_path):
    """Returns a function that opens the report of a command in a page."""
    problems = []

    def opening(command, width=1280):
        file = report.write(FOLDERS[command](tmp_path / "run"))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", note)
        page.goto(pathlib.Path(file).as_uri())
        return page

    def note(request):
        if not request.url.startswith(("data:", tmp_path.as_uri())):
            problems.append(request.url)

    yield opening
    assert not problems


@pytest.mark.exhaustive
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("command", FOLDERS)
def test_a_report_opens_without_errors_and_fits(command, width, opened):
    page = opened(command, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for picture in page.query_selector_all("img"):
        assert picture.evaluate("image => image.naturalWidth") > 0
    page.close()
