"""What the command `cbam-keras` does before Keras is imported.

That takes seconds, so `--help`, `--version` and a mistyped command are
answered before it. A subcommand adds its options when it is chosen, since they
name networks and recipes. A module outside the package, since importing the
package imports Keras.
"""

import argparse
import contextlib
import glob
import importlib.util
import os
import pathlib
import re
import runpy
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
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
    from cbam_keras import cli

    return cli.run(options, sys.argv[1:], owns_process=True)


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line.

    Attributes:
        module: String, the module of `cbam_keras.cli` whose `add_options` is
            called before anything is parsed, or `None`.
        anywhere: String, the name of positional arguments that may also stand
            between options, where argparse would not recognize them.
        commands: Mapping of the subcommands by their names.
    """

    module: str | None = None
    anywhere: str | None = None
    commands: Mapping[str, "Parser"] = {}

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def add_module(self) -> None:
        """Adds the options of a subcommand, once."""
        name, self.module = self.module, None
        if name is not None:
            import_quietly()
            importlib.import_module(f"cbam_keras.cli.{name}").add_options(self)

    def describe(self, text: str, *examples: str) -> None:
        """Sets what the help says before and after the options."""
        self.description = text
        lines = "\n".join(f"  cbam-keras {command}" for command in examples)
        self.epilog = f"examples:\n{lines}\n"

    def parse_known_args(self, args=None, namespace=None):
        self.add_module()
        options, rest = super().parse_known_args(args, namespace)
        if self.anywhere is None:
            return options, rest
        loose = [argument for argument in rest if argument[:1] != "-"]
        found = [*getattr(options, self.anywhere), *loose]
        setattr(options, self.anywhere, found)
        return options, [argument for argument in rest if argument[:1] == "-"]

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except of flags, and keeps lines of whole texts."""

    def _get_help_string(self, action):
        if action.default in (None, []) or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)

    def _fill_text(self, text, width, indent):
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(indent + line for line in text.splitlines(True))


class _PrintCompletion(argparse.Action):
    """Prints the tab completion of the whole command, and exits."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            shtab = importlib.import_module("shtab")
        except ImportError:
            parser.error(
                "the completion needs the package shtab: "
                'pip install "cbam_keras[completion]"'
            )
        for command in parser.commands.values():
            command.add_module()
            for argument in command._actions:
                if argument.type is None and argument.metavar:
                    # Paths, as far as they are not names.
                    argument.complete = shtab.FILE
        print(shtab.complete(parser, shell=values))
        parser.exit(0)


def outline() -> Parser:
    """Returns the parser of the command, whose subcommands are yet empty."""
    parser = Parser(prog="cbam-keras")
    parser.describe(
        "CBAM attention for Keras: train, tune, compare, explain.",
        "train",
        "explain runs/train-crowded_mnist-tiny",
        "train --help",
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print the tab completion for a shell",
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text).module = name
    parser.commands = commands.choices
    return parser


def _version():
    # Importing the package would import Keras.
    path = pathlib.Path(importlib.util.find_spec("cbam_keras").origin)
    return runpy.run_path(str(path.with_name("_version.py")))["__version__"]


def import_quietly() -> None:
    """Imports Keras with its backend, without what TensorFlow logs then.

    TensorFlow writes some lines before it reads its own log level, so they are
    caught. A log level set by the user is kept.
    """
    if LEVEL in os.environ or "keras" in sys.modules:
        return
    # Without level "I"; warnings and errors remain.
    os.environ[LEVEL] = "1"
    with without_noise():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Looks for GPUs, and logs if there are none.
            tf.config.list_physical_devices()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Context in which stderr is caught; at its end all but noise follows."""
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
                if not is_noise(line):
                    os.write(2, line)


def is_noise(line: bytes) -> bool:
    """Returns whether a line that TensorFlow logs tells users nothing."""
    patterns = list(NOISE)
    if not glob.glob("/dev/nvidia*"):
        patterns.append(NO_GPU)
    return any(re.match(pattern, line) for pattern in patterns)
