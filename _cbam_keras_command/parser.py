"""The parser of the command line: subcommands, their options and their help."""

import argparse
import importlib.util
import inspect
import pathlib
import runpy
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

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
    the same five seeds, then prints a table, the difference and its confidence
    interval, and writes an HTML report. Rerun the same command to resume.
    Without arguments: a tiny ResNet on 5,000 digits, about a minute on two CPU
    cores.

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
    options.add_model(parser)
    options.add_attention(parser, "none cbam")
    parser.add_argument(
        "--instead-of",
        metavar="KIND",
        help="replace attention modules of the network, such as se in "
        "EfficientNetB0, and compare with the unchanged network",
    )
    parser.add_argument(
        "--seeds",
        **options.POSITIVE,
        help="number of seeds (0, 1, 2, ...); several give means, standard "
        "deviations and confidence intervals (default: 5, with folds 1)",
    )
    options.add_run(parser, "runs/train-DATA-MODEL")
    group = parser.add_argument_group("attention layers")
    options.add_layers(group, "4 in the network tiny, otherwise 16", "7")
    options.add_data(parser, "mnist5k")
    options.add_training(parser, has_threshold=True)


def tune(parser):
    """Searches the reduction ratio and kernel size of CBAM with KerasTuner,
    compared with no attention and SE; any option with several values is
    searched. Then retrains the best setting and no attention with six new seeds
    and reports whether attention improves accuracy. If you do not expect
    settings to differ by a point, use train instead. Rerun the same command to
    resume. Without arguments: a tiny ResNet on crowded digits, 26 training runs
    of one epoch.

    examples:
      cbam-keras tune
      cbam-keras tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7
      cbam-keras tune --attention none cbam --stages all last "last 2"
      cbam-keras tune --data photos --image-size 64 --max-trials 30 --workers 2
      cbam-keras tune --model mine:build
    """
    options.add_model(parser)
    text = "number of trials, in a random order (default: %(default)s)"
    parser.add_argument(
        "--max-trials", **options.POSITIVE, default=14, help=text
    )
    parser.add_argument(
        "--confirm",
        "--seeds",
        **options.WHOLE,
        default=6,
        help="number of new seeds with which the best setting and no attention "
        "are retrained; 0 for none (default: %(default)s)",
    )
    options.add_run(parser, "runs/tune-DATA-MODEL")
    text = "Each takes one value, which fixes it, or several to choose from."
    group = parser.add_argument_group("search space", text)
    options.add_attention(group, "none se cbam")
    ratios = "2 4 8 16, and 4 for se"
    options.add_layers(group, ratios, "3 5 7", **options.SEVERAL)
    options.add_data(parser)
    options.add_training(parser)


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
    parser.add_argument(
        "run",
        type=options.existing,
        metavar="RUN",
        help="output folder of a run; or folder of test predictions: "
        "NETWORK_sSEED.npz with arrays probs, (N, classes) or (N,), labels, "
        "(N,), and optionally groups, or NETWORK_sSEED.csv with a column per "
        "class and label; or one .npz file with labels and, under the name of "
        "each network, (seeds, N, classes)",
    )
    group = parser.add_argument_group("predictions")
    texts = {
        "--output": "output folder (default: runs/report-NAME)",
        "--pattern": "file names, with {network}, {seed} and {fold}",
        "--baseline": "network that the others are compared with (default: "
        "none if present, otherwise the first)",
    }
    options.add_options(group, texts)
    group.add_argument(
        "--measure",
        choices=[*options.MEASURES, *options.NUMBERS],
        help="metric to compare (default: accuracy, or mae)",
    )
    flags = {
        "--logits": "the predictions are logits",
        "--multi-label": "examples may have several classes: labels are 0 or "
        "1 for each",
    }
    options.add_options(group, flags, action="store_true")
    text = "also write the figures as PDF"
    parser.add_argument("--figures", choices=["pdf"], help=text)


def check(parser):
    """Identifies each attention module in source or a saved model, and reports
    whether it computes what its name promises. Source needs no model, weights
    or data; its definitions are run, so do not check what you would not import.
    Exits with status 1 if a module does not, cannot be analyzed, or if none is
    found.

    examples:
      cbam-keras check train.py
      cbam-keras check notebook.ipynb submissions/ --json
      cbam-keras check package.module:build
      cbam-keras check model.keras --classes my_layers:MyGate
    """
    parser.usage += " PATH [PATH ...]"
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="source: .py, .ipynb, a folder, or MODULE:FUNCTION that builds a "
        "network; or a model: .keras or .h5",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="MODULE:CLASS",
        help="your own layers in a model, which Keras cannot load otherwise",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON, each module with its file and line",
    )


# The subcommands, whose docstrings are their help, and what the list says.
COMMANDS = {
    train: "train a network without and with attention, and compare",
    tune: "search reduction ratio and kernel size, and compare the best",
    check: "check what attention modules in source or a saved model compute",
    report: "rewrite the HTML report of a run, or report any predictions",
}
