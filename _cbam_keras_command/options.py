"""What options of the command take: names, and types of values.

A test compares names and defaults with the functions that they are for.
"""

import argparse
import contextlib
import difflib
import os
from collections.abc import Iterable

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
TASKS_OF_PREDICTIONS = (*TASKS, "scores")
NUMBERS = ("mae", "rmse", "r2")
# Measures of masks.
SCORES = ("miou", "iou", "dice")
# What arrays may hold.
KINDS = ("images", "signals", "volumes", "vectors")
FROM_TRAINED = ("fine-tuning", "frozen", "segmentation")
RECIPES = ("default", "imagenet", "small_images", *FROM_TRAINED)
WEIGHTS = ("imagenet",)
CLASS_WEIGHTS = ("balanced", "sqrt")
# Formats of figures beside PNG.
FIGURES = ("pdf",)
MEASURES_OF_PREDICTIONS = (*MEASURES, *NUMBERS)
ALL_MEASURES = (*MEASURES_OF_PREDICTIONS, *SCORES)
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
2 + 4: frozen epochs, then epochs. Without --recipe and --epochs, epochs are
added until there are 200 steps, or 60 with --weights and no --masks, except
for the three datasets of digits."""


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
    names = (*ATTENTION, *CONTROLS)
    is_own_class = ":" in text
    if text in names or is_own_class or text.startswith("skip-"):
        return text
    raise _unknown(text, names)


def network(text: str) -> str:
    """Returns what may be the name of a network, or of a function."""
    is_own_function = ":" in text
    # Names of networks of Keras begin with a capital letter.
    is_of_keras = text[:1].isupper()
    is_ours = text in NETWORKS or text.startswith("unet-")
    if is_ours or is_own_function or is_of_keras:
        return text
    names = (*NETWORKS, "EfficientNetLite0", "those of keras.applications")
    raise _unknown(text, names)


def _unknown(text, names):
    """Returns the error of a name that is not one of `names`."""
    listed = f"{', '.join(names)}, or MODULE:NAME of your own"
    if "," in text:
        listed += ", several separated by spaces"
    listed += nearest(text, names)
    return argparse.ArgumentTypeError(f"{text!r} is not one of {listed}")


def quoted(value: object) -> str:
    """Returns strings in double quotes and anything else by its `repr`."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def nearest(text: object, names: Iterable[object], least: int = 10) -> str:
    """Returns the nearest of more names than `least` as a question, if any."""
    by_case = {str(name).lower(): name for name in names}
    near = difflib.get_close_matches(str(text).lower(), by_case, 1)
    is_needed = near and len(by_case) > least
    if not is_needed:
        return ""
    return f". Did you mean {quoted(by_case[near[0]])}?"


def layers(text: str) -> int | float | str:
    """Returns a whole number, a fraction, or else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
