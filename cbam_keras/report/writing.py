"""`write`: reads an output folder and writes its page."""

import json
import os
import pathlib
import zipfile
from collections.abc import Callable

from cbam_keras import _checks, _files, _run_folder
from cbam_keras.report import (
    ablated,
    detected,
    explained,
    searched,
    trained,
)
from cbam_keras.report.page import Page, render

FILE = _run_folder.REPORT
# What reading a damaged file raises; an optional package may be missing too.
DAMAGE = (
    *(*_run_folder.DAMAGE, LookupError, ArithmeticError, ImportError),
    *(EOFError, StopIteration, SyntaxError, zipfile.BadZipFile),
)
# The parts of a page by the kind of run. Each adds what it finds.
PARTS: dict[str, tuple[Callable[..., None], ...]] = {
    "training run": trained.PARTS,
    "training over seeds": trained.PARTS_OF_SEEDS,
    "search": searched.PARTS,
    "ablation": ablated.PARTS,
    "comparison of detectors": detected.PARTS,
    "explanation": explained.PARTS,
}


def write(folder: str | os.PathLike) -> pathlib.Path:
    """Writes the report of an output folder, one HTML page.

    The commands `train`, `tune`, `ablate`, `explain` and `detect` write it
    when they end. It holds the question and the answer, the tables, the
    figures, where the networks look, what identifies the run, and the command
    that repeats it. It is read without a network, and can be sent as it is.
    Of an unfinished or damaged run it holds what there is, and says what is
    missing.

    Args:
        folder: Path of an output folder. An existing report is replaced.

    Returns:
        Path of the page, `report.html` in that folder.

    Raises:
        TypeError: If `folder` is not a path.
        ValueError: If it is not a folder that exists and can be written to.
        ImportError: If Jinja or matplotlib is not installed.

    Example:
        >>> page = write(folder)
        >>> page.name
        'report.html'
    """
    _checks.require("jinja2", extra="plot")
    _checks.require("matplotlib", extra="plot")
    path = _run_folder.folder_path(folder)
    if not path.is_dir():
        raise ValueError(
            "`folder` must be the output folder of a run. Received: "
            f'folder="{path}", which is not a folder'
        )
    path = _files.output_folder(path)
    page = read(path)
    with _files.replacing(path / FILE) as beside:
        beside.write_text(render(page), encoding="utf-8")
    return path / FILE


def read(folder: pathlib.Path) -> Page:
    """Returns the page of a folder, with a line for what is missing."""
    page = Page()
    content = _content(page, folder)
    if content is None:
        return page
    kind = str(content.get("kind"))
    for part in (_identity, *PARTS.get(kind, ())):
        try:
            part(page, folder, content)
        except DAMAGE as error:
            what = (part.__doc__ or part.__name__).split(".")[0]
            reason = f"{type(error).__name__}: {error}"
            page.missing.append(f"{what} cannot be read ({reason}).")
    if kind not in PARTS:
        page.missing.append(
            f"The folder holds a run of a kind that is not known here: {kind}."
        )
    return page


def _content(page, folder):
    """Returns what the main file of a run says, or `None`."""
    for name in ("search.json", "results.json", "explain.json"):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text("utf-8"))
        except DAMAGE as error:
            page.missing.append(f"{name} is damaged: {error}.")
            return None
        if not isinstance(content, dict):
            page.missing.append(f"{name} is damaged: it holds no run.")
            return None
        if name == "explain.json":
            content["kind"] = "explanation"
        return content
    page.missing.append(
        "The folder holds no run: neither search.json, results.json nor "
        "explain.json."
    )
    return None


def _identity(page: Page, folder: pathlib.Path, content: dict) -> None:
    """Versions and settings."""
    if isinstance(content.get("command"), str):
        page.command = content["command"]
    page.settings = content.get("settings")
    for name, version in (content.get("versions") or {}).items():
        page.facts[name] = str(version)
    page.facts["folder"] = str(folder.resolve())
