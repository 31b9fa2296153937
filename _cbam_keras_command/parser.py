"""The parser of the command line: subcommands, their options and their help."""

import argparse
import importlib.util
import inspect
import pathlib
import runpy
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from _cbam_keras_command import arguments as groups
from _cbam_keras_command import options


class Options(argparse.Namespace):
    """What is asked of a subcommand."""

    # Not every subcommand has these options.
    json = False

    @property
    def line(self) -> str:
        """The command line, but for how to treat a run that is there."""
        words = [word for word in self.arguments if word != "--overwrite"]
        return shlex.join(["cbam-keras", *words])

    @property
    def data_options(self) -> dict[str, Any]:
        """The arguments of `data.load` that are not in the recipe."""
        download = {"download": True} if self.download else {}
        return self.select(["pattern", "kind", *options.LOCATION]) | download

    def select(self, names: Iterable[str]) -> dict[str, Any]:
        """Returns by name those of these options that have a value."""
        values = {name: vars(self).get(name) for name in names}
        return {name: x for name, x in values.items() if x is not None}

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Raises if one of these options is given, which nothing would take."""
        words = [word.partition("=")[0] for word in self.arguments]
        for name in names:
            option = name.replace("_", "-")
            if f"--{option}" in words or f"--no-{option}" in words:
                raise ValueError(
                    f"`{name}` must be left out {reason}. Received: {name}="
                    f"{getattr(self, name)!r}"
                )


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line."""

    # Also subparsers, which `argparse` makes with arguments of its own.
    def __init__(self, **options: Any):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def parse(arguments: Sequence[str]) -> Options:
    """Returns what the words of a command line ask for."""
    parser, asked = build_parser(), Options(arguments=arguments)
    _, unknown = parser.parse_known_args(arguments or ["--help"], asked)
    if unknown:
        names = [f"--{x.replace('_', '-')}" for x in {*vars(asked), "no_cache"}]
        words = " ".join(unknown) + options.nearest(unknown[0], names)
        parser.error(f"unrecognized arguments: {words}")
    return asked


def build_parser() -> Parser:
    """Returns the parser of the command line."""
    parser = Parser(
        prog="cbam-keras",
        description="Attention layers (SE, CBAM, ECA) for Keras: train, tune, "
        "compare.",
        epilog="examples:\n  cbam-keras train\n  cbam-keras train --help\n"
        "  cbam-keras report runs/train-mnist5k-tiny\n",
    )
    parser.add_argument("--version", action="version", version=read_version())
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for function, summary in COMMANDS.items():
        command = commands.add_parser(function.__name__, help=summary)
        text = inspect.getdoc(function) or ""
        command.description, _, command.epilog = text.partition("\n\n")
        command.usage = "%(prog)s [options]"
        function(command)
    return parser


def read_version() -> str:
    """Returns the version of the package, without importing it."""
    spec = importlib.util.find_spec("cbam_keras")
    path = pathlib.Path(spec.origin).with_name("_version.py")
    return runpy.run_path(str(path))["__version__"]


def train(parser):
    """Trains a network without attention and with CBAM on the same data with
    five seeds, prints the difference with its confidence interval, and writes
    an HTML report. Rerun the same command to resume. Without arguments: a tiny
    ResNet on 5,000 digits, about a minute on two CPU cores.

    examples:
      cbam-keras train
      cbam-keras train --attention none se cbam --seeds 10
      cbam-keras train --stages each --seeds 10
      cbam-keras train --attention none cbam my_layers:MyGate
      cbam-keras train --model my_networks:build
      cbam-keras train --data cifar10 --download --model resnet18 --epochs 20
      cbam-keras train --data photos --image-size 64 --augment flip crop
      cbam-keras train --data photos --folds 5
      cbam-keras train --data photos --model EfficientNetB0 --instead-of se
      cbam-keras train --data images --masks masks --attention none skip-gate
    """
    groups.add_network(parser)
    groups.add_attention(parser, default="none cbam")
    groups.add_comparison(parser)
    _add_run(parser, output="runs/train-DATA-MODEL")
    groups.add_layers(
        parser.add_argument_group("attention layers"),
        ratios="4 in the network tiny, otherwise 16",
        sizes="7",
    )
    training = _add_training(parser, data="mnist5k")
    groups.add_threshold(training)


def tune(parser):
    """Searches the reduction ratio and kernel size of CBAM with KerasTuner,
    compared with SE and the network without attention; any option with several
    values is searched. Then retrains the best setting and the network without
    attention with six new seeds, and reports whether attention improves
    accuracy. If settings hardly differ, use train instead. Rerun the same
    command to resume. Without arguments: a tiny ResNet on crowded digits, 26
    training runs of one epoch.

    examples:
      cbam-keras tune
      cbam-keras tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7
      cbam-keras tune --attention none cbam --stages all last "last 2"
      cbam-keras tune --data photos --image-size 64 --max-trials 30 --workers 2
      cbam-keras tune --model mine:build
    """
    groups.add_network(parser)
    groups.add_search(parser)
    _add_run(parser, output="runs/tune-DATA-MODEL")
    space = parser.add_argument_group(
        "search space",
        "Each takes one value, which fixes it, or several to choose from.",
    )
    groups.add_attention(space, default="none se cbam")
    groups.add_layers(
        space, ratios="2 4 8 16, and 4 for se", sizes="3 5 7", are_several=True
    )
    _add_training(parser, data="crowded_mnist")


def _add_run(parser, output):
    """Adds how a run is started, and where its files are."""
    groups.add_run(parser, output)
    groups.add_workers(parser.add_mutually_exclusive_group())


def _add_training(parser, data):
    """Adds on what networks are trained, and how; returns the last group."""
    groups.add_data(parser.add_argument_group("data"), default=data)
    groups.add_masks(parser.add_argument_group("masks"))
    training = parser.add_argument_group("training", options.DEFAULTS)
    groups.add_training(training)
    return training


def report(parser):
    """Rewrites the HTML report of a run, with Grad-CAM and attention maps of
    eight test images, errors first (predicted masks for segmentation). Given
    predictions from any framework, writes the same tables, figures and report.

    examples:
      cbam-keras report runs/train-mnist5k-tiny
      cbam-keras report predictions/
      cbam-keras report out --pattern "{network}/{seed}/probs.npz"
    """
    parser.usage += " RUN"
    groups.add_report(parser)
    groups.add_predictions(parser.add_argument_group("predictions"))


def check(parser):
    """Identifies each attention module in source or a saved model, and reports
    whether it computes what its name promises. Exits with status 1 if a module
    does not, cannot be analyzed, or if none is found.

    In source, imports, definitions and simple assignments are executed, then
    whatever looks like attention or builds a network. The process may not write
    outside of a temporary folder, start programs, open connections, or train.
    It may read files, and it is not secure against a determined attacker.

    examples:
      cbam-keras check train.py
      cbam-keras check notebook.ipynb submissions/ --json
      cbam-keras check package.module:build
      cbam-keras check model.keras --classes my_layers:MyGate
    """
    parser.usage += " PATH [PATH ...]"
    groups.add_check(parser)


# The subcommands, whose docstrings are their help, and what the list says.
COMMANDS = {
    train: "train a network without and with attention, and compare",
    tune: "search reduction ratio and kernel size, and compare the best",
    check: "check what attention modules in source or a saved model compute",
    report: "rewrite the HTML report of a run, or report any predictions",
}
