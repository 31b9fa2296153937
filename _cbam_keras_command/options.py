"""Options that several subcommands share, with their names and defaults.

A test compares both with the functions that they are for.
"""

import argparse
import contextlib
import difflib
import os
from collections.abc import Iterable, Mapping
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
# One or several values, also of an option that is repeated.
SEVERAL: dict[str, Any] = {"action": "extend", "nargs": "+"}


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


# Options of numbers, as the help shows them.
WHOLE: dict[str, Any] = {"type": whole, "metavar": "N"}
POSITIVE: dict[str, Any] = {"type": positive, "metavar": "N"}


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


def add_options(group: Any, texts: Mapping[str, str], **kind: Any) -> None:
    """Adds options of one kind, by their names with what the help says."""
    for name, text in texts.items():
        group.add_argument(name, help=text, **kind)


def add_model(parser):
    parser.add_argument(
        "--model",
        type=network,
        default="tiny",
        metavar="NAME",
        help=f"network: {', '.join(NETWORKS)}, EfficientNetLite0, a network "
        "of keras.applications, or MODULE:FUNCTION, your own function that "
        "takes `attention` and returns a keras.Model; with masks a U-Net on "
        "one of these, such as unet-resnet18 (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        choices=("imagenet",),
        help="initialize with ImageNet weights: EfficientNetLite0 (from a "
        "package) and networks of keras.applications (downloaded)",
    )


def add_attention(parser, default):
    parser.add_argument(
        "--attention",
        type=gate,
        **SEVERAL,
        metavar="NAME",
        help=f"attention types to compare: {', '.join(ATTENTION)}, or "
        "MODULE:CLASS, your own layer; with masks also skip-gate, skip-cbam "
        "etc., on the skip connections of a U-Net; train also takes wider and "
        "hidden, networks without attention but with as many parameters "
        f"(default: {default})",
    )
    parser.add_argument(
        "--stages",
        **SEVERAL,
        metavar="STAGES",
        help='stages that get attention: all, first, last, "last 2", numbers '
        "from 1 such as 1,3, or top (after the last feature map); each: "
        "compares all stages, each stage alone, the last two, three, ... and "
        "top (default: all)",
    )


def add_layers(group, ratios, sizes, **several):
    """Adds the options of CBAM, with these defaults."""
    texts = {
        "--reduction-ratio": f"r of channel attention (default: {ratios})",
        "--kernel-size": "kernel size of spatial attention, odd (default: "
        f"{sizes})",
    }
    add_options(group, texts, **POSITIVE, **several)


def add_run(parser, output):
    """Adds how a run is started, and where its files are."""
    text = "folds of a cross-validation: each image is tested once"
    parser.add_argument("--folds", **POSITIVE, help=text)
    text = f"output folder (default: {output})"
    parser.add_argument("--output", metavar="DIR", help=text)
    flags = {
        "--dry-run": "only print what would be trained: networks, epochs, "
        "parameters, multiply-accumulates",
        "--overwrite": "rename the run in the output folder to DIR.old-1 and "
        "start over; otherwise the run is resumed",
        "--no-report": "do not write the HTML report",
        "--json": "print the result as JSON, and progress to stderr",
    }
    add_options(parser, flags, action="store_true")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        **POSITIVE,
        help="number of networks to train in parallel on this machine, each on "
        "its own GPU or share of the cores (default: 2 for tiny, otherwise 1)",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler: its address, such as "
        "tcp://host:8786, or scheduler file; all must see the output folder",
    )


def add_data(parser, default="crowded_mnist"):
    """Adds the images that a run trains on, and their masks."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=dataset,
        default=default,
        metavar="NAME|FOLDER|FILE",
        help="mnist5k, cluttered_mnist or crowded_mnist (included), a dataset "
        "of TensorFlow Datasets such as cifar10, a folder with one subfolder "
        "of images per class, a CSV file of paths and classes, or a .npz file "
        "with arrays x_train and y_train: images, 1-D signals, 3-D volumes or "
        "feature vectors (default: %(default)s)",
    )
    group.add_argument(
        "--pattern",
        help="layout of the folder, such as {class}/* (default, and "
        "{split}/{class}/*), {class}/{group}/* if subfolders are patients that "
        "stay in one split, or {class}/{group}_*.jpg; {} or * matches text "
        "within a path component, ** any folders; {class}/*.npy reads arrays",
    )
    group.add_argument(
        "--kind",
        choices=KINDS,
        help="how to read 3-D arrays (N, A, B): grayscale images, or signals "
        "of length A with B channels; required unless uint8 or A == B",
    )
    group.add_argument(
        "--task",
        choices=TASKS,
        help="regression: the labels of a .npz file are continuous targets "
        "(default: classification)",
    )
    text = "download and prepare the dataset if necessary"
    group.add_argument("--download", action="store_true", help=text)
    group.add_argument(
        "--image-size",
        **POSITIVE,
        help="resize images to N x N pixels (default: no resizing if all have "
        "one size, otherwise 224)",
    )
    group.add_argument(
        "--augment",
        choices=AUGMENTATIONS,
        **SEVERAL,
        metavar="NAME",
        help=f"augmentation of training images: {', '.join(AUGMENTATIONS)}",
    )
    folders = {
        "--data-dir": "folder of TensorFlow Datasets (default: "
        "~/tensorflow_datasets)",
        "--image-folder": "folder that paths in the CSV file are relative to",
    }
    add_options(group, folders, metavar="DIR")
    of_table = "CSV column with"
    columns = {
        "--image-column": f"{of_table} paths",
        "--label-column": f"{of_table} classes",
        "--split-column": f"{of_table} train, validation or test",
        "--group-column": f"{of_table} patients, each kept in one split",
        "--fold-column": f"{of_table} predefined folds, each tested once",
    }
    add_options(group, columns, metavar="NAME")
    group = parser.add_argument_group("masks")
    masks = {
        "--masks": "folder of masks with the names of the images in --data, or "
        "their pattern below --data, such as masks/{name}_mask.png, or the CSV "
        "column with their paths; trains a U-Net",
        "--images": "pattern of images below --data, such as images/{name}.jpg",
    }
    add_options(group, masks)
    text = "classes of the masks, in the order of their values"
    group.add_argument("--class-names", **SEVERAL, metavar="NAME", help=text)
    group.add_argument(
        "--colors",
        type=existing,
        metavar="FILE",
        help="text file with one line per class, such as road:128,64,128 "
        "(labelmap.txt of CVAT)",
    )
    group.add_argument(
        "--ignore-index",
        **WHOLE,
        help="value of pixels without a class, or its line in --colors, from 0 "
        "(default: all pixels have a class)",
    )


def add_training(parser, *, has_threshold=False):
    """Adds how networks are trained."""
    group = parser.add_argument_group("training", DEFAULTS)
    text = "named settings in place of these defaults"
    group.add_argument("--recipe", choices=RECIPES, help=text)
    texts = {
        "--epochs": "number of epochs",
        "--batch-size": "examples per step",
        "--patience": "stop after N epochs without validation improvement",
    }
    add_options(group, texts, **POSITIVE)
    group.add_argument(
        "--frozen-epochs",
        **WHOLE,
        help="epochs before these that train only attention and the classifier",
    )
    group.add_argument(
        "--frozen",
        action="store_true",
        default=None,
        help="train only attention and the classifier in all epochs; without "
        "--augment, frozen layers run once per image",
    )
    group.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        default=None,
        help="rerun frozen layers in each epoch",
    )
    group.add_argument(
        "--unfreeze",
        type=_layers,
        metavar="LAYERS",
        help="layers to train after the frozen epochs: their number from the "
        "end, such as 30, their fraction, such as 0.4, or the name or pattern "
        "of the first one (default: all)",
    )
    group.add_argument(
        "--class-weight",
        choices=("balanced", "sqrt"),
        help="balanced: equal total weight of all classes in the loss; sqrt: "
        "square roots of these weights",
    )
    group.add_argument(
        "--measure",
        choices=(*MEASURES, *NUMBERS, *SCORES),
        help="metric to compare on the test set: for classification accuracy "
        "(default) and others, for regression mae (default), rmse or r2, for "
        "masks miou (default) or, with two classes, iou or dice",
    )
    if has_threshold:
        group.add_argument(
            "--threshold",
            metavar="RULE",
            help="decision threshold for two classes, chosen on the "
            "validation set: youden, or a minimum sensitivity such as "
            "sensitivity=0.95 (default: 0.5)",
        )
    group.add_argument(
        "--learning-rate",
        type=float,
        nargs="+",
        metavar="NUMBER",
        help="peak learning rate; train takes several, and each run keeps the "
        "one with the best validation score",
    )


def _layers(text):
    """Returns a whole number, a part, or else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
