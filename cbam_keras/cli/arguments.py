"""What the commands take: options that several of them share."""

import argparse
import dataclasses
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from cbam_keras import data, models, training
from cbam_keras.layers import ATTENTION
from cbam_keras.training import find_recipe

ARMS = ["none", *ATTENTION]

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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before them.

    Arguments for `anywhere`, the name of one that takes any number, may stand
    between options too, where argparse takes them for unknown.
    """

    anywhere: str | None = None

    def parse_known_args(self, args=None, namespace=None):
        options, rest = super().parse_known_args(args, namespace)
        if self.anywhere is None:
            return options, rest
        loose = [argument for argument in rest if argument[:1] != "-"]
        found = [*getattr(options, self.anywhere), *loose]
        setattr(options, self.anywhere, found)
        return options, [argument for argument in rest if argument[:1] == "-"]

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def add_model(parser, *, own=False):
    """Adds `--model`; with `own`, a function of the user's is taken too."""
    names = list(models.NETWORKS)
    if own:
        parser.add_argument(
            "--model",
            default="small",
            metavar="NAME",
            help=f"the network: {', '.join(names)}; or MODULE:FUNCTION, a "
            "function of your own that takes `attention` and returns a "
            "keras.Model",
        )
    else:
        parser.add_argument(
            "--model", default="small", choices=names, help="the network"
        )


def add_data(parser, default, *, training=True):
    """Adds what tells of data; by default there are none if it is `None`."""
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
        help=f"{' or '.join(data.EMBEDDED)} (embedded), a set of TensorFlow "
        "Datasets as cifar10, or a folder with a folder of images per class",
    )
    add(
        "--data-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where TensorFlow Datasets keeps what it has prepared "
        "(default: ~/tensorflow_datasets)",
    )
    add(
        "--manual-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where files lie that you must fetch yourself, as for "
        "imagenet2012",
    )
    add(
        "--download",
        action="store_true",
        default=argparse.SUPPRESS,
        help="download and prepare the set if it is not there yet",
    )
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        default=argparse.SUPPRESS,
        help=f"{size}or 224 where they differ)",
    )
    if training:
        add(
            "--augment",
            action="append",
            choices=data.AUGMENTATIONS,
            default=argparse.SUPPRESS,
            help="how to vary training images; repeat it for several",
        )
    return group


def add_recipe(parser, recipe, *, learning_rate=True):
    """Adds what is changed most often of a recipe, and its name."""
    group = parser.add_argument_group("training")

    def add(option, kind, text, **options):
        group.add_argument(
            option, type=kind, default=argparse.SUPPRESS, help=text, **options
        )

    add(
        "--recipe",
        str,
        f"{', '.join(training.RECIPES)}: what the options below are set to "
        "unless given (default: default)",
        metavar="NAME",
    )
    add("--epochs", int, f"epochs each (default: {recipe.epochs})")
    add("--batch-size", int, f"images per step (default: {recipe.batch_size})")
    if learning_rate:
        add(
            "--learning-rate",
            float,
            "the highest learning rate of the schedule "
            f"(default: {recipe.learning_rate})",
        )
    add("--seed", int, f"of everything random (default: {recipe.seed})")
    add(
        "--mixed-precision",
        str,
        "compute in half precision (float16 if nothing follows)",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
    )


def add_output(parser, default):
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"a folder for all files (default: {default})",
    )


def recipe_of(options, default: training.Recipe) -> training.Recipe:
    """Returns the recipe that the command line asks for."""
    given = vars(options)
    recipe = find_recipe(given["recipe"]) if "recipe" in given else default
    changed = {
        key: given[key]
        for key in _RECIPE_OPTIONS
        # The search takes learning rates of its own.
        if key in given and not isinstance(given[key], list)
    }
    if "augment" in given:
        changed["augment"] = tuple(given["augment"])
    return dataclasses.replace(recipe, **changed)


def data_options_of(options) -> dict[str, Any]:
    """Returns what `data.load` is told besides what a recipe says."""
    given = vars(options)
    return {key: given[key] for key in _DATA_OPTIONS if key in given}


def model_of(name: str) -> Any:
    """Returns the name of a network, or the user's function of that name."""
    return imported("model", name) if ":" in name else name


def import_module(name: str) -> ModuleType:
    """Returns a module of that name, those here included."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def imported(option: str, name: str) -> Any:
    """Returns what `"module:function"` names, modules here included."""
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`{option}` must be MODULE:FUNCTION, a function in a module "
            "that Python finds, here or installed. Received: "
            f"{option}={name!r} ({error})"
        ) from error
