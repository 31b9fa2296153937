"""The command `cbam-keras bench`: the scripts in `benchmarks`, run in turn."""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

from cbam_keras import _checks, _files, cli

# The backend, then how it is told to compile.
MODES = ("tensorflow-graph", "tensorflow-xla", "jax", "torch")
SCRIPTS = ("layers", "networks", "memory", "building")
# What a script takes of the command's options, besides those of all.
OPTIONS = {
    "layers": ("shapes",),
    "networks": ("models", "batch_size"),
    "memory": ("models", "batch_size"),
    "building": (),
}
NETWORKS = ("ResNet18", "ResNet50", "MobileNet")
# Enough to see that a script runs.
QUICK = {
    "layers": ["--shapes", "1x4x4x16", "2x4x4x16", "--repeats", "2"],
    "networks": [
        *("--models", "ResNet18", "--batch-size", "2"),
        *("--image-size", "32", "--repeats", "2"),
    ],
    "memory": [
        *("--models", "ResNet18", "--batch-size", "2"),
        *("--image-size", "32", "--repeats", "1"),
        *("--blocks-shape", "2x4x4x16", "--layer-shape", "2x4x4x16"),
    ],
    "building": ["--repeats", "1"],
}
FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
REPOSITORY = "https://github.com/cbam-keras/cbam_keras"


def add_command(commands):
    """Adds the command to those of the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure the speed and memory of layers and networks here",
        description=(
            "Runs the benchmarks of the repository, one after the other: "
            "layers, networks, memory, building. Each compares ours with "
            "what people paste, in one process. Needs a clone."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.anywhere = "names"
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure: {', '.join(SCRIPTS)} (default: layers)",
    )
    add(
        "--mode",
        action="append",
        choices=MODES,
        default=argparse.SUPPRESS,
        help="the backend, and for TensorFlow whether XLA compiles; repeat "
        "it for several (default: all that are installed)",
    )
    cli.add_output(parser, "runs/bench")
    add(
        "--repeats",
        type=int,
        default=argparse.SUPPRESS,
        help="how often each is measured (default: that of each script)",
    )
    add(
        "--shapes",
        nargs="+",
        metavar="BxHxWxC",
        default=argparse.SUPPRESS,
        help="of features, for layers (default: those of ResNet50)",
    )
    add(
        "--batch-size",
        type=int,
        default=argparse.SUPPRESS,
        help="images per step, for networks and memory (default: 8)",
    )
    add(
        "--models",
        nargs="+",
        metavar="MODEL",
        default=argparse.SUPPRESS,
        help=f"for networks and memory: {', '.join(NETWORKS)} (default: all "
        "for networks, ResNet50 for memory)",
    )
    add(
        "--quick",
        action="store_true",
        help="tiny shapes and few repeats, to see that it runs",
    )
    parser.set_defaults(handler=_bench, prog=parser.prog, goes_on="")


def shape_of(text: str) -> tuple[int, ...]:
    """Returns the shape that a text such as `"16x56x56x256"` tells."""
    parts = text.split("x")
    shape = tuple(int(part) if part.isdecimal() else 0 for part in parts)
    # The layer that people paste divides the channels by 16.
    if len(shape) != 4 or min(shape) < 1 or shape[-1] < 16:
        raise ValueError(
            "`shapes` must be BxHxWxC: images, height, width and at least "
            f"16 channels, as 16x56x56x256. Received: {text!r}"
        )
    return shape


def _bench(options):
    given = vars(options)
    names = _checks.subset("names", options.names or SCRIPTS[:1], SCRIPTS)
    _check_options(names, given)
    modes = _modes(given)
    if not (FOLDER / "layers.py").is_file():
        raise ValueError(
            "`bench` runs the scripts in the folder `benchmarks`, which an "
            f"installed package has not. Get them by: git clone {REPOSITORY} "
            "&& pip install -e cbam_keras. Received: no folder "
            f'"{FOLDER}"'
        )
    output = _files.output_folder(given.get("output", "runs/bench"))
    finished, failed = [], []
    for name in names:
        for mode in modes:
            status = _run(name, mode, output, options)
            (failed if status else finished).append(f"{name}-{mode}")
            _write_tables(output, finished)
    for run in failed:
        print(f"{options.prog}: error: {run} failed", file=sys.stderr)
    print(f"Tables: {output / 'bench.md'}" if finished else "No results")
    return 1 if failed else 0


def _check_options(names, given):
    """Raises before any work where an option is wrong, or for none."""
    for option in ("shapes", "models", "batch_size"):
        takers = [name for name in SCRIPTS if option in OPTIONS[name]]
        if option in given and not set(takers) & set(names):
            raise ValueError(
                f"`{option}` is an option of {' and '.join(takers)}. "
                f"Received: names={', '.join(names)}"
            )
    for option in ("repeats", "batch_size"):
        if option in given:
            _checks.positive_integer(option, given[option])
    for shape in given.get("shapes", ()):
        shape_of(shape)
    if "models" in given:
        _checks.subset("models", given["models"], NETWORKS)


def _modes(given):
    if "mode" not in given:
        return [mode for mode in MODES if _is_installed(mode)]
    modes = _checks.subset("mode", given["mode"], MODES)
    for mode in modes:
        if not _is_installed(mode):
            _checks.require(_backend(mode), extra=_backend(mode))
    return list(modes)


def _backend(mode):
    return mode.partition("-")[0]


def _is_installed(mode):
    try:
        return importlib.util.find_spec(_backend(mode)) is not None
    except ValueError:
        # In `sys.modules`, but no module.
        return False


def _run(name, mode, output, options):
    """Runs a script, which prints what it measures; returns its status."""
    given = vars(options)
    arguments = ["--mode", mode, "--output", str(output)]
    arguments += QUICK[name] if options.quick else []
    # After those of `--quick`, since the last one counts.
    for option in (*OPTIONS[name], "repeats"):
        if option in given:
            value = given[option]
            values = value if isinstance(value, list) else [value]
            flag = "--" + option.replace("_", "-")
            arguments += [flag, *map(str, values)]
    sys.stdout.flush()
    return subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *arguments],
        env={**os.environ, "KERAS_BACKEND": _backend(mode)},
    ).returncode


def _write_tables(output, runs):
    """Writes the tables of all runs that have finished into one file."""
    parts = [(output / f"{run}.md").read_text(encoding="utf-8") for run in runs]
    with _files.replacing(output / "bench.md") as path:
        path.write_text("# Benchmarks\n\n" + "\n".join(parts), encoding="utf-8")
