"""Runs benchmarks one after the other: `python -m benchmarks`, in a clone.

Each script runs in a process of its own in each mode, with the options that
it takes. Their tables are printed, and gathered in `bench.md`.
"""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

from benchmarks import arguments

# The scripts, and the options that they take besides those of all.
SCRIPTS = {
    "layers": ("shapes", "dtype"),
    "networks": ("models", "batch_size", "dtype"),
    "memory": ("models", "batch_size", "dtype"),
    "building": (),
}
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


def parse(command=None):
    """Returns the options of a command line; exits if one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the speed and memory of our layers and "
        "networks, beside code that computes the same, in one process.",
        # An option that is not given keeps the default of each script.
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        default=["layers"],
        help=f"what to measure: {', '.join(SCRIPTS)} (default: layers)",
    )
    parser.add_argument(
        "--mode",
        action="append",
        choices=arguments.NETWORK_MODES,
        help="the backend, and whether a compiler is used; repeat it for "
        "several (default: those installed, without "
        f"{arguments.COMPILED})",
    )
    parser.add_argument("--output", type=pathlib.Path, default=arguments.OUTPUT)
    parser.add_argument("--repeats", type=arguments.positive_integer)
    arguments.add_shapes(parser, argparse.SUPPRESS)
    arguments.add_models(parser, argparse.SUPPRESS)
    arguments.add_batch_size(parser, argparse.SUPPRESS)
    arguments.add_dtype(parser, argparse.SUPPRESS)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=False,
        help="tiny shapes and few repeats, to see that it runs",
    )
    options = parser.parse_args(command)
    _check(parser, options)
    return options


def _check(parser, options):
    for name in options.names:
        if name not in SCRIPTS:
            parser.error(f"`{name}` is none of {', '.join(SCRIPTS)}")
    taken = {option for name in options.names for option in SCRIPTS[name]}
    for option in ("shapes", "models", "batch_size", "dtype"):
        if option in options and option not in taken:
            takers = [name for name in SCRIPTS if option in SCRIPTS[name]]
            parser.error(f"`{option}` is an option of {' and '.join(takers)}")
    options.mode = vars(options).get("mode") or [
        mode for mode in arguments.MODES if is_installed(mode)
    ]
    for mode in options.mode:
        if not is_installed(mode):
            parser.error(f"mode {mode} needs the package {backend(mode)}")
    for name in options.names:
        if arguments.COMPILED in options.mode and "models" not in SCRIPTS[name]:
            parser.error(f"`{name}` has no mode {arguments.COMPILED}")


def backend(mode):
    return mode.partition("-")[0]


def is_installed(mode):
    return importlib.util.find_spec(backend(mode)) is not None


def command_of(name, mode, options):
    """Returns the command that runs a script with the options it takes."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--mode", mode]
    command += ["--output", str(options.output)]
    command += QUICK[name] if options.quick else []
    # After those of `--quick`, since the last one counts.
    for option in (*SCRIPTS[name], "repeats"):
        if option in options:
            command.append("--" + option.replace("_", "-"))
            command += _texts(getattr(options, option))
    return command


def _texts(value):
    """Returns the words of a command line that give an option its value."""
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, tuple):
        return ["x".join(map(str, value))]
    return [str(value)]


def write_tables(output, runs):
    """Writes the tables of all finished runs into one file."""
    parts = [(output / f"{run}.md").read_text(encoding="utf-8") for run in runs]
    (output / "bench.md").write_text(
        "# Benchmarks\n\n" + "\n".join(parts), encoding="utf-8"
    )


def main(command=None):
    options = parse(command)
    finished, failed = [], []
    for name in options.names:
        for mode in options.mode:
            environment = {**os.environ, "KERAS_BACKEND": backend(mode)}
            sys.stdout.flush()
            done = subprocess.run(
                command_of(name, mode, options), env=environment
            )
            (failed if done.returncode else finished).append(f"{name}-{mode}")
            if finished:
                write_tables(options.output, finished)
    for run in failed:
        print(f"python -m benchmarks: {run} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
