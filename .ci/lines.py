"""Counts lines by room, and fails above the limits of the package's version.

    python3 .ci/lines.py LIMITS

`LIMITS` is a JSON file with two numbers for each version: the most lines of
package with command, and of tests. Where it is missing, nothing is limited.
"""

import collections
import json
import pathlib
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
# What is counted together, as patterns of git.
PARTS = {
    "package_and_command": ("cbam_keras/*.py", "_cbam*/*.py"),
    "tests": ("tests/*.py",),
}


def name_room(path: str) -> str:
    """Returns the room of a file: a folder, or the first word of a test."""
    folder, *others = pathlib.PurePath(path).parts
    if folder == "tests":
        words = others[-1].removesuffix(".py").split("_")
        return words[1] if words[0] == "test" else "helpers"
    if folder.startswith("_"):
        return "command"
    return others[0] if len(others) > 1 else "beside"


def count_lines(patterns: tuple[str, ...]) -> collections.Counter[str]:
    """Returns the lines of files that git tracks, by room."""
    command = ["git", "ls-files", "-z", *patterns]
    listed = subprocess.check_output(command, cwd=ROOT, text=True)
    lines: collections.Counter[str] = collections.Counter()
    for path in listed.split("\0")[:-1]:
        lines[name_room(path)] += (ROOT / path).read_bytes().count(b"\n")
    return lines


def main(limits: pathlib.Path) -> int:
    version_file = ROOT / "cbam_keras" / "_version.py"
    version = runpy.run_path(str(version_file))["__version__"]
    most = json.loads(limits.read_text()) if limits.exists() else None
    if most is not None and version not in most:
        print(f"{limits} has no limits of version {version}")
        return 1
    is_above = False
    for part, patterns in PARTS.items():
        lines = count_lines(patterns)
        limit = "no limit" if most is None else f"at most {most[version][part]}"
        is_above |= most is not None and lines.total() > most[version][part]
        print(f"{lines.total():6} lines of {part}, {limit} in {version}:")
        rooms = [f"{room} {count}" for room, count in lines.most_common()]
        print("      ", ", ".join(rooms))
    return int(is_above)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
