"""The command `cbam-keras explain`: what networks look at."""

import dataclasses
import pathlib

from cbam_keras import _explanations, explain
from cbam_keras.cli.arguments import (
    add_data,
    add_import,
    add_output,
    data_options_of,
    import_modules,
    imported,
    progress_of,
)
from cbam_keras.cli.reports import command_of, write_report
from cbam_keras.data import SPLITS

DEFAULT_COUNT = 8
FILES = """\
Files in the output folder, or in explain/ if it is the folder of a run;
existing ones are replaced:

  report.html          all of this as a page
  grad_cam.png         the drawn images, and for each model its heat map with
                       the probability of the explained class
  attention-MODEL.png  the attention maps of a model, on up to 4 images
  explain.json         for all images, the true class, and for each model the
                       explained and the predicted class, their probabilities
                       and, if the data have boxes, whether the maximum of the
                       heat is in the box (hit) and the fraction of the heat
                       in it (energy)
  arrays.npz           the D drawn images:
                         images (D, H, W, C) uint8, names (D,), labels (D,)
                         (-1 where unknown), boxes (D, 4)
                       and for each model, MODEL/...:
                         heat_maps (D, H, W), probabilities (D, classes),
                         explained, probability, predicted,
                         predicted_probability, hit, energy (D,)
                         attention/LAYER/channel (D, C)
                         attention/LAYER/spatial (D, h, w)

Images are cropped at the center and resized as in evaluation, to the shape
that the first model takes. All models see the same crop, each in its own size.
"""


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Draws where networks look, side by side: Grad-CAM as in "
        "the figure of the paper, and the attention maps of each layer.",
        "explain runs/train-crowded_mnist-tiny",
        "explain baseline.keras cbam.keras photos/ --class cat",
        "explain cbam.keras --data cluttered_mnist --count all",
        "explain cbam.keras it.jpg --layer stage3_block2_out",
    )
    parser.epilog += f"\n{FILES}"
    parser.anywhere = "paths"
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="MODEL|RUN|IMAGE|FOLDER",
        help="models (.keras, .h5) or output folders of train and tune, whose "
        "models and data are taken; and images (BMP, GIF, JPEG, PNG, "
        "WebP) or folders of images with their subfolders; a folder named "
        "after a class gives the true class of its images",
    )
    add_output(parser, "runs/explain-NAME, with the first name")
    _add_explanation(parser)
    _add_model(parser)
    group = add_data(parser, None, training=False)
    _add_choice(group.add_argument)
    parser.set_defaults(handler=_explain, prog=parser.prog)


def _add_explanation(parser):
    add = parser.add_argument_group("explanation").add_argument
    add(
        "--class",
        dest="wanted",
        metavar="NAME|INDEX",
        help="the class to explain (default: the true one, as in the paper; "
        "if it is not known, the one that each model predicts)",
    )
    add(
        "--method",
        default="grad_cam",
        choices=list(explain.METHODS),
        help="how heat maps are computed",
    )
    add(
        "--layer",
        metavar="NAME",
        help="the layer whose output is explained, e.g. stage3_block2_out, or "
        "backbone/conv5 in a nested model (default: the last feature map)",
    )
    add(
        "--class-names",
        metavar="FILE",
        help="a text file with a name per line, in the order of the models' "
        "classes; the true classes of images are found by name (default: the "
        "names in the results.json beside a model; without it the models are "
        "assumed to have the order of the data, for folders the alphabetical "
        "one)",
    )
    add(
        "--draw",
        type=int,
        metavar="N",
        default=DEFAULT_COUNT,
        help="how many images are drawn and kept as arrays; the others count "
        "only in the means",
    )


def _add_model(parser):
    add = parser.add_argument_group("models").add_argument
    add(
        "--preprocess",
        metavar="MODULE:FUNCTION",
        help="function applied to images (B, H, W, C) in [0, 255] before a "
        "model gets them, e.g. keras.applications.resnet50:preprocess_input "
        "(default: none, as for networks of cbam-keras train)",
    )
    add(
        "--head",
        metavar="NAME|INDEX",
        help="the output to explain, for models with several",
    )
    add_import(add)
    add(
        "--batch-size",
        type=int,
        default=32,
        help="images per batch",
    )


def _add_choice(add):
    add(
        "--split",
        default="test",
        choices=SPLITS,
        help="the split of the data",
    )
    add(
        "--count",
        default=str(DEFAULT_COUNT),
        metavar="N|all",
        help="how many images of the data, or of each folder, are chosen at "
        "random, equally many of each class; files given by name are all "
        "explained",
    )
    add(
        "--seed",
        type=int,
        help="seed of that choice, and of the validation split (default: "
        "that of the run, or 0)",
    )


def _explain(options):
    import_modules(options)
    given = vars(options) | {
        "count": _count(options.count),
        "head": _number_or_name(options.head),
    }
    names = {field.name for field in dataclasses.fields(_explanations.Settings)}
    settings = _explanations.Settings(
        **{x: given[x] for x in names if x in given}
    )
    with progress_of(options):
        explanation, folder = _explanations.explain_files(
            [pathlib.Path(path).expanduser() for path in options.paths],
            settings,
            output=given.get("output"),
            data_options=data_options_of(options),
            class_names=_lines(options.class_names),
            preprocess=_function(options.preprocess),
            described={"preprocess": options.preprocess},
            command=command_of(options),
        )
        if not options.no_report:
            write_report(folder)
    print(explanation)
    print(f"\nFiles in {folder}")


def _lines(file):
    """Returns the lines of a file, or `None` if none is given."""
    if file is None:
        return None
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            "`class_names` must be a text file with a name per line. "
            f'Received: class_names="{file}" ({error})'
        ) from error
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _function(name):
    if name is None:
        return None
    function = imported("preprocess", name)
    if not callable(function):
        raise ValueError(
            "`preprocess` must be MODULE:FUNCTION. Received: "
            f"preprocess={name!r}, which is of type {type(function).__name__}"
        )
    return function


def _count(text):
    """Returns the number of images, or `None` for all."""
    if text == "all" or text.isdecimal():
        return None if text == "all" else int(text)
    raise ValueError(
        f"`count` must be a positive integer, or all. Received: count={text!r}"
    )


def _number_or_name(head):
    return int(head) if head and head.isdecimal() else head
