"""The command `cbam-keras explain`: what networks look at, in pictures."""

import argparse
import pathlib

from cbam_keras import _checks, explain, explain_report
from cbam_keras.cli.arguments import (
    add_data,
    add_output,
    data_options_of,
    import_module,
    imported,
)
from cbam_keras.data import SPLITS

COUNT = 8
FILES = """\
Files in the output folder, each replaced when it is there already:

  grad_cam.png         the images drawn, and for each model its heat map with
                       the probability of the class that is explained
  attention-MODEL.png  the gates of a model with attention, on up to 4 images
  explain.json         all images: true class; of each model the explained and
                       the predicted class, their probabilities and, where the
                       data have boxes, whether the maximum of the heat lies
                       in the box (hit) and which part of the heat (energy)
  arrays.npz           the images drawn, D of them:
                         images (D, H, W, C) uint8, names (D,), labels (D,)
                         (-1 where unknown), boxes (D, 4)
                       and of each model, MODEL/...:
                         heat_maps (D, H, W), probabilities (D, classes),
                         explained, probability, predicted,
                         predicted_probability, hit, energy (D,)
                         attention/LAYER/channel (D, C)
                         attention/LAYER/spatial (D, h, w)

Images are cut and resized as for evaluation: the middle, in the shape of what
the first model takes. All models see that part, each in its own size.
"""


class _Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawTextHelpFormatter
):
    """Tells defaults, and leaves the list of files as it is."""

    def _get_help_string(self, action):
        if not action.default:
            return action.help
        return super()._get_help_string(action)

    def _split_lines(self, text, width):
        return argparse.HelpFormatter._split_lines(self, text, width)


def add_explain(commands):
    """Adds the command to those of the parser."""
    parser = commands.add_parser(
        "explain",
        help="see what networks look at: Grad-CAM and attention maps",
        description="Draws where networks look, side by side: Grad-CAM as in "
        "the figure of the paper,\nand the attention of each layer.",
        epilog=FILES,
        formatter_class=_Formatter,
    )
    parser.anywhere = "paths"
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="MODEL|IMAGE|FOLDER",
        help="models (.keras, .h5), and images (BMP, GIF, JPEG, PNG, WebP) or "
        "folders of images, those within included; where these are called "
        "as the classes, they tell the true ones",
    )
    add_output(parser, "runs/explain-MODEL, of the first model")
    _add_explanation(parser)
    _add_model(parser)
    group = add_data(parser, None, training=False)
    _add_choice(group.add_argument)
    parser.set_defaults(handler=_explain, prog=parser.prog, goes_on="")


def _add_explanation(parser):
    add = parser.add_argument_group("explanation").add_argument
    add(
        "--class",
        dest="wanted",
        metavar="NAME|INDEX",
        default=argparse.SUPPRESS,
        help="the class to explain (default: the true one, as in the paper; "
        "of images whose class is not known, the one that each model "
        "predicts)",
    )
    add(
        "--method",
        default="grad_cam",
        choices=list(explain.METHODS),
        help="how heat maps are made",
    )
    add(
        "--layer",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="whose output to look at, as stage3_block2_out, or in a model "
        "within backbone/conv5 (default: the last feature map)",
    )
    add(
        "--class-names",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="a name per line, in the order of the classes (default: those "
        "of the data, what training wrote beside a model, or the folders of "
        "images if there is one per class)",
    )
    add(
        "--draw",
        type=int,
        metavar="N",
        default=COUNT,
        help="how many images are drawn and kept as arrays; others count in "
        "the means",
    )


def _add_model(parser):
    add = parser.add_argument_group("models").add_argument
    add(
        "--preprocess",
        metavar="MODULE:FUNCTION",
        default=argparse.SUPPRESS,
        help="what is done to images (B, H, W, C) in [0, 255] before a model "
        "gets them, as keras.applications.resnet50:preprocess_input "
        "(default: nothing, as networks of cbam-keras train take them)",
    )
    add(
        "--head",
        metavar="NAME|INDEX",
        default=argparse.SUPPRESS,
        help="which output to explain, of models with several",
    )
    add(
        "--import",
        dest="modules",
        action="append",
        metavar="MODULE",
        default=[],
        help="a module that registers layers of your own, imported first; "
        "repeat it for several",
    )
    add(
        "--batch-size",
        type=int,
        default=32,
        help="images that are computed at a time",
    )


def _add_choice(add):
    add(
        "--split",
        default="test",
        choices=SPLITS,
        help="which images of the data",
    )
    add(
        "--count",
        default=str(COUNT),
        metavar="N|all",
        help="how many images of the data, or of each folder; as many of each "
        "class, taken at random. Files that are named are taken all",
    )
    add(
        "--seed",
        type=int,
        default=0,
        help="of that choice, and of what is held out for validation",
    )


def _explain(options):
    given = vars(options)
    models, images = _divided(options.paths, "data" in given)
    count = _count(options.count)
    seed = _checks.seed("seed", options.seed)
    names = _class_names(given.get("class_names"))
    preprocess = _preprocess(given.get("preprocess"))
    for module in options.modules:
        _import(module)
    if "data" in given:
        examples = explain_report.from_data(
            options.data,
            options.split,
            count,
            seed,
            data_options_of(options),
        )
    else:
        examples = explain_report.from_paths(images, count, seed)
    settings = explain_report.Settings(
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
    default = pathlib.Path("runs") / f"explain-{models[0].stem}"
    findings = explain_report.explain_files(
        models,
        examples,
        settings,
        output=pathlib.Path(given.get("output", default)),
        class_names=names,
        preprocess=preprocess,
        described={
            "preprocess": given.get("preprocess"),
            "data": given.get("data"),
            "split": options.split if "data" in given else None,
            "count": len(examples),
            "seed": seed,
        },
    )
    print(findings)
    print(f"\nFiles in {given.get('output', default)}")


def _divided(paths, data):
    """Returns the models and the images among the paths."""
    paths = [pathlib.Path(path).expanduser() for path in paths]
    models = [p for p in paths if p.suffix.lower() in explain_report.ENDINGS]
    images = [p for p in paths if p not in models]
    for path in paths:
        if not path.exists():
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )
    if not models:
        raise ValueError(
            "There must be at least one model, a file that ends in .keras or "
            f".h5. Received: {_checks.first_few(images) or 'none'}"
        )
    if data and images:
        raise ValueError(
            "Images are those of --data or of files, not both. Received: "
            f"--data and {_checks.first_few(images)}"
        )
    if not data and not images:
        raise ValueError(
            "There must be images to explain: files, a folder, or --data "
            "NAME, as --data cluttered_mnist. Received: none"
        )
    return models, images


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
    """Returns the lines of a file, or `None` where there is none."""
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


def _import(module):
    try:
        import_module(module)
    except ImportError as error:
        raise ValueError(
            "`import` must be a module that Python finds, here or installed. "
            f"Received: import={module!r} ({error})"
        ) from error


def _number_or_name(head):
    try:
        return int(head)
    except (TypeError, ValueError):
        return head
