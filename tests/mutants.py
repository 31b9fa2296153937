"""One-line bugs that the tests must notice; run on demand.

    python tests/mutants.py                # all, and a summary
    python tests/mutants.py rows insertion # those whose file matches a word

Each is applied to a copy of the package, and the test file that owns the fact
runs on it, as `python -m pytest` does. It is caught if a test fails there and
the same file passes on the unchanged package.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PASSED = 0
# By the exit status of pytest, or of `timeout`.
WORDS = {PASSED: "MISSED", 1: "caught", 124: "caught"}


class Mutant(NamedTuple):
    """A bug: file in `cbam_keras`, owner in `tests`, change, backend."""

    file: str
    owner: str
    old: str
    new: str
    backend: str


# In it, the lines after a file and its owner with "+" replace those with "-".
MUTANTS = ROOT / "tests/mutants.txt"
# A mutant may let a test wait for ever.
MAX_SECONDS = 600


def parsed() -> Iterator[Mutant]:
    """Yields the mutants of the text."""
    changes = re.compile(r"((?:- .*\n)+)((?:\+ .*\n)+)")
    text = MUTANTS.read_text(encoding="utf-8")
    for head, lines in re.findall(r"(.+)\n((?:[-+] .*\n)+)", text):
        file, owner = head.split()
        backend = "torch" if "torch_passes" in file else "tensorflow"
        for change in changes.findall(lines):
            old, new = (re.sub("(?m)^[-+] ", "", side) for side in change)
            yield Mutant(file, f"test_{owner}.py", old[:-1], new[:-1], backend)


def run(
    copy: pathlib.Path, owner: str, backend: str
) -> subprocess.CompletedProcess:
    """Runs a test file on the copy, in place of the installed package."""
    return subprocess.run(
        [
            *("timeout", str(MAX_SECONDS)),
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", f"tests/{owner}"),
        ],
        cwd=copy,
        # A mutant may be as old and as long as what it replaces. The command
        # turns oneDNN on, too.
        env=os.environ
        | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        | {"KERAS_BACKEND": backend, "TF_ENABLE_ONEDNN_OPTS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of file names")
    words = parser.parse_args().words
    chosen = [
        mutant
        for mutant in parsed()
        if not words or any(w in mutant.file + mutant.owner for w in words)
    ]
    missed = 0
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=ignored)
        owners = {(mutant.owner, mutant.backend) for mutant in chosen}
        clean = {owner: run(copy, *owner) for owner in owners}
        for mutant in chosen:
            path = copy / "cbam_keras" / mutant.file
            text = path.read_text()
            if text.count(mutant.old) != 1:
                raise SystemExit(f"This must be in one place: {mutant}")
            path.write_text(text.replace(mutant.old, mutant.new))
            owner = mutant.owner, mutant.backend
            done = run(copy, *owner)
            path.write_text(text)
            word = WORDS.get(done.returncode, "BROKEN")
            if clean[owner].returncode != PASSED:
                word, done = "UNPROVED", clean[owner]
            print(f"{word:8} {mutant.file}: {mutant.new!r} ({mutant.owner})")
            if word != "caught":
                missed += 1
                print(done.stdout[-2000:], flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
