"""`write`: reads an output folder and writes its page."""

import json
import os
import pathlib

from cbam_keras import _checks, _files, study
from cbam_keras.report import explanations, sections
from cbam_keras.report.page import Page, render


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
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(
            f"`folder` must be the path of a folder. Received: {folder!r}"
        )
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise ValueError(
            "`folder` must be the output folder of a run. Received: "
            f'folder="{path}", which is not a folder'
        )
    path = _files.output_folder(path)
    page = _read(path)
    with _files.replacing(path / study.REPORT) as beside:
        beside.write_text(render(page), encoding="utf-8")
    return path / study.REPORT


def _read(folder):
    """Returns the page of a folder, with a line for what is missing."""
    page = Page()
    file, read = study.RESULTS, study.read_content
    if (folder / explanations.FILE).exists():
        file, read = explanations.FILE, explanations.read_content
    elif not (folder / file).exists() and not (folder / "search.json").exists():
        page.missing.append(
            f"The folder holds no run: neither {file} nor {explanations.FILE}."
        )
        return page
    try:
        content = read(folder)
        parts = sections.PARTS[content["kind"]]
    # Damage has many types; a package may be missing, too.
    except Exception as error:
        page.missing.append(f"{file} cannot be read ({_reason(error)}).")
        return page
    for part in (_identity, *parts):
        try:
            part(page, folder, content)
        except Exception as error:
            what = part.__doc__.split(".")[0]
            page.missing.append(f"{what} cannot be read ({_reason(error)}).")
    return page


def _reason(error):
    return f"{type(error).__name__}: {error}"


def _identity(page, folder, content):
    """Versions and settings."""
    if isinstance(content.get("command"), str):
        page.command = content["command"]
    page.settings = json.dumps(
        content.get("settings"), indent=2, ensure_ascii=False
    )
    page.facts["folder"] = str(folder.resolve())
    for name, version in (content.get("versions") or {}).items():
        page.facts[name] = str(version)
