"""Options that several subcommands share."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from cbam_keras import _terminal, data, models, training
from cbam_keras.layers import ATTENTION
from cbam_keras.training import find_recipe

ARMS = ["none", *ATTENTION]
# Of these, what is compared by default.
COMPARED = ("none", "se", "cbam")

_DATA_OPTIONS = ("data_dir", "manual_dir", "download", "in_memory")

_RECIPE_OPTIONS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "mixed_precision",
    "augment",
    "image_size",
)


def add_model(parser, *, own=False):
    """Adds `--model`; with `own`, also for a function of the user."""
    names = list(models.NETWORKS)
    if own:
        parser.add_argument(
            "--model",
            default="tiny",
            metavar="NAME",
            help=f"the network: {', '.join(names)}; or MODULE:FUNCTION, a "
            "function of your own that takes `attention` and returns a "
            "keras.Model",
        )
    else:
        parser.add_argument(
            "--model", default="tiny", choices=names, help="the network"
        )


def add_compared(parser):
    """Adds which attentions are compared, over how many seeds, and how."""
    add = parser.add_argument
    add(
        "--attention",
        action="extend",
        nargs="+",
        choices=ARMS,
        help=f"what to compare (default: {' '.join(COMPARED)})",
        default=argparse.SUPPRESS,
    )
    add(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="how many seeds, from 0; several give mean, deviation, and the "
        "interval of each difference",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON, and the progress on stderr",
    )
    add_dry_run(form)
    add_quiet(parser)


def compared_of(options) -> Sequence[str]:
    """Returns the attentions that the command line asks for."""
    return vars(options).get("attention", COMPARED)


def add_data(parser, default, *, training=True):
    """Adds options for data; without any by default if `default` is `None`."""
    size = "resize images to a square of that side (default: as they are, "
    if not training:
        size = "for models that take any size (default: that of another "
        size += "model, as images are, "
    group = parser.add_argument_group("data")
    add = group.add_argument
    add(
        "--data",
        default=argparse.SUPPRESS if default is None else default,
        metavar="NAME",
        help=f"{' or '.join(data.EMBEDDED)} (embedded), a dataset of "
        "TensorFlow Datasets such as cifar10, or a folder with a folder of "
        "images per class",
    )
    add_tfds(add)
    add(
        "--manual-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="the folder with archives that you download by hand, as for "
        "imagenet2012",
    )
    add_image_size(add, f"{size}or 224 where they differ)")
    if training:
        add_augment(add, data.AUGMENTATIONS)
    return group


def add_tfds(add):
    """Adds `--data-dir` and `--download`."""
    add(
        "--data-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="the folder of TensorFlow Datasets "
        "(default: ~/tensorflow_datasets)",
    )
    add(
        "--download",
        action="store_true",
        default=argparse.SUPPRESS,
        help="download and prepare the dataset if necessary",
    )


def add_image_size(add, text):
    """Adds `--image-size`."""
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        default=argparse.SUPPRESS,
        help=text,
    )


def add_augment(add, choices):
    """Adds `--augment`."""
    add(
        "--augment",
        action="extend",
        nargs="+",
        choices=choices,
        default=argparse.SUPPRESS,
        help="augmentation of training images, one or several",
    )


def add_recipe(parser, default_recipe, *, named=True, learning_rate=True):
    """Adds what is changed most often in the recipe.

    `default_recipe` returns what is the default for a network. With `named`,
    also `--recipe` and `--seed`.
    """
    recipe, of_tiny = default_recipe(None), default_recipe("tiny")
    group = parser.add_argument_group("training")

    def add(option, kind, text, **options):
        group.add_argument(
            option, type=kind, default=argparse.SUPPRESS, help=text, **options
        )

    if named:
        add(
            "--recipe",
            str,
            f"{', '.join(training.RECIPES)}: sets the options below "
            "unless given (default: the values below)",
            metavar="NAME",
        )
    add("--epochs", int, f"epochs each (default: {recipe.epochs})")
    add("--batch-size", int, f"images per step (default: {recipe.batch_size})")
    if learning_rate:
        rate = f"{recipe.learning_rate}"
        if of_tiny.learning_rate != recipe.learning_rate:
            rate = f"{of_tiny.learning_rate} for the network tiny, "
            rate += f"otherwise {recipe.learning_rate}"
        add(
            "--learning-rate",
            float,
            f"the highest learning rate of the schedule (default: {rate})",
        )
    if named:
        add("--seed", int, f"of everything random (default: {recipe.seed})")
    add(
        "--mixed-precision",
        str,
        "compute in half precision (float16 without a value)",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
    )


def add_identity_init(parser):
    """Adds `--identity-init` and `--no-identity-init`."""
    parser.add_argument(
        "--identity-init",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="whether gates start at one and the spatial one is normalized, "
        "instead of as in the paper; it helps networks that are too small for "
        "their task (default: yes)",
    )


def add_import(add):
    """Adds `--import`."""
    add(
        "--import",
        dest="modules",
        action="append",
        metavar="MODULE",
        default=[],
        help="a module that registers custom layers, imported first; repeat "
        "it for several",
    )


def import_modules(options) -> None:
    """Imports the modules of `--import`."""
    for module in options.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(
                "`import` must be a module in this folder or installed. "
                f"Received: import={module!r} ({error})"
            ) from error


def add_dry_run(parser):
    """Adds `--dry-run`."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only print what would be trained and how long it would take, "
        "from a few timed steps",
    )


def add_quiet(parser):
    """Adds `--quiet`."""
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print only the result, and warnings",
    )


def add_tensorboard(parser):
    """Adds `--tensorboard`."""
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write logs for TensorBoard",
    )


def add_output(parser, default):
    """Adds `--output` and `--no-report`."""
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="do not write report.html, the result as a page, into that folder",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"the folder for all files (default: {default})",
    )


def add_run_folder(parser, default):
    """Adds `--output`, and what to do with a run in that folder."""
    add_output(parser, default)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume",
        action="store_true",
        default=argparse.SUPPRESS,
        help="resume the run in the output folder, as is done without this "
        "option too",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        default=argparse.SUPPRESS,
        help="delete the run in the output folder and start again",
    )


def run_folder_of(options) -> dict[str, Any]:
    """Returns the arguments `output` and `overwrite` of a run."""
    given = vars(options)
    return {
        "output": given.get("output"),
        "overwrite": given.get("overwrite", False),
    }


def recipe_of(options, default: training.Recipe) -> training.Recipe:
    """Returns the recipe that the command line asks for."""
    given = vars(options)
    recipe = find_recipe(given["recipe"]) if "recipe" in given else default
    changed = {
        key: given[key]
        for key in _RECIPE_OPTIONS
        # A search has a list of learning rates.
        if key in given and not isinstance(given[key], list)
    }
    if "augment" in given:
        changed["augment"] = tuple(given["augment"])
    return dataclasses.replace(recipe, **changed)


@contextlib.contextmanager
def progress_of(options) -> Iterator[None]:
    """Context of the work before the result, which prints its progress.

    It goes to standard error where the result is JSON, and nowhere with
    `--quiet`.
    """
    given = vars(options)
    with contextlib.ExitStack() as stack:
        if given["quiet"]:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(_terminal.hidden())
        elif given.get("json"):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def data_options_of(options) -> dict[str, Any]:
    """Returns the arguments of `data.load` that are not in the recipe."""
    given = vars(options)
    return {key: given[key] for key in _DATA_OPTIONS if key in given}


def model_of(name: str) -> Any:
    """Returns the name of a network, or the function `MODULE:FUNCTION`."""
    return imported("model", name) if ":" in name else name


def import_module(name: str) -> ModuleType:
    """Imports a module, which may be in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def imported(
    option: str, name: str, kind: str = "MODULE:FUNCTION, a function"
) -> Any:
    """Returns the object of a name like `"module:function"`."""
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`{option}` must be {kind} in a module that is installed or in "
            "this folder. Received: "
            f"{option}={name!r} ({error})"
        ) from error
