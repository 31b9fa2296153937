"""Counts what `insertion.check_source` says of public gates.

Run it as `python -m benchmarks.public_gates CLONES`, where `CLONES` has a
folder `OWNER__NAME` for each repository of `sources.tsv`, at its commit. It
executes definitions of these files: run it where you would import them. It
prints counts alone, and with `--rows` what is said of each gate.
"""

import argparse
import collections
import pathlib
import re

from cbam_keras.recognition.reports import CheckReport
from cbam_keras.recognition.source.process import Job, check_files
from cbam_keras.recognition.verdicts import CheckState

SOURCES = pathlib.Path(__file__).with_name("sources.tsv")
FROM_THE_WORST = [
    CheckState.FAULTY,
    CheckState.MISNAMED,
    CheckState.NO_ATTENTION,
    CheckState.PASSED,
    CheckState.NOT_ANALYZED,
]


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clones", type=pathlib.Path)
    parser.add_argument("--rows", action="store_true")
    options = parser.parse_args()
    files = []
    for line in SOURCES.read_text().splitlines()[1:]:
        repository, _, path = line.split("\t")
        file = options.clones / repository.replace("/", "__") / path
        files.append(str(file.absolute()))
    missing = [file for file in files if not pathlib.Path(file).is_file()]
    print(f"{len(files)} files, {len(missing)} of them missing")
    jobs = [Job(x) for x in files if x not in missing]
    rows = {(x.file, x.line, x.gate): x for _, x in check_files(jobs).rows}
    print(f"{len({x.file for x in rows.values()})} files with gates")
    if options.rows:
        print(CheckReport(tuple(rows.values())))
    # A network has a row for each part, and counts once, as its worst part.
    definitions = collections.defaultdict(list)
    for row in rows.values():
        name = row.gate.partition("/")[0]
        definitions[row.file, row.line, name].append(row.state)
    states = collections.Counter(
        min(parts, key=FROM_THE_WORST.index) for parts in definitions.values()
    )
    print(f"{len(definitions)} definitions")
    for state in FROM_THE_WORST:
        print(f"{states[state]:4} {state}")
    words = collections.Counter(
        re.sub(r"\d+\.\d+|`.*?`|\(.*?\)", "", x.verdict)
        for x in rows.values()
        if not x.passed
    )
    for verdict, count in words.most_common():
        print(f"{count:4} {verdict}")


if __name__ == "__main__":
    main()
