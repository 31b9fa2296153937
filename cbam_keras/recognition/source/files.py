"""`check_source`: whether attention in files of source is what it is called."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from cbam_keras import _checks
from cbam_keras.recognition.reports import (
    CheckedGate,
    CheckReport,
    not_analyzed,
)
from cbam_keras.recognition.source.definitions import cells_of, read_text
from cbam_keras.recognition.source.process import Job, check_files
from cbam_keras.recognition.verdicts import CheckState

SUFFIXES = (".py", ".ipynb")
# Folders whose files are of others, beside hidden ones and environments.
SKIPPED = {"site-packages", "node_modules", "__pycache__"}
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


@_checks.named
def check_source(path: str | os.PathLike) -> CheckReport:
    """Runs the definitions in files and reports what their attention computes.

    Imports, `def`, `class` and assignments of plain values are executed, with
    decorators, defaults and class bodies, and modules beside a file are treated
    in the same way. No model, weights or data are needed: layers and functions
    that look like attention are called on features of 32 channels, with default
    and usual arguments. Functions that return a `keras.Model` are called, too,
    to count the attention that they use.

    The process that does so may not write outside of a temporary folder, start
    programs, connect to a network, or train; reading is not refused. It is no
    jail against a determined attacker. On systems other than Linux, code in C
    can write; the report says so.

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
    (report,) = check_paths([str(path)])
    return report


def check_paths(
    paths: Sequence[str],
    tell: Callable[[str, int, int], None] | None = None,
) -> list[CheckReport]:
    """Returns the reports of several paths, which one process checks.

    Args:
        paths: Sequence of strings, as `check_source` takes them.
        tell: Function of a file that is begun, which one it is, and of how
            many.
    """
    targets = [Target.at(path) for path in paths]
    jobs = {target.path: target.jobs for target in targets}
    every = [job for x in jobs.values() for job in x]
    numbers = itertools.count(1)

    def begin(job):
        if tell:
            tell(job.path, next(numbers), len(every))

    checked = check_files(every, begin)
    return [
        target.report(
            [
                row
                for job, row in checked.rows
                if any(job is x for x in jobs[target.path])
            ],
            checked.lacking,
        )
        for target in targets
    ]


@dataclasses.dataclass(frozen=True)
class Target:
    """A file, a folder, or a definition of a module, with its texts.

    Attributes:
        path: String, as it was given.
        files: List of strings, the files in it.
        texts: Dictionary, the texts of those files that may hold attention.
        only: String, the only function or class that counts.
        num_torch: Integer, how many files are PyTorch.
    """

    path: str
    files: list[str]
    texts: dict[str, str]
    only: str = ""
    num_torch: int = 0

    @classmethod
    def at(cls, path: str) -> "Target":
        """Returns what is at a path."""
        files, only = _find_files(path)
        texts = {}
        num_torch = 0
        for file in files:
            # A file that cannot be read may hold anything, but no attention.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = read_text(pathlib.Path(file))
                text = "\n".join(cells_of(content, pathlib.Path(file)))
                is_keras = KERAS.search(text)
                if not is_keras and TORCH.search(text):
                    num_torch += 1
                # A fragment may lack its imports.
                elif is_keras or GATE.search(text):
                    texts[file] = text
        return cls(path, files, texts, only, num_torch)

    @property
    def jobs(self) -> list[Job]:
        """The files to check."""
        # In a folder, modules beside a file are files to check themselves.
        imports = not os.path.isdir(self.path)
        return [Job(file, self.only, imports) for file in self.texts]

    def report(
        self, rows: Iterable[CheckedGate], lacking: Sequence[str] = ()
    ) -> CheckReport:
        """Returns the report of the rows of all files.

        `lacking` is what the system does not refuse to code in C.
        """
        by_file = {file: self._rows_of_old(file) for file in self.files}
        for file, new in _group(rows).items():
            has_old = bool(by_file.get(file))
            is_analyzed = any(x.state != CheckState.NOT_ANALYZED for x in new)
            if not has_old or is_analyzed:
                by_file[file] = new
        every = [row for x in by_file.values() for row in x]
        # A file without a definition of attention that failed has none.
        every = [
            x
            for x in every
            if x.line or GATE.search(self.texts.get(x.file, ""))
        ]
        every.sort(key=lambda x: (x.file, x.line))
        without = {*self.files} - {x.file for x in every}
        num_without = len(without) - self.num_torch
        # With no rows at all, the verdict says that already.
        note = self._note(num_without if every else 0, lacking)
        if not os.path.isabs(self.path):
            every = [
                dataclasses.replace(x, file=os.path.relpath(x.file))
                for x in every
            ]
        return CheckReport(tuple(every), place=self.path, note=note)

    def _rows_of_old(self, file):
        """Returns the row of a file that needs older libraries, if it does."""
        text = self.texts.get(file, "")
        gate = GATE.search(text)
        for reason, pattern in OLD.items():
            if gate and re.search(pattern, text):
                line = text.count("\n", 0, gate.start()) + 1
                return [not_analyzed(gate[1], reason, file, line)]
        return []

    def _note(self, num_without, lacking):
        """Returns what to note of files without rows, and of the guards."""
        notes = []
        if num_without:
            files = _checks.count(num_without, "file")
            notes.append(f"No attention in {files}.")
        if self.num_torch:
            files = _checks.count(self.num_torch, "file", "use")
            notes.append(
                f"{files} PyTorch, not Keras: `load_torch_weights` reads "
                "checkpoints, and examples/one_file/cbam.py is a CBAM in Keras "
                "to compare with."
            )
        if lacking:
            what = ", ".join(lacking)
            notes.append(
                f"This system does not keep compiled code from {what}."
            )
        return " ".join(notes)


def _group(rows):
    """Returns rows by file, each definition once.

    If another file says that an output is not used, that counts.
    """
    by_file: dict[str, dict[tuple, CheckedGate]] = {}
    for row in rows:
        in_file = by_file.setdefault(row.file, {})
        first = in_file.setdefault((row.line, row.gate), row)
        if first.passed and not row.passed:
            in_file[row.line, row.gate] = row
    return {file: [*x.values()] for file, x in by_file.items()}


def _find_files(path):
    """Returns the files of a path, and the only name that counts."""
    place = pathlib.Path(path).expanduser()
    only = ""
    module, _, name = path.partition(":")
    if not place.exists() and name.isidentifier():
        only = name
        place = pathlib.Path(*module.split(".")).with_suffix(".py")
    files = []
    if place.is_dir():
        files = [*_walk(place.absolute())]
    elif place.is_file() and place.suffix in SUFFIXES:
        files = [str(place.absolute())]
    if not files:
        raise ValueError(
            "`path` must be a Python file (.py or .ipynb), a folder of such "
            "files, or a function in a module, such as package.module:build. "
            f"Received: path={path!r}"
        )
    return files, only


def _walk(folder) -> Iterator[str]:
    """Yields the files in a folder that its author has written."""
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        is_of_others = any(
            x[0] == "." or x in SKIPPED for x in inner.parts
        ) or any((folder / x / "pyvenv.cfg").exists() for x in inner.parents)
        if file.suffix in SUFFIXES and not is_of_others:
            yield str(file)
