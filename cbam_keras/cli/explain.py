"""The command `cbam-keras explain`: what networks look at."""

import argparse
import pathlib

from cbam_keras import _checks, explain
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    add_data,
    add_import,
    add_output,
    add_quiet,
    data_options_of,
    import_modules,
    imported,
    progress_of,
)
from cbam_keras.cli.reports import command_of, write_report
from cbam_keras.data import SPLITS

DEFAULT_COUNT = 8
FILES = """\
Files in the output folder; existing ones are replaced:

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


def add_explain(commands):
    """Adds the command to the subcommands of the parser."""
    parser = commands.add_parser(
        "explain",
        help=COMMANDS["explain"],
        description="Draws where networks look, side by side: Grad-CAM as in "
        "the figure of the paper, and the attention maps of each layer.",
        epilog=examples(
            "explain runs/train-crowded_mnist-tiny",
            "explain baseline.keras cbam.keras photos/ --class cat",
            "explain cbam.keras --data cluttered_mnist --count all",
            "explain cbam.keras it.jpg --layer stage3_block2_out",
        )
        + f"\n{FILES}",
        formatter_class=HelpFormatter,
    )
    parser.anywhere = "paths"
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="MODEL|RUN|IMAGE|FOLDER",
        help="models (.keras, .h5) or output folders of train and tune, whose "
        "models and embedded data are taken; and images (BMP, GIF, JPEG, PNG, "
        "WebP) or folders of images with their subfolders; a folder named "
        "after a class gives the true class of its images",
    )
    add_quiet(parser)
    add_output(parser, "runs/explain-NAME, with the first name")
    _add_explanation(parser)
    _add_model(parser)
    group = add_data(parser, None, training=False)
    _add_choice(group.add_argument)
    parser.set_defaults(handler=_explain, prog=parser.prog, resumed_by="")


def _add_explanation(parser):
    add = parser.add_argument_group("explanation").add_argument
    add(
        "--class",
        dest="wanted",
        metavar="NAME|INDEX",
        default=argparse.SUPPRESS,
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
        default=argparse.SUPPRESS,
        help="the layer whose output is explained, e.g. stage3_block2_out, or "
        "backbone/conv5 in a nested model (default: the last feature map)",
    )
    add(
        "--class-names",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="a text file with a name per line, in the order of the classes "
        "(default: the names in the data, in the results.json beside a model, "
        "or the folders of images if there is one per class)",
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
        default=argparse.SUPPRESS,
        help="function applied to images (B, H, W, C) in [0, 255] before a "
        "model gets them, e.g. keras.applications.resnet50:preprocess_input "
        "(default: none, as for networks of cbam-keras train)",
    )
    add(
        "--head",
        metavar="NAME|INDEX",
        default=argparse.SUPPRESS,
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
        default=0,
        help="seed of that choice, and of the validation split",
    )


def _explain(options):
    given = vars(options)
    paths = [pathlib.Path(path).expanduser() for path in options.paths]
    _check_exist(paths)
    runs = _runs_among(paths)
    models, images = _split_paths(paths, runs)
    if not images and "data" not in given:
        options.data = _data_of(runs)
    elif images and "data" in given:
        raise ValueError(
            "Images come from --data or from files, not both. Received: "
            f"--data and {_checks.first_few(images)}"
        )
    count = _count(options.count)
    seed = _checks.seed("seed", options.seed)
    names = _class_names(given.get("class_names"))
    preprocess = _preprocess(given.get("preprocess"))
    import_modules(options)
    first = next(path for path in paths if path in (*runs, *models))
    default = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = given.get("output", default)
    with progress_of(options):
        chosen = _choose(options, images, count, seed)
        results = explain.explain_files(
            models,
            chosen,
            _settings(options),
            output=pathlib.Path(output),
            class_names=names,
            preprocess=preprocess,
            described={
                "preprocess": given.get("preprocess"),
                "data": given.get("data"),
                "split": options.split if "data" in given else None,
                "count": len(chosen),
                "seed": seed,
            },
            command=command_of(options),
        )
        if not options.no_report:
            write_report(output)
    print(results)
    print(f"\nFiles in {output}")


def _choose(options, images, count, seed):
    """Returns the images to explain."""
    if "data" not in options:
        return explain.from_paths(images, count, seed)
    return explain.from_data(
        options.data, options.split, count, seed, data_options_of(options)
    )


def _settings(options):
    given = vars(options)
    return explain.Settings(
        batch_size=options.batch_size,
        draw=options.draw,
        method=options.method,
        head=_number_or_name(given.get("head")),
        **{
            key: given[key]
            for key in ("wanted", "layer", "image_size")
            if key in given
        },
    )


def _check_exist(paths):
    for path in paths:
        if not path.exists():
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )


def _runs_among(paths):
    """Returns what the folders of runs among the paths hold, by path."""
    found = {
        path: explain.files_of_run(path) for path in paths if path.is_dir()
    }
    return {path: run for path, run in found.items() if run is not None}


def _split_paths(paths, runs):
    """Returns the models and the images among the paths."""
    models, images = [], []
    for path in paths:
        if path in runs:
            models += runs[path].models
        elif path.suffix.lower() in explain.ENDINGS:
            models.append(path)
        else:
            images.append(path)
    if not models:
        raise ValueError(
            "There must be at least one model, a file that ends in .keras or "
            ".h5, or the output folder of a run. Received: "
            f"{_checks.first_few(images) or 'none'}"
        )
    return models, images


def _data_of(runs):
    """Returns the name of the dataset that runs were trained on."""
    names = {run.data for run in runs.values()}
    if len(names) != 1 or None in names:
        raise ValueError(
            "There must be images to explain: files, a folder, or --data "
            "NAME, e.g. --data cluttered_mnist. Received: none"
        )
    return names.pop()


def _count(text):
    """Returns the number of images, or `None` for all."""
    if text == "all":
        return None
    try:
        return _checks.positive_integer("count", int(text))
    except ValueError:
        raise ValueError(
            "`count` must be a positive integer, or all. Received: "
            f"count={text!r}"
        ) from None


def _class_names(file):
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


def _preprocess(name):
    if name is None:
        return None
    function = imported("preprocess", name)
    if not callable(function):
        raise ValueError(
            "`preprocess` must be MODULE:FUNCTION. Received: "
            f"preprocess={name!r}, which is of type {type(function).__name__}"
        )
    return function


def _number_or_name(head):
    try:
        return int(head)
    except (TypeError, ValueError):
        return head
