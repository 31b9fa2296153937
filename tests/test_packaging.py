"""What users install: metadata, and what the wheel holds."""

import json
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
    *(f"cbam_keras/report/page.{kind}" for kind in ("css", "html")),
    "cbam_keras/report/page.methods.txt",
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


def test_a_script_above_the_clone_imports_what_is_installed_with_e(
    clone, tmp_path
):
    with build(clone, "build_editable") as archive:
        archive.extractall(tmp_path)
    code = """import importlib.util, site, sys
site.addsitedir(sys.argv[1])
print(importlib.util.find_spec("cbam_keras").origin)"""
    # Without the packages and paths that the tests run with.
    command = [sys.executable, "-ES", "-c", code, tmp_path]
    origin = subprocess.check_output(command, cwd=clone.parent, text=True)
    assert origin == f"{clone / 'cbam_keras' / '__init__.py'}\n"


@pytest.mark.parametrize(
    ("limits", "status", "said"),
    [
        ({"1.0": {"package_and_command": 3, "tests": 2}}, 0, "at most 3 in"),
        ({"1.0": {"package_and_command": 2, "tests": 2}}, 1, "     3 lines of"),
        ({"1.0": {"package_and_command": 3, "tests": 1}}, 1, "data 2, be"),
        ({"0.9": {}}, 1, "has no limits of version 1.0"),
        (None, 0, "no limit in 1.0"),
    ],
)
def test_lines_are_counted_and_limited(tmp_path, limits, status, said):
    if shutil.which("git") is None:
        pytest.skip("lists files by git")
    texts = {
        "cbam_keras/_version.py": '__version__ = "1.0"\n',
        "cbam_keras/data/masks.py": "a = 1\nb = 2\n",
        "tests/test_data_masks.py": "c = 3\nd = 4\n",
        ".ci/lines.py": (ROOT / ".ci/lines.py").read_text(),
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in ("git init -q", "git add ."):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    # It is not tracked.
    (tmp_path / "cbam_keras/more.py").write_text("e = 5\n")
    if limits is not None:
        (tmp_path / "limits.json").write_text(json.dumps(limits))
    command = [sys.executable, ".ci/lines.py", tmp_path / "limits.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout
