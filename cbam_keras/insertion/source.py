"""`check_source`: whether attention in files of source is what it is called."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.insertion.checking import CheckedGate, CheckReport
from cbam_keras.insertion.definitions import cells_of
from cbam_keras.insertion.finding import UNKNOWN
from cbam_keras.insertion.source_process import not_looked_into

SUFFIXES = (".py", ".ipynb")
# Folders whose files are of others, beside hidden ones and environments.
SKIPPED = {"site-packages", "node_modules", "__pycache__"}
# A process ends after so many seconds of one file, and needs at most as many to
# start.
SECONDS = 60
STARTING = 300
KERAS = re.compile(r"\b((tf_|cbam_)?keras|tensorflow)\b")
TORCH = re.compile(r"\b(import|from) torch\b")
NOT_KERAS = "PyTorch, not Keras"
# What Keras 3 does not run, and the definition of a gate.
OLD = {
    "TensorFlow 1, which Keras 3 does not run": re.compile(
        r"\btf_slim\b|tensorflow\.contrib|\btf\.(contrib|placeholder|Session|"
        r"get_variable|variable_scope|layers)\b"
    ),
    "`tf_keras`; install Keras 3, and import `keras`": re.compile(
        r"\b(import|from) tf_keras\b"
    ),
}
GATE = re.compile(
    r"^ *(?:def|class) (\w*(?:cbam|attention|se_?(?:block|layer)|squeeze|eca_|"
    r"excit)\w*)",
    re.I | re.M,
)
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cbam_keras.insertion.source_process import main; main(*sys.argv[2:])"
)


def check_source(path: str | os.PathLike) -> CheckReport:
    """Says what attention in source computes; it runs the definitions of files.

    No model, weights or data are needed. Imports, `def`, `class` and
    assignments of plain values are executed, in another process with an empty
    folder as its own; decorators, defaults and class bodies run: do not check
    what you would not import. Modules beside a file are read by the same rule.
    Layers and functions that look like gates are called on features of 32
    channels, with their own defaults and usual arguments. Functions that return
    a `keras.Model` are called, too, and calls of gates counted in it.

    Args:
        path: String or path, a file `.py` or `.ipynb`, or a folder, in which
            hidden folders and environments are skipped. Or
            `"package.module:build"`, a function or class in a module below the
            current folder.

    Returns:
        A `CheckReport`, whose rows have `file` and `line`.

    Raises:
        ValueError: If there is no such file, or none in the folder.

    Example:
        >>> report = check_source("train.py")  # doctest: +SKIP
        >>> report.passed  # doctest: +SKIP
        False
    """
    files, only = _files(path)
    rows: dict[pathlib.Path, list[CheckedGate]] = {x: [] for x in files}
    texts, torch = {}, 0
    for file in files:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            text = _text(file)
            if KERAS.search(text):
                texts[file] = text
            else:
                torch += bool(TORCH.search(text))
    alone = not pathlib.Path(path).is_dir()
    for row in _found([(x, only, alone) for x in texts]):
        file = pathlib.Path(row.file)
        # A file that cannot be read may have none.
        if row.gate != file.name or GATE.search(texts[file]):
            rows.setdefault(file, []).append(row)
    for file, text in texts.items():
        if not all(x.verdict.startswith(UNKNOWN) for x in rows[file]):
            continue
        gate = GATE.search(text)
        for reason, pattern in OLD.items():
            if gate and pattern.search(text):
                line = text.count("\n", 0, gate.start()) + 1
                rows[file] = [not_looked_into(gate[1], reason, file, line)]
    without = sum(not x for x in rows.values()) - torch
    notes = []
    if without:
        notes.append(f"{_checks.count(without, 'file')} without a gate.")
    if torch:
        notes.append(f"{_checks.count(torch, 'file', 'are')} {NOT_KERAS}.")
    several = [row for found in rows.values() for row in _once(found)]
    if not pathlib.Path(path).is_absolute():
        several = [
            dataclasses.replace(row, file=os.path.relpath(row.file))
            for row in several
        ]
    return CheckReport(
        tuple(several),
        place=str(path),
        note=" ".join(notes),
    )


def _once(rows):
    """Yields rows of a file, each once, with what other files say of it."""
    by_place = {}
    for row in sorted(rows, key=lambda x: x.line):
        known = by_place.setdefault((row.line, row.gate), row)
        if known.passed and not row.passed:
            by_place[row.line, row.gate] = row
    yield from by_place.values()


def _files(path):
    """Returns the files of a path, and the only name that counts."""
    given = pathlib.Path(path).expanduser()
    module, _, name = str(path).partition(":")
    if not given.exists() and all(
        map(str.isidentifier, (*module.split("."), name))
    ):
        given = pathlib.Path(*module.split(".")).with_suffix(".py")
        if not given.is_file():
            with contextlib.suppress(ImportError, ValueError):
                spec = importlib.util.find_spec(module)
                given = pathlib.Path(spec.origin if spec else given)
    else:
        name = ""
    if given.is_file() and given.suffix in SUFFIXES:
        return [given.resolve()], name
    files = sorted(_walk(given.resolve())) if given.is_dir() else []
    if not files:
        raise ValueError(
            "`path` must be a file of Python, .py or .ipynb, a folder of such "
            "files, or a function of a module, as package.module:build. "
            f"Received: path={str(path)!r}"
        )
    return files, ""


def _walk(folder):
    """Yields the files in a folder that its author has written."""
    for place, names, files in os.walk(folder):
        names[:] = [
            x
            for x in names
            if x[0] != "."
            and x not in SKIPPED
            and not pathlib.Path(place, x, "pyvenv.cfg").exists()
        ]
        for file in files:
            if file.endswith(SUFFIXES) and file[0] != ".":
                yield pathlib.Path(place, file)


def _text(file):
    if file.suffix == ".ipynb":
        return "\n".join(cells_of(file))
    return file.read_text("utf-8", "replace")


def _found(
    files: Sequence[tuple[pathlib.Path, str, bool]],
) -> Iterator[CheckedGate]:
    """Yields what processes find in files; one that ends is replaced."""
    left = [(i, str(file), *others) for i, (file, *others) in enumerate(files)]
    while left:
        current: pathlib.Path | None = None
        for line in _lines(left):
            if "begun" in line:
                current = files[line["begun"]][0]
                left = [x for x in left if x[0] > line["begun"]]
            elif "row" in line:
                yield CheckedGate(**line["row"])
            elif "problem" in line:
                yield _row_of_file(current, line["problem"])
            else:
                current = None
        if current:
            reason = f"ends the process, or takes more than {SECONDS} s"
            yield _row_of_file(current, reason)


def _row_of_file(file, reason):
    return not_looked_into(file.name, reason, file, 1)


def _lines(job: Sequence[tuple]) -> list[dict[str, Any]]:
    """Returns what one process writes of files before it ends.

    Raises:
        RuntimeError: If it cannot start.
    """
    root = pathlib.Path(__file__).parents[2]
    settings = {
        # Files may hold any use of a GPU, and need none.
        "CUDA_VISIBLE_DEVICES": "-1",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if importlib.util.find_spec("tensorflow"):
        settings["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        given, found, own = (
            pathlib.Path(folder, x) for x in ("job", "found", "own")
        )
        own.mkdir()
        found.touch()
        given.write_text(json.dumps(job))
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [sys.executable, "-c", START, root, given, found, str(SECONDS)],
                cwd=own,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=STARTING + SECONDS * len(job),
            )
        lines = []
        for line in found.read_text("utf-8").splitlines():
            # The process may have ended while it wrote.
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        if not lines:
            raise RuntimeError(
                "The process that reads source did not start. Received: "
                f"{done.stderr.strip()[-500:]}"
            )
        return lines
