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
    parser = build_parser()
    return parser.parse_args(
        arguments or ["--help"], Options(arguments=arguments)
    )


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
    """Trains a network without attention and with CBAM on the same data and
    with the same five seeds. It ends with a table, a sentence on the
    difference, and a page that shows where the networks look. The same command
    given again resumes. Without arguments: a tiny ResNet on 5,000 digits, about
    a minute on two CPU cores.

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
        help="replace gates of the network by attention, as se of "
        "EfficientNetB0, and compare with the network as it is",
    )
    parser.add_argument(
        "--seeds",
        **options.POSITIVE,
        help="number of seeds (0, 1, 2, ...); with several, the mean, the "
        "standard deviation and the interval of each difference are reported "
        "(default: 5, with folds 1)",
    )
    options.add_run(parser, "runs/train-DATA-MODEL")
    group = parser.add_argument_group("attention layers")
    options.add_layers(group, "4 in the network tiny, otherwise 16", "7")
    options.add_data(parser, "mnist5k")
    options.add_training(parser, has_threshold=True)


def tune(parser):
    """Searches the reduction ratio and kernel size of CBAM with KerasTuner, and
    compares it with no attention and SE; any option with several values is
    searched too. Then retrains the best setting and no attention with six new
    seeds, and says whether attention improves accuracy on this dataset. If you
    do not expect settings to differ, compare instead (train). The same command
    resumes a search that was interrupted. Without arguments: a tiny ResNet on
    crowded handwritten digits, 26 trainings of one epoch.

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
    """Writes report.html of a run again, with what its networks look at: eight
    test images, mistakes first, with Grad-CAM and attention maps; of masks what
    they predict. The commands write it when they end. Of predictions that any
    program has made, in any framework, it writes tables, figures and such a
    page.

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
        help="the output folder of a run; or a folder of predictions for test "
        "examples: NETWORK_sSEED.npz with arrays probs, (N, classes) or (N,), "
        "labels, (N,), and groups if there are any, or NETWORK_sSEED.csv with "
        "a column for each class and label; or one .npz file with labels and, "
        "under the name of each network, (seeds, N, classes)",
    )
    group = parser.add_argument_group("predictions")
    texts = {
        "--output": "the folder to write (default: runs/report-NAME)",
        "--pattern": "how files are called, with {network}, {seed} and {fold}",
        "--baseline": "the network that others are compared with (default: "
        "none, if there is one, else the first)",
    }
    options.add_options(group, texts)
    group.add_argument(
        "--measure",
        choices=[*options.MEASURES, *options.NUMBERS],
        help="what is compared (default: test_accuracy, or mae)",
    )
    flags = {
        "--logits": "the predictions are logits",
        "--multi-label": "examples may have several classes: labels are 0 and "
        "1 for each",
    }
    options.add_options(group, flags, action="store_true")
    text = "write the figures also as PDF beside the PNG"
    parser.add_argument("--figures", choices=["pdf"], help=text)


def check(parser):
    """Runs the definitions of source: do not check what you would not import.
    It says of each attention gate, in source or in a saved model, what it
    computes, and if it is what its name says. Source needs no model, weights or
    data. It ends with 1 if a gate is wrong, not what it is called, or could not
    be looked into, or if there is no attention.

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
        help="source: .py, .ipynb, a folder, or MODULE:FUNCTION, which builds "
        "a network; or a model: .keras or .h5",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="MODULE:CLASS",
        help="layers of your own in a model, which Keras cannot load otherwise",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON: passed, and gates with file and line",
    )


# The subcommands, whose docstrings are their help, and what the list says.
COMMANDS = {
    train: "train a network without and with attention, and compare",
    tune: "search reduction ratio and kernel size, and compare the best",
    check: "say whether attention in source or a model is what it is called",
    report: "write the page of a run again, with what its networks look at",
}
