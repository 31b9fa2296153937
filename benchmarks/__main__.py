"""Runs benchmarks one after the other: `python -m benchmarks`, in a clone.

Each script runs in a process of its own in each mode, with the options that
are not those of this command. Their tables are printed, and gathered in
`bench.md`.
"""

import argparse
import importlib.util
import pathlib
import subprocess
import sys

from benchmarks import arguments

# These options of each script are enough to see that it runs.
SCRIPTS = {
    "layers": "--shapes 1x4x4x16 2x4x4x16 --repeats 2 --attention eca",
    "networks": "--models ResNet18 --batch-size 2 --image-size 32 --repeats 2",
    "memory": "--models ResNet18 --batch-size 2 --image-size 32 --repeats 1",
    "small_network": "--repeats 1",
    "single_image": "--repeats 2",
    "startup": "--repeats 1 --steps 1 2",
    "exports": "--repeats 2",
    "job": "--repeats 1 --data mnist5k",
}


def parse(command=None):
    """Returns the options, and those of the scripts; exits if one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the speed and memory of our layers and "
        "networks, beside code that computes the same, in one process. "
        "Further options are those of the scripts, which "
        "`python -m benchmarks.NAME --help` lists.",
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
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny shapes and few repeats, to see that it runs",
    )
    options, further = parser.parse_known_args(command)
    for name in options.names:
        if name not in SCRIPTS:
            parser.error(f"`{name}` is not one of {', '.join(SCRIPTS)}")
    for mode in options.mode or ():
        if not is_installed(mode):
            backend = arguments.backend_of(mode)
            parser.error(f"mode {mode} needs the package {backend}")
    options.mode = options.mode or list(filter(is_installed, arguments.MODES))
    return options, further


def is_installed(mode):
    return importlib.util.find_spec(arguments.backend_of(mode)) is not None


def main(command=None):
    options, further = parse(command)
    tables, failed = [], []
    for name in options.names:
        for mode in options.mode:
            quick = SCRIPTS[name].split() if options.quick else []
            sys.stdout.flush()
            done = subprocess.run(
                [
                    sys.executable,
                    f"-mbenchmarks.{name}",
                    f"--mode={mode}",
                    f"--output={options.output}",
                    # The last one of an option that is given twice counts.
                    *quick,
                    *further,
                ]
            )
            if done.returncode:
                failed.append(f"{name}-{mode}")
                continue
            tables.append((options.output / f"{name}-{mode}.md").read_text())
            (options.output / "bench.md").write_text(
                "# Benchmarks\n\n" + "\n".join(tables)
            )
    for run in failed:
        print(f"python -m benchmarks: {run} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
