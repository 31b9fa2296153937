"""Options that several subcommands share, with their names and defaults.

A test compares both with the functions that they are for.
"""

import argparse
import contextlib
import difflib
import functools
import os
import pathlib
import string
import tomllib
from collections.abc import Iterable
from typing import Any

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
WIDER_RESNETS = ("wideresnet18", "resnext50", "resnext101")
MOBILE_NETS = ("mobilenet", "mobilenetv2")
NETWORKS = ("tiny", "small", *RESNETS, *WIDER_RESNETS, *MOBILE_NETS)
OF_CBAM = ("cbam", "cbam-paper", "se", "channel", "spatial")
OF_OTHERS = ("eca", "coordinate", "simam", "bam", "scse", "gc", "triplet")
ATTENTION = ("none", *OF_CBAM, *OF_OTHERS, "all")
# Networks without attention, with as many parameters as the largest with it.
CONTROLS = ("wider", "hidden")
AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
OF_ANSWERS = ("test_accuracy", "balanced_accuracy", "macro_f1")
OF_PROBABILITIES = ("auc", "average_precision", "ece", "brier")
MEASURES = ("accuracy", *OF_ANSWERS, *OF_PROBABILITIES)
# What is predicted but masks, and measures of numbers.
TASKS = ("classification", "regression")
NUMBERS = ("mae", "rmse", "r2")
# Measures of masks.
SCORES = ("miou", "iou", "dice")
# What arrays may hold.
KINDS = ("images", "signals", "volumes", "vectors")
FROM_TRAINED = ("fine-tuning", "frozen", "segmentation")
RECIPES = ("default", "imagenet", "small_images", *FROM_TRAINED)
WEIGHTS, CLASS_WEIGHTS, FIGURES = ("imagenet",), ("balanced", "sqrt"), ("pdf",)
MEASURES_OF_PREDICTIONS = *MEASURES, *NUMBERS
ALL_MEASURES = *MEASURES_OF_PREDICTIONS, *SCORES
# Options that say where images are.
TABLE_COLUMNS = ("image", "label", "split", "group", "fold")
LOCATION = ("data_dir", "image_folder", *(f"{x}_column" for x in TABLE_COLUMNS))

# What the help says of defaults; a test compares it with the recipes.
DEFAULTS = """\
defaults             epochs  batch  learning rate
  mnist5k            2       64     0.03 (tiny) or 0.01
  cluttered_mnist    3       64     0.03 (tiny) or 0.01
  other data         1       64     0.03 (tiny) or 0.01
  --weights          2 + 4   32     0.001
  --masks            24      8      0.003
  --masks --weights  8 + 16  8      0.003
  --frozen           20      32     0.001 0.003 0.01 0.03 (tune: 0.01)
  --recipe default   4       32     0.01
2 + 4: frozen epochs, then epochs. Without --recipe, at least 200 steps are
trained on all data but the three sets of digits."""


def whole(text: str) -> int:
    """Returns an integer from 0."""
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"invalid integer from 0: {text!r}")


def positive(text: str) -> int:
    """Returns a positive integer."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"invalid positive integer: {text!r}")


def existing(text: str) -> str:
    """Returns a path that exists."""
    if os.path.exists(os.path.expanduser(text)):
        return text
    raise argparse.ArgumentTypeError(f"there is no {text!r}")


def dataset(text: str) -> str:
    """Returns what may be the name of a dataset, or a path that exists."""
    is_path = text.startswith((".", "/", "~")) or "." in text.split(":")[0]
    return existing(text) if is_path else text


def gate(text: str) -> str:
    """Returns what may be the name of attention, or of a class."""
    known = *ATTENTION, *CONTROLS
    is_known = text in known or ":" in text or text.startswith("skip-")
    return text if is_known else _unknown(text, known)


def network(text: str) -> str:
    """Returns what may be the name of a network, or of a function."""
    is_known = text in NETWORKS or ":" in text or text.startswith("unet-")
    # Names of networks of Keras begin with a capital letter.
    is_known = is_known or text[:1].isupper()
    several = *NETWORKS, "EfficientNetLite0", "those of keras.applications"
    return text if is_known else _unknown(text, several)


def _unknown(text, names):
    listed = f"{', '.join(names)}, or MODULE:NAME of your own"
    if "," in text:
        listed += ", several separated by spaces"
    listed += nearest(text, names)
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {listed}")


def nearest(text: object, names: Iterable[object], least: int = 10) -> str:
    """Returns the nearest of more names than `least` as a question, if any."""
    by_case = {str(name).lower(): name for name in names}
    near = difflib.get_close_matches(str(text).lower(), by_case, 1)
    is_needed = near and len(by_case) > least
    return f'. Did you mean "{by_case[near[0]]}"?' if is_needed else ""


def layers(text):
    """Returns a whole number, a part, or else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


# What arguments options of a kind have.
KINDS_OF_OPTION: dict[str, dict[str, Any]] = {
    "positive": {"type": positive, "metavar": "N"},
    "whole": {"type": whole, "metavar": "N"},
    "numbers": {"type": float, "nargs": "+", "metavar": "NUMBER"},
    # One or several values, also of an option that is repeated.
    "several": {"action": "extend", "nargs": "+"},
    "flag": {"action": "store_true"},
    # These are in effect only if they are given.
    "on": {"action": "store_true", "default": None},
    "off": {"action": "store_false", "default": None},
}


def add_options(
    parser: Any, group: str, *kinds: str, **texts: str | tuple[str, ...]
) -> None:
    """Adds a group of `options.toml`, of further kinds, with these texts."""
    texts = {**globals(), **texts}
    for names, option in read_options()[group].items():
        arguments = dict(option)
        for name in ("type", "choices"):
            if name in option:
                arguments[name] = globals()[option[name]]
        for kind in (arguments.pop("kind", None), *kinds):
            arguments = KINDS_OF_OPTION.get(kind, {}) | arguments
        help_text = string.Template(option["help"])
        arguments["help"] = help_text.substitute(
            {
                name: text if isinstance(text, str) else ", ".join(text)
                for name in help_text.get_identifiers()
                for text in [texts[name]]
            }
        )
        parser.add_argument(*names.split(), **arguments)


@functools.cache
def read_options() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the options of each group by their names."""
    path = pathlib.Path(__file__).with_suffix(".toml")
    return tomllib.loads(path.read_text("utf-8"))
