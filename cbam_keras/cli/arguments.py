"""Options that several subcommands share."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from cbam_keras import _terminal, comparison, data, models
from cbam_keras.layers import ATTENTION, ORDERS
from cbam_keras.recipes import RECIPES, Recipe, find_recipe

ATTENTIONS = [comparison.BASELINE, *ATTENTION]
# Of these, what is compared by default.
COMPARED = ("none", "se", "cbam")
# Fields of a recipe that are options of the same name: what they are.
RECIPE_OPTIONS = {
    "epochs": "epochs of each training",
    "batch_size": "images per step",
    "learning_rate": "the highest learning rate of the schedule",
    "seed": "of everything random",
}
# Arguments of the attention layers that are options of the same name.
LAYER_OPTIONS = ("reduction_ratio", "kernel_size", "order", "identity_init")


def add_flags(add: Callable[..., Any], **texts: str) -> None:
    """Adds options without a value: their names, and what they do."""
    for name, text in texts.items():
        add(f"--{name.replace('_', '-')}", action="store_true", help=text)


def add_values(
    add: Callable[..., Any],
    kind: Any,
    metavar: str | None,
    *,
    several: bool = False,
    **texts: str,
) -> None:
    """Adds options of one value or several: their names, what they are."""
    many: dict[str, Any] = {"action": "extend", "nargs": "+"}
    for name, text in texts.items():
        add(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar=metavar,
            help=text,
            **(many if several else {}),
        )


def add_run(
    parser: Any,
    output: str,
    seeds: int,
    *names: str,
    text: str = "how many seeds, from 0; several give mean, deviation, and "
    "the interval of each difference",
) -> Any:
    """Adds what `train`, `tune`, `ablate` and `detect` have alike.

    `output` and `seeds` are defaults, `names` those of `--seeds`, and `text`
    is its help. Returns the group of options for the form of the result.
    """
    add = parser.add_argument
    names = names or ("--seeds",)
    add(*names, type=int, default=seeds, metavar="N", help=text)
    add(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="train N networks at a time on this machine, each with its own "
        "GPU or its share of the cores; on several machines, give the same "
        "command on each, see docs/cluster",
    )
    add_flags(
        add,
        dry_run="only print what would be trained and how long it would take, "
        "from a few timed steps",
        tensorboard="write logs for TensorBoard",
    )
    form = parser.add_mutually_exclusive_group()
    add_flags(
        form.add_argument,
        json="print the result as JSON, and the progress on stderr",
    )
    add_output(parser, output)
    add_flags(
        parser.add_mutually_exclusive_group().add_argument,
        resume="resume the run in the output folder, as is done without this "
        "option too",
        overwrite="delete the run in the output folder and start again",
    )
    return form


def add_output(parser, default):
    """Adds `--quiet`, `--output` and `--no-report`."""
    add = parser.add_argument
    add_flags(
        add,
        quiet="print only the result, and warnings",
        no_report="do not write report.html, the result as a page, into the "
        "folder",
    )
    text = f"the folder for all files (default: {default})"
    add("--output", metavar="DIR", help=text)


def add_model(parser, *, own=False):
    """Adds `--model`; with `own`, also for a function of the user."""
    names = list(models.NETWORKS)
    if not own:
        text = "the network"
        parser.add_argument("--model", default="tiny", choices=names, help=text)
        return
    parser.add_argument(
        "--model",
        default="tiny",
        metavar="NAME",
        help=f"the network: {', '.join(names)}; or MODULE:FUNCTION, a function "
        "of your own that takes `attention` and returns a keras.Model",
    )


def add_attention(parser, ratio):
    """Adds which attentions are compared, and the options of their layers.

    `ratio` says what is the default of the reduction ratio.
    """
    add_values(
        *(parser.add_argument, _attention_name, "NAME"),
        several=True,
        attention=f"what to compare: {', '.join(ATTENTIONS)}, or MODULE:CLASS, "
        f"a layer of your own (default: {' '.join(COMPARED)})",
    )
    add = parser.add_argument_group("attention layers").add_argument
    add_values(
        *(add, int, None),
        reduction_ratio=f"of the channel gate (default: {ratio})",
        kernel_size="of the spatial gate, odd (default: 7)",
    )
    text = "of CBAM's gates (default: channel_first)"
    add("--order", choices=ORDERS, help=text)
    add_identity_init(add)


def _attention_name(name):
    if ":" not in name and name not in ATTENTIONS:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {name!r} (choose from "
            f"{', '.join(ATTENTIONS)}, or MODULE:CLASS)"
        )
    return name


def add_identity_init(add):
    """Adds `--identity-init` and `--no-identity-init`."""
    add(
        "--identity-init",
        action=argparse.BooleanOptionalAction,
        help="whether gates start at one and the spatial one is normalized, "
        "instead of as in the paper; it helps networks that are too small for "
        "their task (default: yes)",
    )


def add_data(parser, default, *, training=True):
    """Adds options for the data of classifiers."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default=default,
        metavar="NAME",
        help=f"{' or '.join(data.EMBEDDED)} (embedded), a dataset of "
        "TensorFlow Datasets such as cifar10, or a folder with a folder of "
        "images per class",
    )
    add_values(
        *(group.add_argument, None, "DIR"),
        manual_dir="the folder with archives that you download by hand, as for "
        "imagenet2012",
    )
    size = "resize images to a square of that side (default: as they are, or "
    if not training:
        size = "for models that take any size (default: that of another "
        size += "model, as images are, or "
    augmentations = data.AUGMENTATIONS if training else ()
    add_images(
        group.add_argument, f"{size}224 where they differ)", augmentations
    )
    return group


def add_images(add, size, augmentations):
    """Adds options for the data of classifiers and of detectors."""
    add_values(
        *(add, None, "DIR"),
        data_dir="the folder of TensorFlow Datasets (default: "
        "~/tensorflow_datasets)",
    )
    add_flags(add, download="download and prepare the dataset if necessary")
    add_values(add, int, "PIXELS", image_size=size)
    if augmentations:
        text = "augmentation of training images, one or several"
        extended = {"action": "extend", "nargs": "+"}
        add("--augment", **extended, choices=augmentations, help=text)


def add_recipe(
    parser: Any,
    default_recipe: Callable[[str | None], Recipe],
    *,
    without: Sequence[str] = (),
) -> None:
    """Adds what is changed most often in the recipe.

    `default_recipe` returns that of a network. Options `without` are left out.
    """
    add = parser.add_argument_group("training").add_argument
    if "recipe" not in without:
        named = f"{', '.join(RECIPES)}: sets the options below unless given "
        add_values(
            add, str, "NAME", recipe=f"{named}(default: the values below)"
        )
    for name, text in RECIPE_OPTIONS.items():
        if name in without:
            continue
        tiny, default = (
            getattr(default_recipe(model), name) for model in ("tiny", None)
        )
        told = f"{tiny} for the network tiny, otherwise {default}"
        add(
            f"--{name.replace('_', '-')}",
            type=type(default),
            help=f"{text} (default: {default if tiny == default else told})",
        )
    add(
        "--mixed-precision",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
        help="compute in half precision (float16 without a value)",
    )


def attentions_of(options: argparse.Namespace) -> Sequence[Any]:
    """Returns the names and layer classes that are to be compared."""
    return [
        imported("attention", name, "MODULE:CLASS, a layer class")
        if ":" in name
        else name
        for name in options.attention or COMPARED
    ]


def given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Returns the options among these that the command line gives."""
    values = {name: getattr(options, name, None) for name in names}
    return {name: v for name, v in values.items() if v is not None}


def recipe_of(options: argparse.Namespace, default: Recipe) -> Recipe:
    """Returns the recipe that the command line asks for."""
    recipe = getattr(options, "recipe", None)
    names = [field.name for field in dataclasses.fields(Recipe)]
    changed = given(options, names)
    if isinstance(changed.get("learning_rate"), list):
        # A search chooses from several.
        del changed["learning_rate"]
    return dataclasses.replace(
        find_recipe(recipe) if recipe else default, **changed
    )


def data_options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `data.load` that are not in the recipe."""
    download = {"download": True} if options.download else {}
    return given(options, ("data_dir", "manual_dir")) | download


def model_of(name: str) -> Any:
    """Returns the name of a network, or the function `MODULE:FUNCTION`."""
    return imported("model", name) if ":" in name else name


@contextlib.contextmanager
def progress_of(options: argparse.Namespace) -> Iterator[None]:
    """Context of the work before the result, which prints its progress.

    It goes to standard error where the result is JSON, and nowhere with
    `--quiet`.
    """
    with contextlib.ExitStack() as stack:
        if options.quiet:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(_terminal.hidden())
        elif vars(options).get("json"):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


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


def import_modules(options: argparse.Namespace) -> None:
    """Imports the modules of `--import`."""
    for module in options.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(
                "`import` must be a module in this folder or installed. "
                f"Received: import={module!r} ({error})"
            ) from error


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
            f"this folder. Received: {option}={name!r} ({error})"
        ) from error
