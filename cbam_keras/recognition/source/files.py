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
from cbam_keras.recognition.reports import (
    NOT_LOOKED_INTO,
    CheckedGate,
    CheckReport,
    unknown,
)
from cbam_keras.recognition.source.definitions import cells_of

SUFFIXES = (".py", ".ipynb")
# Folders whose files are of others, beside hidden ones and environments.
SKIPPED = {"site-packages", "node_modules", "__pycache__"}
# A process ends after so many seconds of one file.
SECONDS = 60
KERAS = re.compile(r"\b((tf_|cbam_)?keras|tensorflow)\b")
TORCH = re.compile(r"\b(import|from) torch\b")
# What Keras 3 does not run, and the definition of a gate.
OLD = {
    "TensorFlow 1, which Keras 3 does not run": r"\btf_slim\b|tensorflow\."
    r"contrib|\btf\.(contrib|placeholder|Session|get_variable|variable_scope|"
    r"layers)\b",
    "`tf_keras`; install Keras 3, and import `keras`": "(from|import) tf_keras",
}
GATE = re.compile(
    r"^ *(?:def|class) (\w*(?:cbam|attention|se_?block|se_?layer|squeeze|eca_|"
    r"excit)\w*)",
    re.I | re.M,
)
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cbam_keras.recognition.source.reader import main; main()"
)


@_checks.named
def check_source(path: str | os.PathLike) -> CheckReport:
    """Runs the definitions in files and reports what their attention computes.

    Do not check a file that you would not import: imports, `def`, `class` and
    assignments of plain values are executed, with decorators, defaults and
    class bodies, in a separate process with an empty working folder. Modules
    beside a file are treated in the same way. No model, weights or data are
    needed: layers and functions that look like attention are called on features
    of 32 channels, with default and usual arguments. Functions that return a
    `keras.Model` are called, too, to count the attention that they use.

    Args:
        path: String or path, a file `.py` or `.ipynb`, or a folder, in which
            hidden folders and environments are skipped. Or
            `"package.module:build"`, a function or class in a module below the
            current folder.

    Returns:
        A `CheckReport`, whose rows have `file` and `line`.

    Raises:
        ValueError: If there is no such file, or none in the folder.
        RuntimeError: If the process does not start.
    """
    files, only = _files(str(path))
    texts, torch = {}, 0
    for file in files:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            text = "\n".join(cells_of(pathlib.Path(file)))
            is_keras = KERAS.search(text)
            if not is_keras and TORCH.search(text):
                torch += 1
            # A fragment may lack its imports.
            elif is_keras or GATE.search(text):
                texts[file] = text
    rows: dict[str, dict[tuple, CheckedGate]] = {x: {} for x in files}
    for row in found_in([*texts], only, alone=not os.path.isdir(path)):
        # A file that cannot be read may have none.
        if row.line or GATE.search(texts[row.file]):
            known = rows.setdefault(row.file, {})
            first = known.setdefault((row.line, row.gate), row)
            if first.passed and not row.passed:
                # Another file says that its output is not used.
                known[row.line, row.gate] = row
    for file, text in texts.items():
        gate = GATE.search(text)
        found = rows[file].values()
        if gate and all(x.state == NOT_LOOKED_INTO for x in found):
            for reason in (x for x in OLD if re.search(OLD[x], text)):
                line = text.count("\n", 0, gate.start()) + 1
                rows[file] = {(): unknown(gate[1], reason, file, line)}
    without, notes = sum(not x for x in rows.values()) - torch, []
    if without:
        notes.append(f"{_checks.count(without, 'file')} without a gate.")
    if torch:
        notes.append(
            f"{_checks.count(torch, 'file', 'are')} PyTorch, not Keras."
        )
    every = [row for found in rows.values() for row in found.values()]
    every.sort(key=lambda x: (x.file, x.line))
    if not os.path.isabs(path):
        every = [
            dataclasses.replace(x, file=os.path.relpath(x.file)) for x in every
        ]
    return CheckReport(tuple(every), place=str(path), note=" ".join(notes))


def _files(path):
    """Returns the files of a path, and the only name that counts."""
    given, only = pathlib.Path(path).expanduser(), ""
    module, _, name = path.partition(":")
    if not given.exists() and name.isidentifier():
        only = name
        given = pathlib.Path(*module.split(".")).with_suffix(".py")
    files = []
    if given.is_dir():
        files = [*_walk(given.absolute())]
    elif given.is_file() and given.suffix in SUFFIXES:
        files = [str(given.absolute())]
    if not files:
        raise ValueError(
            "`path` must be a file of Python, .py or .ipynb, a folder of such "
            "files, or a function of a module, as package.module:build. "
            f"Received: path={path!r}"
        )
    return files, only


def _walk(folder):
    """Yields the files in a folder that its author has written."""
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        is_of_others = any(
            x[0] == "." or x in SKIPPED for x in inner.parts
        ) or any((folder / x / "pyvenv.cfg").exists() for x in inner.parents)
        if file.suffix in SUFFIXES and not is_of_others:
            yield str(file)


def found_in(
    files: Sequence[str], only: str = "", *, alone: bool = True
) -> Iterator[CheckedGate]:
    """Yields what processes find in files, by the rules of `Reader.rows`."""
    # One that ends is replaced.
    while files:
        current, begun = "", 0
        for line in _lines([SECONDS, only, alone, files]):
            if "row" in line:
                yield CheckedGate(**line["row"])
                continue
            current = line["file"]
            begun += bool(current)
        if current:
            reason = f"ends the process, or takes more than {SECONDS} s"
            name = os.path.basename(current)
            yield unknown(name, reason, current)
        files = files[begun:]


def _lines(job: Sequence[object]) -> list[dict[str, Any]]:
    """Returns what one process writes of a job before it ends."""
    settings = {
        # A GPU is not needed.
        "CUDA_VISIBLE_DEVICES": "-1",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if importlib.util.find_spec("tensorflow"):
        settings["KERAS_BACKEND"] = "tensorflow"
    root = str(pathlib.Path(__file__).parents[3])
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-c", START, root],
            cwd=folder,
            env=os.environ | settings,
            input=json.dumps(job).encode(),
            capture_output=True,
        )
    # The process may have ended while it wrote a line.
    lines = process.stdout.decode().split("\n")[:-1]
    if not lines:
        raise RuntimeError(
            "The process that reads source did not start. Received: "
            f"{process.stderr.decode(errors='replace').strip()[-500:]}"
        )
    return [json.loads(x) for x in lines]
