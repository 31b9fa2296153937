"""Every option of the command: its name, value, default and help.

Read before Keras is imported, which takes seconds. A test compares names,
defaults and choices with the functions that they are for.
"""

import argparse
import contextlib
import difflib
import inspect
import pathlib
import re
import runpy
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

NETWORKS = (
    "tiny small resnet18 resnet34 resnet50 resnet101 resnet152 wideresnet18 "
    "resnext50 resnext101 mobilenet mobilenetv2"
).split()
ATTENTION = (
    "cbam cbam-paper se channel spatial eca coordinate simam bam scse gc "
    "triplet"
).split()
# The names that options take; their help has NAMES in place of them.
CHOICES = {
    "algorithm": ("random", "hyperband", "bayesian", "grid"),
    "attention": ("none", *ATTENTION, "all"),
    "augment": ("flip", "crop", "random_resized_crop"),
    "class_weight": ("balanced",),
    "measure": ("test_accuracy", "balanced_accuracy", "macro_f1", "auc"),
    "method": ("grad_cam", "grad_cam++", "hires_cam"),
    "mixed_precision": ("float16", "bfloat16"),
    "model": tuple(NETWORKS),
    "order": ("channel_first", "spatial_first", "parallel"),
    "recipe": ("default", "imagenet", "small_images", "fine-tuning"),
    "split": ("train", "validation", "test"),
    "weights": ("imagenet",),
}


def count(text: str) -> int | None:
    """Returns how many, `None` for all."""
    with contextlib.suppress(ValueError):
        return None if text == "all" else int(text)
    raise argparse.ArgumentTypeError(f"invalid value: {text!r} (N or all)")


def size(text: str) -> int | tuple[int, ...]:
    """Returns a side, or height and width."""
    with contextlib.suppress(ValueError):
        first, *second = map(int, text.split("x", 1))
        return (first, *second) if second else first
    raise argparse.ArgumentTypeError(f"invalid value: {text!r} (N or HxW)")


def name_or_layer(text: str) -> str:
    """Returns the name of an attention, or `MODULE:CLASS`."""
    return _name(text, CHOICES["attention"], "or MODULE:CLASS")


def name_of_network(text: str) -> str:
    """Returns the name of a network, or `MODULE:FUNCTION`."""
    # Keras' own, with capital letters, are checked when Keras is there.
    others = ("EfficientNetLite0", "or a network of keras.applications")
    return _name(text, NETWORKS, *others) if text.islower() else text


def _name(text, names, *others):
    if ":" in text or text in names:
        return text
    choices = f"(choose from {', '.join([*names, *others])})"
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} {choices}")


TYPES = {"N": int, "NUMBER": float, "N|all": count, "N|HxW": size}
SIZE = "as they are, or {} where they differ"
SEVERAL = {"action": "extend", "nargs": "+"}
# Further keywords of `add_argument`.
KEYWORDS: dict[str, dict[str, Any]] = {
    "attention": {"type": name_or_layer, "choices": None, **SEVERAL},
    # The error for a layer of Keras says where it goes instead.
    "augment": {"choices": None, **SEVERAL},
    "class": {"dest": "wanted"},
    "group_by_folder": {"action": argparse.BooleanOptionalAction},
    "identity_init": {"action": argparse.BooleanOptionalAction},
    "import": {"action": "append", "dest": "modules", "default": []},
    "mixed_precision": {"nargs": "?", "const": "float16"},
    "model": {"type": name_of_network, "choices": None},
    "tables": {"metavar": "TABLE", **SEVERAL},
}
# What an option takes, if anything, two blanks, and what it does.
HELP = {
    "algorithm": "NAME  how the next trial is chosen: NAMES",
    "attention": "NAME  what is compared: NAMES; or MODULE:CLASS, a layer of "
    "your own",
    "augment": "NAME  augmentation of training images, one or several: NAMES",
    "batch_size": "N  images per step",
    "channel_pool_types": "POOLS  of the channel gate (default: avg+max)",
    "class": "NAME|INDEX  the class to explain (default: the true one, as in "
    "the paper; if it is not known, the one that each model predicts)",
    "class_weight": "NAME  NAMES: rare classes count as much in training as "
    "others",
    "confirm": "N  how many fresh seeds the best configurations and the "
    "controls are trained with again; 0 for none",
    "count": "N|all  how many images of the data, or of the folder, are "
    "chosen at random, equally many of each class",
    "csv": "print CSV",
    "data": "NAME|FOLDER|FILE  mnist5k, cluttered_mnist or crowded_mnist "
    "(embedded), a dataset of TensorFlow Datasets such as cifar10, a folder "
    "with a folder of images per class, or a CSV file of paths and classes",
    "data_dir": "DIR  the folder of TensorFlow Datasets (default: "
    "~/tensorflow_datasets)",
    "download": "download and prepare the dataset if necessary",
    "draw": "N  how many images are drawn and kept as arrays; the others count "
    "only in the means",
    "dry_run": "only print what would be trained: networks, their parameters "
    "and multiply-accumulates, epochs",
    "epochs": "N  epochs of each training",
    "folds": "N  test each image once, in a cross-validation of so many folds",
    "frozen_epochs": "N  epochs before these, which train only the layers that "
    "are not frozen: attention and the classifier",
    "group_by_folder": "whether images of one subfolder, as of a patient, stay "
    "together where images are split (default: yes)",
    "hypermodel": "MODULE:FUNCTION  a function of your own, or a "
    "keras_tuner.HyperModel, with a search space of its own",
    "identity_init": "whether gates start at one and the spatial one is "
    "normalized, instead of as in the paper (default: yes)",
    "image_column": "NAME  the column of the CSV file with paths",
    "image_size": "N|HxW  resize images to squares of side N, or to height x "
    "width, in pixels",
    "import": "MODULE  a module that registers custom layers, imported first; "
    "repeat it for several",
    "json": "print the result as JSON, and the progress on stderr",
    "keep": "N  how many of the best trials keep their weights",
    "kernel_size": "N  of the spatial gate, odd",
    "label_column": "NAME  the column of the CSV file with classes",
    "layer": "NAME  the layer whose output is explained, e.g. "
    "stage3_block2_out, or backbone/conv5 in a nested model (default: the last "
    "feature map)",
    "learning_rate": "NUMBER  the highest learning rate of the schedule",
    "manual_dir": "DIR  the folder of archives that you downloaded by hand",
    "markdown": "print Markdown",
    "max_macs": "NUMBER  likewise, in multiply-accumulates of one image",
    "max_parameters": "NUMBER  record larger networks as over budget, without "
    "training them",
    "max_trials": "N  how many trials (default: 14; hyperband and grid end by "
    "themselves)",
    "measure": "NAME  what networks are compared by, on the test images: NAMES",
    "method": "NAME  how heat maps are computed: NAMES",
    "mixed_precision": "NAME  compute in half precision: NAMES (float16 "
    "without a value)",
    "model": "NAME  the network: NAMES; or EfficientNetLite0, a network of "
    "keras.applications, or MODULE:FUNCTION, a function of your own that takes "
    "`attention` and returns a keras.Model",
    "no_report": "do not write the result as a page, report.html",
    "order": "NAME  of CBAM's gates: NAMES (default: channel_first)",
    "output": "DIR  the folder for all files",
    "overwrite": "rename the run in the output folder to DIR.old-1, and start "
    "again",
    "patience": "N  end a training after so many epochs without progress on "
    "the validation images",
    "quiet": "print only the result, and warnings",
    "recipe": "NAME  NAMES: sets the options below unless given (default: the "
    "values below, and fine-tuning with --weights)",
    "reduction_ratio": "N  of the channel gate",
    "resume": "resume the run in the output folder, which is the default",
    "scheduler": "ADDRESS  train by the workers of a Dask scheduler, as "
    "tcp://host:8786, or the file that it has written; all must see the output "
    "folder",
    "seed": "N  of everything random (default: 0)",
    "seeds": "N  how many seeds, from 0; several give mean, deviation, and the "
    "interval of each difference",
    "spatial_pool_types": "POOLS  of the spatial gate (default: avg+max)",
    "split": "NAME  the split of the data: NAMES",
    "tables": "N  of the paper (default: 1 2 3 4)",
    "tensorboard": "write logs for TensorBoard",
    "weights": "NAME  imagenet: start from weights for ImageNet, for "
    "EfficientNetLite0 (in a package) and networks of keras.applications "
    "(downloaded)",
    "workers": "N  train N networks at a time on this machine, each with its "
    "own GPU or its share of the cores",
}


# Options that say where images are, and are rarely used.
LOCATION = "data_dir manual_dir image_column label_column group_by_folder"


class Options(argparse.Namespace):
    """What is asked of a subcommand."""

    # The values of options that not every subcommand has.
    json = False
    recipe: str | None = None
    seed: int | None = None

    @property
    def line(self) -> str:
        """The command line, but for how to treat a run that is there."""
        again = ("--overwrite", "--resume")
        words = [word for word in self.arguments if word not in again]
        return shlex.join(["cbam-keras", *words])

    @property
    def data_options(self) -> dict[str, Any]:
        """The arguments of `data.load` that are not in the recipe."""
        download = {"download": True} if self.download else {}
        return self.given(LOCATION.split()) | download

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Returns by name those of these options that have a value."""
        values = {name: vars(self).get(name) for name in names}
        return {name: x for name, x in values.items() if x is not None}

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Raises if one of these options is given, which nothing would take."""
        given = [word.partition("=")[0] for word in self.arguments]
        for name in names:
            option = name.replace("_", "-")
            if f"--{option}" in given or f"--no-{option}" in given:
                raise ValueError(
                    f"`{name}` must be left out {reason}. Received: {name}="
                    f"{getattr(self, name)!r}"
                )


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line."""

    def __init__(self, **options: Any):
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None):
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = vars(options).get(action.dest)
            if action.nargs == "*":
                # They may also stand between options, where argparse does not
                # recognize them.
                value += [word for word in rest if word[:1] != "-"]
                rest = [word for word in rest if word[:1] == "-"]
            if "" in (value if isinstance(value, list) else [value]):
                wrong = argparse.ArgumentError(action, "a value is empty")
                self.error(str(wrong))
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


def parse(arguments: Sequence[str]) -> Options:
    """Returns what the words of a command line ask for."""
    return outline().parse_args(arguments, Options(arguments=arguments))


def outline() -> Parser:
    """Returns the parser of the command line."""
    # Importing the package would import Keras.
    path = pathlib.Path(__file__).parents[1] / "_version.py"
    version = runpy.run_path(str(path))["__version__"]
    parser = Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, tune, compare, explain.",
        epilog="examples:\n  cbam-keras train\n  cbam-keras train --help\n"
        "  cbam-keras explain runs/train-crowded_mnist-tiny\n",
    )
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for function, text in COMMANDS.items():
        command = commands.add_parser(function.__name__, help=text)
        _add_options(command, function)
    with contextlib.suppress(ImportError):
        import shtab

        shtab.add_argument_to(parser)
        actions = (a for c in commands.choices.values() for a in c._actions)
        for action in actions:
            # Values that are neither names nor numbers are paths.
            if action.metavar and not (action.choices or action.type):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _add(group, names, *, aliases=(), **more):
    """Adds the options of these names.

    `more` has by the name of an option the default that its help shows, and
    otherwise keywords of `add_argument` for all.
    """
    shown = {name: more.pop(name) for name in names.split() if name in more}
    for name in names.split():
        choices = more.get("choices") or CHOICES.get(name, ())
        metavar, _, text = HELP[name].rpartition("  ")
        value = {"help": text.replace("NAMES", ", ".join(choices))}
        if metavar:
            value |= {"metavar": metavar, "type": TYPES.get(metavar)}
        else:
            value |= {"action": "store_true"}
        if choices:
            value["choices"] = choices
        if name in shown:
            value["help"] += f" (default: {shown[name]})"
        names_of = f"--{name.replace('_', '-')}", *aliases
        group.add_argument(*names_of, **value | KEYWORDS.get(name, {}) | more)


def _add_options(parser, function):
    """Adds the options of a subcommand, and its description and examples."""
    parser.usage = "%(prog)s [options]"
    function(parser)
    text = inspect.getdoc(function) or ""
    parser.description, _, parser.epilog = text.partition("\n\n")
    for action in parser._actions:
        if action.default not in (None, False, [], argparse.SUPPRESS):
            action.help += f" (default: {action.default})"


# A function for each subcommand; its docstring is what the help says.


def train(parser):
    """Trains a network without attention, with SE and with CBAM under equal
    conditions and ends with a table, a sentence on the differences, and the
    command that draws where the networks look. The same command given again
    resumes. Without arguments: a tiny ResNet on crowded digits, about a
    minute on a CPU.

    examples:
      cbam-keras train
      cbam-keras train --attention none cbam --seeds 5
      cbam-keras train --attention none cbam my_layers:MyGate
      cbam-keras train --model my_networks:build
      cbam-keras train --data cifar10 --download --model resnet18 --epochs 20
      cbam-keras train --data photos --image-size 64 --augment flip crop
      cbam-keras train --data photos --folds 5
    """
    _add(parser, "model weights")
    _add_compared(parser, "4 in the network tiny, otherwise 16")
    _add(parser, "folds")
    _add_run(parser, "runs/train-DATA-MODEL", seeds=1)
    _add_training(parser)


def ablate(parser):
    """Trains the networks of the paper's Tables 1, 2 and 3 and baseline, SE and
    CBAM of Table 4 over several seeds, and ends with those tables: mean,
    deviation, and the paired difference to the baseline. The same command given
    again resumes.

    examples:
      cbam-keras ablate
      cbam-keras ablate --tables 1 2 --seeds 5 --epochs 10
      cbam-keras ablate --data photos --image-size 64 --quiet --csv > table.csv
    """
    _add(parser, "model weights tables folds")
    _add_run(parser, "runs/ablate-DATA-MODEL", "json markdown csv", seeds=3)
    _add_training(parser, rare="identity_init")


def tune(parser):
    """Searches the reduction ratio and kernel size of CBAM, beside no attention
    and SE, and whatever else you give several values, by KerasTuner. Then
    trains the best configurations and both controls again from fresh seeds, and
    ends with whether attention improves accuracy on this dataset. If it is
    killed, the same command resumes it. Without arguments: a tiny ResNet on
    crowded handwritten digits, 26 trainings of one epoch.

    examples:
      cbam-keras tune
      cbam-keras tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7
      cbam-keras tune --data photos --image-size 64 --max-trials 30 --workers 2
      cbam-keras tune --model mine:build --algorithm bayesian --max-macs 1e8
    """
    _add(parser, "model weights algorithm max_trials max_parameters max_macs")
    _add(parser, "confirm", aliases=("--seeds",))
    _add_run(parser, "runs/tune-DATA-MODEL", seeds=None)
    group = parser.add_argument_group(
        "search space",
        "Each takes one value, which fixes it, or several to choose from.",
    )
    _add(group, "attention", attention="none se cbam")
    _add(
        group,
        "reduction_ratio kernel_size order channel_pool_types "
        "spatial_pool_types learning_rate",
        **SEVERAL,
        reduction_ratio="2 4 8 16, and 4 for se",
        kernel_size="3 5 7",
        learning_rate="that of the recipe",
    )
    _add_training(parser, rare="hypermodel keep identity_init", has_rate=False)
    parser.set_defaults(algorithm="random", confirm=3, keep=3)


def table(parser):
    """Builds the networks of Tables 1 to 5 of the paper and prints their
    parameters and multiply-accumulates beside the printed ones, with the errors
    that the paper reports. About half a minute for all.

    examples:
      cbam-keras table
      cbam-keras table resnet50 resnet50-cbam --markdown
    """
    parser.usage += " [NAME ...]"
    text = "rows, as resnet50-cbam (default: all)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    _add(parser.add_mutually_exclusive_group(), "markdown json")
    text = "a folder that also gets tables.md and tables.json"
    _add(parser, "output", help=text)


def explain(parser):
    """Draws where networks look, side by side: Grad-CAM as in the figure of the
    paper, and the attention maps of each layer. It writes the figures, their
    numbers as explain.json, the maps as arrays.npz, and report.html.

    examples:
      cbam-keras explain runs/train-crowded_mnist-tiny
      cbam-keras explain baseline.keras cbam.keras photos/ --class cat
      cbam-keras explain cbam.keras --data cluttered_mnist --count all
      cbam-keras explain cbam.keras it.jpg --layer stage3_block2_out
    """
    parser.usage += " MODEL|RUN|IMAGE|FOLDER ..."
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="MODEL|RUN|IMAGE|FOLDER",
        help="models (.keras, .h5) or output folders of train and tune, whose "
        "models and data are taken; and images, or a folder of images with "
        "its subfolders; one named after a class gives the true class of its "
        "images",
    )
    output = "runs/explain-NAME, with the first name"
    names = "class method layer draw output quiet no_report"
    _add(parser, names, output=output)
    group = parser.add_argument_group("data")
    _add(group, "data download image_size", image_size="the models' or images'")
    _add(group, "split count", split="test")
    text = "of that choice, and of the validation split"
    _add(group, "seed", help=f"{text} (default: that of the run, or 0)")
    group = parser.add_argument_group("models")
    _add(group, "batch_size import")
    _add(parser.add_argument_group("rarely used"), LOCATION)
    parser.set_defaults(method="grad_cam", draw=8, count="8", batch_size=32)


# Several subcommands share the following options.


def _add_compared(parser, ratio):
    _add(parser, "attention", attention="none se cbam")
    group = parser.add_argument_group("attention layers")
    names = "reduction_ratio kernel_size order identity_init"
    _add(group, names, reduction_ratio=ratio, kernel_size="7")


def _add_run(parser, output, form="json", *, seeds):
    """Adds what runs have alike; `form` are forms of the result."""
    if seeds is not None:
        _add(parser, "seeds")
    names = "dry_run output quiet no_report"
    _add(parser, names, output=output)
    _add(parser.add_mutually_exclusive_group(), "workers scheduler")
    _add(parser.add_mutually_exclusive_group(), "overwrite resume")
    _add(parser.add_mutually_exclusive_group(), form)
    parser.set_defaults(seeds=seeds, workers=1)


def _add_training(parser, *, rare="", has_rate=True):
    """Adds what trainings of classifiers have alike, the rarely used last."""
    group = parser.add_argument_group("data")
    _add(group, "data download image_size augment", image_size=SIZE.format(224))
    group = parser.add_argument_group("training")
    shown = {"epochs": "1", "frozen_epochs": "0", "batch_size": "64"}
    _add(group, "recipe epochs frozen_epochs batch_size seed", **shown)
    if has_rate:
        rate = "0.03 for the network tiny, otherwise 0.01"
        _add(group, "learning_rate", learning_rate=rate)
    _add(group, "class_weight patience measure")
    parser.set_defaults(model="tiny", data="crowded_mnist")
    parser.set_defaults(measure="test_accuracy")
    group = parser.add_argument_group("rarely used")
    _add(group, f"mixed_precision tensorboard {LOCATION} {rare}")


# The subcommands, with what the list of commands says.
COMMANDS = {
    train: "train a network without and with attention, and compare",
    tune: "search reduction ratio and kernel size, and confirm the best",
    ablate: "run the paper's comparisons on your own data, over seeds",
    table: "count the networks of the paper's tables beside what is printed",
    explain: "see what networks look at: Grad-CAM and attention maps",
}
