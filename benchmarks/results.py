"""Writes the results of a benchmark: a JSON file, and tables."""

import argparse
import os
import pathlib
import platform
import shlex
import shutil
import subprocess

from benchmarks import modes, timing
from cbam_keras import _files, study


def write(name, options, record, tables, packages=()):
    """Prints tables, and writes them and a record into the output folder.

    `packages` are modules besides the backend that were measured.
    """
    given = dict(vars(options))
    folder = _files.output_folder(given.pop("output"))
    devices = modes.gpus() or [_processor()]
    versions = {package.__name__: package.__version__ for package in packages}
    given |= {"cores": _cores(), **study.versions(), **versions}
    listed = ", ".join(
        f"{key} {value}"
        for key, value in given.items()
        if isinstance(value, int | str)
    )
    heading = f"## {name}, {options.mode}\n\n{', '.join(devices)}; {listed}."
    text = "\n\n".join((heading, *tables)) + "\n"
    print(text, flush=True)
    stem = f"{name}-{options.mode}"
    source = {"commit": _commit(), "command": _command(name)}
    record = {
        "benchmark": name,
        "devices": devices,
        **source,
        **given,
        **record,
    }
    _files.write_json(folder / f"{stem}.json", record)
    with _files.replacing(folder / f"{stem}.md") as path:
        path.write_text(text, encoding="utf-8")


def table(rows):
    """Returns rows of text, by their headings, as a Markdown table."""
    lines = [
        f"| {' | '.join(x)} |" for x in (rows[0], *(y.values() for y in rows))
    ]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)


def times(rows):
    """Returns what `timing.compared` does as a Markdown table."""
    return table(
        [
            {
                "what": row["what"],
                "kind": row["kind"],
                "ms (10 to 90 %)": timing.milliseconds(row),
                "added ms": timing.digits(1000 * row["added"]),
                "ratio": f"{row['ratio']:.2f}",
            }
            for row in rows
        ]
    )


def _commit():
    """Returns the commit of the code, or `None` outside of a clone."""
    if not shutil.which("git"):
        return None
    command = ("git", "describe", "--always", "--dirty")
    folder = pathlib.Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return found.stdout.strip() or None


def _command(name):
    """Returns how the benchmark was called, without a place on a machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output")
    words = parser.parse_known_args()[1]
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *words])
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"OMP_NUM_THREADS={threads} {command}" if threads else command


def _processor():
    """Returns its name, and the widest of its instruction sets."""
    # `platform` knows the family alone on Linux.
    described = pathlib.Path("/proc/cpuinfo")
    if described.is_file():
        lines = described.read_text().splitlines()
        values = dict(
            map(str.strip, x.split(":", 1)) for x in lines if ":" in x
        )
        flags = values.get("flags", "").split()
        sets = {"avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512"}
        sets |= {"avx2": "AVX2"}
        widest = [name for flag, name in sets.items() if flag in flags]
        name = values.get("model name", platform.machine())
        return f"{name} with {widest[0]}" if widest else name
    return platform.processor() or platform.machine()


def _cores():
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
