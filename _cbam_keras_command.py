"""What the command `cbam-keras` does before Keras is imported.

That takes seconds, so help and a mistyped command are answered before it. A
module outside the package, since importing the package imports Keras.
"""

import argparse
import contextlib
import difflib
import glob
import importlib.util
import os
import pathlib
import re
import runpy
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Lines of level "I", for information, with what introduces or continues them.
NOISE = (
    rb"I\d{4} ",
    rb"WARNING: All log messages before absl::InitializeLog",
    rb"To enable the following instructions:",
)
# An error only for those who have a GPU.
NO_GPU = rb"E\d{4} .*failed call to cuInit"

COMMANDS = {
    "train": "train a network without and with attention, and compare",
    "tune": "search reduction ratio and kernel size, and confirm the best",
    "ablate": "run the paper's comparisons on your own data, over seeds",
    "table": "count the networks of the paper's tables beside what is printed",
    "explain": "see what networks look at: Grad-CAM and attention maps",
    "detect": "train a detector without and with attention, and compare",
    "audit": "check anybody's CBAM layer against the paper",
    "export": "export a model to another format, and compare the result",
}


def main() -> int:
    """Runs the command line of this process, and returns its exit status."""
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # While TensorFlow is imported, 2 is another file.
    errors = os.dup(2)

    def end(*_):
        os.write(errors, b"cbam-keras: interrupted\n")
        os._exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    options = outline().parse_args()
    # The errors are that oneDNN does not compute in half precision.
    import_quietly("3" if options.command == "audit" else "1")
    from cbam_keras import cli

    return cli.run(options, sys.argv[1:], owns_process=True)


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line.

    Attributes:
        anywhere: String, the name of positional arguments that may also stand
            between options, where argparse would not recognize them.
    """

    anywhere: str | None = None

    def __init__(self, **options: Any):
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None):
        options, rest = super().parse_known_args(args, namespace)
        if self.anywhere is not None:
            loose = [word for word in rest if word[:1] != "-"]
            found = [*getattr(options, self.anywhere), *loose]
            setattr(options, self.anywhere, found)
            rest = [word for word in rest if word[:1] == "-"]
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options, rest

    def error(self, message):
        known = [name for a in self._actions for name in a.option_strings]
        wrong = re.search(r"unrecognized arguments: .*?(-\S*)", message)
        choice = re.search(r"choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            wrong, known = choice, re.findall(r"[^\s,']+", choice[2])
        near = difflib.get_close_matches(wrong[1], known, 1) if wrong else ()
        hint = f'. Did you mean "{near[0]}"?' if near else ""
        self.exit(2, f"{self.prog}: error: {message}{hint} (see --help)\n")


def outline() -> Parser:
    """Returns the parser of the command line."""
    # Importing the package would import Keras.
    path = pathlib.Path(importlib.util.find_spec("cbam_keras").origin)
    version = runpy.run_path(str(path.with_name("_version.py")))
    options = runpy.run_path(str(path.with_name("cli") / "options.py"))
    parser = Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, tune, compare, explain.",
        epilog="examples:\n  cbam-keras train\n  cbam-keras train --help\n"
        "  cbam-keras explain runs/train-crowded_mnist-tiny\n",
    )
    version = version["__version__"]
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for name, text in COMMANDS.items():
        options["add_options"](commands.add_parser(name, help=text), name)
    with contextlib.suppress(ImportError):
        import shtab

        shtab.add_argument_to(parser)
        for action in (
            a for c in commands.choices.values() for a in c._actions
        ):
            # Paths, as far as they are not names.
            if action.metavar and not (action.choices or action.type):
                action.complete = shtab.FILE
    return parser


def import_quietly(level: str = "1") -> None:
    """Imports Keras with its backend, without what TensorFlow logs then.

    TensorFlow writes some lines before it reads its own log level, so they are
    caught, unless the user has set level "0". Level "1" is without
    information, and "3" also without warnings and errors.
    """
    if "keras" in sys.modules or os.environ.setdefault(LEVEL, level) == "0":
        return
    with without_noise():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Looks for GPUs, and logs if there are none.
            tf.config.list_physical_devices()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Context in which stderr is caught; at its end all but noise follows."""
    noise = NOISE if glob.glob("/dev/nvidia*") else (*NOISE, NO_GPU)
    errors = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(errors, 2)
            os.close(errors)
            caught.seek(0)
            for line in caught:
                # Written at once: the process may be ended by a signal.
                if not any(re.match(pattern, line) for pattern in noise):
                    os.write(2, line)
