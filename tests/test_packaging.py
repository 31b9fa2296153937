"""What users install: metadata, and what the wheel holds."""

import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import cbam_keras

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imported before the package.
COMMAND = "_cbam_keras_command"
# What else than modules is installed.
DATA = (
    "cbam_keras/py.typed",
    "cbam_keras/convert/names.toml",
    *(f"cbam_keras/report/page.{kind}" for kind in ("css", "html")),
    "cbam_keras/report/page.texts.toml",
)
FILES = ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")


def test_all_files_name_the_same_release():
    texts = {name: (ROOT / name).read_text() for name in FILES}
    headings = re.findall(r"^## (.+)$", texts["CHANGELOG.md"], flags=re.M)
    # What follows a release is a version under development.
    is_developed = headings[0] == "Unreleased"
    release, date = headings[is_developed].split(" - ")
    citation = f"\nversion: {release}\ndate-released: {date}\n"
    assert citation in texts["CITATION.cff"]
    # What `--version` prints.
    assert f"; version {cbam_keras.__version__}.\n" in texts["README.md"]
    version, _, suffix = cbam_keras.__version__.partition(".dev")
    # Numbers are compared, since 0.10.0 follows 0.9.0.
    later, earlier = (
        [int(x) for x in text.split(".")] for text in (version, release)
    )
    assert (suffix.isdigit() and later > earlier) == is_developed
    assert is_developed or cbam_keras.__version__ == release


def test_nothing_is_installed_from_an_address():
    # Nobody here owns one, so somebody else could.
    files = [
        ROOT / name for name in (*FILES, "pyproject.toml", "properdocs.yml")
    ]
    files += [*ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    address = re.compile(r"git\+http|git clone|github\.com/cbam", re.I)
    assert not [path for path in files if address.search(path.read_text())]
    assert "urls" not in PROJECT


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Returns a copy of what is built, in a folder named like the package."""
    pytest.importorskip("setuptools", minversion="77", reason="builds it")
    folder = tmp_path_factory.mktemp("above") / "cbam_keras"
    folder.mkdir()
    for name in (*FILES, "pyproject.toml", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("cbam_keras", COMMAND, "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def build(clone, hook):
    """Returns the wheel that pip installs by a hook of setuptools."""
    code = f"from setuptools import build_meta; build_meta.{hook}('{hook}')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=clone,
        check=True,
        capture_output=True,
    )
    (wheel,) = clone.glob(f"{hook}/*.whl")
    return zipfile.ZipFile(wheel)


def test_the_wheel_holds_the_package_and_no_tests(clone):
    modules = {
        path.relative_to(ROOT).as_posix()
        for name in ("cbam_keras", COMMAND)
        for path in (ROOT / name).rglob("*.py")
    } | {*DATA}
    information = f"cbam_keras-{cbam_keras.__version__}.dist-info/"
    with build(clone, "build_wheel") as archive:
        installed = set(archive.namelist())
    assert f"{information}licenses/LICENSE" in installed
    assert modules == {
        name for name in installed if not name.startswith(information)
    }
