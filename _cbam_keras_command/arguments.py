"""The options of the subcommands, group by group.

Each function adds options to a parser, or to a group of one. Names that options
take are in `options`.
"""

import argparse
from collections.abc import Iterable
from typing import Any

from _cbam_keras_command.options import (
    ALL_MEASURES,
    ATTENTION,
    AUGMENTATIONS,
    CLASS_WEIGHTS,
    FIGURES,
    KINDS,
    MEASURES_OF_PREDICTIONS,
    NETWORKS,
    RECIPES,
    TASKS,
    TASKS_OF_PREDICTIONS,
    WEIGHTS,
    dataset,
    existing,
    gate,
    layers,
    network,
    positive,
    whole,
)

# Options of numbers, as the help shows them.
POSITIVE: dict[str, Any] = {"type": positive, "metavar": "N"}
WHOLE: dict[str, Any] = {"type": whole, "metavar": "N"}
# One or several values, also of an option that is repeated.
SEVERAL: dict[str, Any] = {"action": "extend", "nargs": "+"}
# A group of a parser has the same `add_argument`.
Group = argparse.ArgumentParser


def add_network(parser: Group) -> None:
    """Adds the network, and what its weights start from."""
    parser.add_argument(
        "--model",
        type=network,
        default="tiny",
        metavar="NAME",
        help=f"network: {_listed(NETWORKS)}, EfficientNetLite0, a network "
        "of keras.applications, or MODULE:FUNCTION, your own "
        "function that takes `attention` and returns a keras.Model; "
        "with masks a U-Net on one of these, such as unet-resnet18 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="start from ImageNet weights, for EfficientNetLite0 (from a "
        "package) and networks of keras.applications (downloaded)",
    )


def add_attention(parser: Group, default: str) -> None:
    """Adds the attention types that are compared, by default `default`."""
    parser.add_argument(
        "--attention",
        **SEVERAL,
        type=gate,
        metavar="NAME",
        help=f"attention types to compare: {_listed(ATTENTION)}, or "
        "MODULE:CLASS, your own layer; with masks also skip-gate, "
        "skip-cbam etc., on the skip connections of a U-Net; train "
        "also takes the controls wider and hidden, without "
        "attention but with at least as many parameters (default: "
        f"{default})",
    )
    parser.add_argument(
        "--stages",
        **SEVERAL,
        metavar="STAGES",
        help='stages that get attention: all, first, last, "last 2", '
        "numbers from 1 such as 1,3, or top (after the last feature "
        "map); each: compare all, each stage alone, the last two, "
        "the last three, ..., and top (default: all)",
    )


def add_comparison(parser: Group) -> None:
    """Adds what is compared, and how often."""
    parser.add_argument(
        "--instead-of",
        metavar="KIND",
        help="replace attention modules of the network, such as se in "
        "EfficientNetB0, and compare with the unchanged network",
    )
    parser.add_argument(
        "--seeds",
        **POSITIVE,
        help="number of seeds (0, 1, 2, ...); several give means, "
        "standard deviations and confidence intervals (default: 5, "
        "or 1 with --folds)",
    )


def add_search(parser: Group) -> None:
    """Adds how much is searched, and how the result is confirmed."""
    parser.add_argument(
        "--max-trials",
        **POSITIVE,
        default=14,
        help="number of trials, in a random order (default: %(default)s)",
    )
    parser.add_argument(
        "--confirm",
        "--seeds",
        **WHOLE,
        default=6,
        help="number of new seeds with which the best setting and the network "
        "without attention are retrained; 0: no retraining (default: "
        "%(default)s)",
    )


def add_run(parser: Group, output: str) -> None:
    """Adds how a run is started, and where its files are."""
    parser.add_argument(
        "--folds",
        **POSITIVE,
        help="number of cross-validation folds: each image is tested once",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help=f"output folder (default: {output}, followed by what differs "
        "from the defaults)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only print what would be trained: networks, epochs, "
        "parameters, multiply-accumulates",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="rename the run in the output folder to DIR.old-1 and start "
        "over; otherwise the run is resumed",
    )
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="do not write the HTML report",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON, and progress to stderr",
    )


def add_workers(parser: Group) -> None:
    """Adds which processes train, of this machine or of a cluster."""
    parser.add_argument(
        "--workers",
        **POSITIVE,
        help="number of networks to train in parallel on this machine, "
        "each on its own GPU or share of the cores (default: 2 for "
        "tiny, otherwise 1)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler: its address, "
        "such as tcp://host:8786, or its scheduler file; all must "
        "share the output folder",
    )


def add_layers(
    parser: Group, ratios: str, sizes: str, *, are_several: bool = False
) -> None:
    """Adds the options of CBAM.

    Args:
        parser: Parser, or group of one.
        ratios: What the help says of the default reduction ratio.
        sizes: What the help says of the default kernel size.
        are_several: Whether each takes several values to choose from.
    """
    several = SEVERAL if are_several else {}
    parser.add_argument(
        "--reduction-ratio",
        **POSITIVE,
        **several,
        help=f"reduction ratio of channel attention (default: {ratios})",
    )
    parser.add_argument(
        "--kernel-size",
        **POSITIVE,
        **several,
        help=f"kernel size of spatial attention, odd (default: {sizes})",
    )


def add_data(parser: Group, default: str) -> None:
    """Adds the data that a run trains on."""
    parser.add_argument(
        "--data",
        type=dataset,
        default=default,
        metavar="NAME|FOLDER|FILE",
        help="mnist5k, cluttered_mnist or crowded_mnist (included), a "
        "dataset of TensorFlow Datasets such as cifar10, a folder "
        "with one subfolder of images per class, a CSV file of "
        "paths and classes, or a .npz file with arrays x_train and "
        "y_train: images, 1-D signals, 3-D volumes or feature "
        "vectors (default: %(default)s)",
    )
    parser.add_argument(
        "--pattern",
        help="layout of the folder, such as {class}/{group}/* if "
        "subfolders are patients that stay in one split, "
        "{class}/{group}_*.jpg, or {class}/*.npy for arrays ({} or "
        "* matches text within a path component, ** any folders); "
        "default: {class}/* or {split}/{class}/*",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="kind of examples, if their shape leaves it open: (N, A, B) "
        "may be gray images, or signals of length A; (N, A, B, C) "
        "volumes, or images",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="regression: the labels of a .npz file are continuous "
        "targets (default: classification)",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="download and prepare the dataset if necessary",
    )
    parser.add_argument(
        "--image-size",
        **POSITIVE,
        help="resize images to N x N pixels (default: no resizing if all "
        "have one size, otherwise 224)",
    )
    parser.add_argument(
        "--augment",
        **SEVERAL,
        choices=AUGMENTATIONS,
        metavar="NAME",
        help=f"augmentation of training images: {_listed(AUGMENTATIONS)}",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of TensorFlow Datasets (default: ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--image-folder",
        metavar="DIR",
        help="folder that paths in the CSV file are relative to",
    )
    parser.add_argument(
        "--image-column",
        metavar="NAME",
        help="CSV column with paths",
    )
    parser.add_argument(
        "--label-column",
        metavar="NAME",
        help="CSV column with classes",
    )
    parser.add_argument(
        "--split-column",
        metavar="NAME",
        help="CSV column with train, validation or test",
    )
    parser.add_argument(
        "--group-column",
        metavar="NAME",
        help="CSV column with patients, each kept in one split",
    )
    parser.add_argument(
        "--fold-column",
        metavar="NAME",
        help="CSV column with predefined folds, each tested once",
    )


def add_masks(parser: Group) -> None:
    """Adds the masks of a segmentation."""
    parser.add_argument(
        "--masks",
        help="folder of masks that have the names of the images in "
        "--data, or pattern of the masks below --data, such as "
        "masks/{name}_mask.png, or CSV column with paths of masks; "
        "trains a U-Net",
    )
    parser.add_argument(
        "--images",
        help="pattern of images below --data, such as images/{name}.jpg",
    )
    parser.add_argument(
        "--class-names",
        **SEVERAL,
        metavar="NAME",
        help="classes of the masks, in the order of their values",
    )
    parser.add_argument(
        "--colors",
        type=existing,
        metavar="FILE",
        help="text file with one line per class, such as road:128,64,128 "
        "(labelmap.txt of CVAT)",
    )
    parser.add_argument(
        "--ignore-index",
        **WHOLE,
        help="value of unlabeled pixels, or with --colors the line "
        "number of their color, from 0 (default: all pixels have a "
        "class)",
    )


def add_training(parser: Group) -> None:
    """Adds how networks are trained."""
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help="named training settings, instead of these defaults",
    )
    parser.add_argument(
        "--epochs",
        **POSITIVE,
        help="number of epochs",
    )
    parser.add_argument(
        "--batch-size",
        **POSITIVE,
        help="examples per step",
    )
    parser.add_argument(
        "--patience",
        **POSITIVE,
        help="stop after N epochs without validation improvement",
    )
    parser.add_argument(
        "--frozen-epochs",
        **WHOLE,
        help="initial epochs that train only attention and the classifier",
    )
    parser.add_argument(
        "--frozen",
        action="store_true",
        default=None,
        help="train only attention and the classifier in all epochs; "
        "without --augment, frozen layers run once per image",
    )
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        default=None,
        help="rerun frozen layers in each epoch",
    )
    parser.add_argument(
        "--unfreeze",
        type=layers,
        metavar="LAYERS",
        help="layers to train after the frozen epochs: their number from "
        "the end, such as 30, their fraction, such as 0.4, or the "
        "name or pattern of the first one (default: all)",
    )
    parser.add_argument(
        "--class-weight",
        choices=CLASS_WEIGHTS,
        help="balanced: equal total weight of all classes in the loss; "
        "sqrt: square roots of these weights",
    )
    parser.add_argument(
        "--measure",
        choices=ALL_MEASURES,
        help="metric to compare on the test set; classification: "
        "accuracy (default) and others; regression: mae (default), "
        "rmse or r2; masks: miou (default) or, with two classes, "
        "iou or dice",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        nargs="+",
        metavar="NUMBER",
        help="peak learning rate; train takes several, and each run "
        "keeps the one with the best validation score",
    )


def add_threshold(parser: Group) -> None:
    """Adds the decision threshold of two classes."""
    parser.add_argument(
        "--threshold",
        metavar="RULE",
        help="decision threshold for two classes, chosen on the "
        "validation set: youden, or a minimum sensitivity such as "
        "sensitivity=0.95 (default: 0.5)",
    )


def add_report(parser: Group) -> None:
    """Adds the run that is reported."""
    parser.add_argument(
        "run",
        type=existing,
        metavar="RUN",
        help="output folder of a run; or folder of test predictions: "
        "NETWORK_sSEED.npz (also _seed, _run, _fold) with arrays probs, "
        "(N, classes) or (N,), labels, (N,), and optionally image and "
        "group, or NETWORK_sSEED.csv with columns label, one per class, "
        "image and group; or one .npz file with labels and, under the "
        "name of each network, probabilities (seeds, N, classes)",
    )
    parser.add_argument(
        "--figures",
        choices=FIGURES,
        help="also write the figures as PDF",
    )


def add_predictions(parser: Group) -> None:
    """Adds how predictions of any framework are read."""
    parser.add_argument(
        "--output",
        help="output folder (default: runs/report-NAME)",
    )
    parser.add_argument(
        "--pattern",
        help="pattern of file names, with {network}, {seed} and {fold}",
    )
    parser.add_argument(
        "--task",
        choices=TASKS_OF_PREDICTIONS,
        help="what the labels are; scores are numbers without labels, such as "
        "an IoU (default: by the values, see the guide on predictions)",
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="the classes, in the order of the numbers in labels",
    )
    parser.add_argument(
        "--baseline",
        help="network that the others are compared with (default: none, "
        "baseline, plain or control if present, otherwise the "
        "first)",
    )
    parser.add_argument(
        "--measure",
        choices=MEASURES_OF_PREDICTIONS,
        help="metric to compare (default: accuracy, or mae)",
    )
    parser.add_argument(
        "--logits",
        action="store_true",
        help="the predictions are logits",
    )
    parser.add_argument(
        "--multi-label",
        action="store_true",
        help="examples may have several classes: labels are 0 or 1 for each",
    )


def add_check(parser: Group) -> None:
    """Adds what is checked."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="source: .py, .ipynb, a folder, or MODULE:FUNCTION that "
        "builds a network; or a model: .keras or .h5",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="MODULE:CLASS",
        help="your own layers, which Keras needs to load the model",
    )
    parser.add_argument(
        "--format",
        choices=["table", "json", "github"],
        default="table",
        help="print a table, JSON, or annotations that GitHub shows beside "
        "the lines (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="same as --format json: each module with its file and line",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
