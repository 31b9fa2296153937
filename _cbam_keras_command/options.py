"""Options that several subcommands share, with their names and defaults.

A test compares both with the functions that they are for.
"""

import argparse
import contextlib
import os
from collections.abc import Mapping
from typing import Any

NETWORKS = (
    *("tiny", "small", "resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnet152", "wideresnet18", "resnext50", "resnext101", "mobilenet"),
    "mobilenetv2",
)
ATTENTION = (
    *("none", "cbam", "cbam-paper", "se", "channel", "spatial", "eca"),
    *("coordinate", "simam", "bam", "scse", "gc", "triplet", "all"),
)
# Networks without attention, with as many parameters as the largest with it.
CONTROLS = ("wider", "hidden")
AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
MEASURES = (
    *("test_accuracy", "balanced_accuracy", "macro_f1", "auc"),
    *("average_precision", "ece", "brier"),
)
# What is predicted but masks, and measures of numbers.
TASKS = ("classification", "regression")
NUMBERS = ("mae", "rmse", "r2")
# Measures of masks.
SCORES = ("miou", "iou", "dice")
# What arrays may hold.
KINDS = ("images", "signals", "volumes", "vectors")
RECIPES = (
    *("default", "imagenet", "small_images", "fine-tuning", "frozen"),
    "segmentation",
)
# Options that say where images are.
LOCATION = (
    *("data_dir", "image_column", "label_column"),
    *("split_column", "group_column", "fold_column", "image_folder"),
)

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
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {listed}")


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
        help=f"the network: {', '.join(NETWORKS)}; or EfficientNetLite0, a "
        "network of keras.applications, or MODULE:FUNCTION, a function of "
        "your own that takes `attention` and returns a keras.Model; with "
        "masks a U-Net on these, as unet-resnet18 (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        choices=("imagenet",),
        help="start from weights for ImageNet, for EfficientNetLite0 (in a "
        "package) and networks of keras.applications (downloaded)",
    )


def add_attention(parser, default):
    parser.add_argument(
        "--attention",
        type=gate,
        **SEVERAL,
        metavar="NAME",
        help=f"what is compared: {', '.join(ATTENTION)}; or MODULE:CLASS, a "
        "layer of your own; with masks also skip-gate, skip-cbam and so on, on "
        "the skips of a U-Net; train also takes wider and hidden, networks "
        "without attention that have as many parameters "
        f"(default: {default})",
    )
    parser.add_argument(
        "--stages",
        **SEVERAL,
        metavar="STAGES",
        help="stages of the network that get attention: all, first, last, "
        '"last 2", numbers from 1 as 1,3, or top, after the last feature map;'
        " each: compare all stages, each stage alone, the last two, three, ... "
        "stages, and top (default: all)",
    )


def add_layers(group, ratios, sizes, **several):
    """Adds the options of CBAM's gates, with these defaults."""
    texts = {
        "--reduction-ratio": f"r of the channel gate (default: {ratios})",
        "--kernel-size": "side of the convolution of the spatial gate, odd "
        f"(default: {sizes})",
    }
    add_options(group, texts, **POSITIVE, **several)


def add_run(parser, output):
    """Adds how a run is started, and where its files are."""
    text = "folds of a cross-validation, which tests each image once"
    parser.add_argument("--folds", **POSITIVE, help=text)
    text = f"the folder for all files (default: {output})"
    parser.add_argument("--output", metavar="DIR", help=text)
    flags = {
        "--dry-run": "only print what would be trained: networks, epochs, "
        "parameters, multiply-accumulates",
        "--overwrite": "rename the run in the output folder to DIR.old-1, and "
        "start again; a run is resumed otherwise",
        "--no-report": "do not write the result as a page, report.html",
        "--json": "print the result as JSON, and the progress on stderr",
    }
    add_options(parser, flags, action="store_true")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        **POSITIVE,
        help="number of networks to train at a time on this machine, each with "
        "its own GPU or its part of the cores (default: 2 of tiny, else 1)",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler, as tcp://host:8786, or "
        "the file that it has written; all must see the output folder",
    )


def add_data(parser, default="crowded_mnist"):
    """Adds the images that a run trains on, and their masks."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=dataset,
        default=default,
        metavar="NAME|FOLDER|FILE",
        help="mnist5k, cluttered_mnist or crowded_mnist (embedded), a dataset "
        "of TensorFlow Datasets such as cifar10, a folder with a folder of "
        "images per class, a CSV file of paths and classes, or a .npz file of "
        "the arrays x_train and y_train: images, signals, volumes or vectors "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--pattern",
        help="what paths below the folder mean, as {class}/* (the default, and "
        "{split}/{class}/*), {class}/{group}/* where subfolders are patients "
        "that stay in one split, or {class}/{group}_*.jpg; {} or * is any "
        "text of a part, ** any folders; {class}/*.npy reads arrays",
    )
    group.add_argument(
        "--kind",
        choices=KINDS,
        help="what arrays of three axes (examples x A x B) are, unless they "
        "are uint8 or A is B: gray images, or signals of length A",
    )
    group.add_argument(
        "--task",
        choices=TASKS,
        help="regression: predict numbers, the labels of a .npz file "
        "(default: classification)",
    )
    text = "download and prepare the dataset if necessary"
    group.add_argument("--download", action="store_true", help=text)
    group.add_argument(
        "--image-size",
        **POSITIVE,
        help="resize images to squares of side N, in pixels (default: as they "
        "are, or 224 where they differ)",
    )
    group.add_argument(
        "--augment",
        choices=AUGMENTATIONS,
        **SEVERAL,
        metavar="NAME",
        help="augmentation of training images, one or several: "
        f"{', '.join(AUGMENTATIONS)}",
    )
    folders = {
        "--data-dir": "the folder of TensorFlow Datasets (default: "
        "~/tensorflow_datasets)",
        "--image-folder": "the folder of the paths in the CSV file",
    }
    add_options(group, folders, metavar="DIR")
    of_table = "the column of the CSV file with"
    columns = {
        "--image-column": f"{of_table} paths",
        "--label-column": f"{of_table} classes",
        "--split-column": f"{of_table} train, validation or test",
        "--group-column": f"{of_table} patients, each kept in one split",
        "--fold-column": f"{of_table} folds of its authors, each tested",
    }
    add_options(group, columns, metavar="NAME")
    group = parser.add_argument_group("masks")
    masks = {
        "--masks": "the folder of the masks of the images in --data, by name, "
        "or their pattern below --data, as masks/{name}_mask.png, or the "
        "column of a CSV file with their paths: trains a U-Net",
        "--images": "the pattern of the images below --data, as "
        "images/{name}.jpg",
    }
    add_options(group, masks)
    text = "the classes of the masks, in the order of their numbers"
    group.add_argument("--class-names", **SEVERAL, metavar="NAME", help=text)
    group.add_argument(
        "--colors",
        type=existing,
        metavar="FILE",
        help="a text file with a line for each class, as road:128,64,128 "
        "(the labelmap.txt of CVAT)",
    )
    group.add_argument(
        "--ignore-index",
        **WHOLE,
        help="the value of pixels without a class, or its line in --colors, "
        "from 0 (default: all pixels have a class)",
    )


def add_training(parser, *, has_threshold=False):
    """Adds how networks are trained."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--recipe",
        choices=RECIPES,
        help="values of the options below that are not set; default: 4 epochs, "
        "batches of 32, rate 0.01. Without --recipe the defaults below apply, "
        "with --weights those of fine-tuning (2 frozen epochs and 4 more), "
        "with --masks those of segmentation",
    )
    texts = {
        "--epochs": "epochs; at least 200 steps on your own images, with "
        "--weights or --masks the recipe's, 3 for cluttered_mnist, 2 for "
        "mnist5k (default: 1)",
        "--batch-size": "images per step (default: 64)",
        "--patience": "number of epochs without progress on the validation "
        "images after which a training ends",
    }
    add_options(group, texts, **POSITIVE)
    group.add_argument(
        "--frozen-epochs",
        **WHOLE,
        help="epochs before these that train only attention and the "
        "classifier; 2 with --weights (default: 0)",
    )
    group.add_argument(
        "--frozen",
        action="store_true",
        default=None,
        help="train only attention and the classifier in all epochs; without "
        "--augment, frozen layers then run once for each image",
    )
    group.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        default=None,
        help="run frozen layers again in each epoch",
    )
    group.add_argument(
        "--unfreeze",
        type=_layers,
        metavar="LAYERS",
        help="layers to train after the frozen epochs: their number from the "
        "end, as 30, their fraction, as 0.4, or the name or pattern of the "
        "first one; all by default",
    )
    group.add_argument(
        "--class-weight",
        choices=("balanced", "sqrt"),
        help="balanced: give all classes the same weight in the loss; sqrt: "
        "the square roots of these weights",
    )
    group.add_argument(
        "--measure",
        choices=(*MEASURES, *NUMBERS, *SCORES),
        help="metric that networks are compared by, on the test images "
        "(default: test_accuracy); of numbers mae, rmse or r2 (default: mae); "
        "with masks miou, or for two classes iou or dice (default: miou)",
    )
    if has_threshold:
        group.add_argument(
            "--threshold",
            metavar="RULE",
            help="for two classes, how to choose the probability from which "
            "the second one counts as predicted, on the validation images: "
            "youden, or a minimum sensitivity as sensitivity=0.95; else 0.5",
        )
    group.add_argument(
        "--learning-rate",
        type=float,
        nargs="+",
        metavar="NUMBER",
        help="the highest learning rate of the schedule; train takes several, "
        "from which each run chooses by its validation images (default: 0.03 "
        "for the network tiny, 0.001 0.003 0.01 0.03 for train --frozen, "
        "otherwise 0.01)",
    )


def _layers(text):
    """Returns a whole number, a part, or else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
