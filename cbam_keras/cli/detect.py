"""The command `cbam-keras detect`."""

import argparse

from cbam_keras import detection
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    ARMS,
    add_quiet,
    add_run_folder,
    progress_of,
    recipe_of,
    run_folder_of,
)
from cbam_keras.cli.reports import reported


def add_detect(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "detect",
        help=COMMANDS["detect"],
        description=(
            "Trains KerasHub's RetinaNet on a backbone without attention, "
            "with SE and with CBAM under equal conditions, and ends with a "
            "table of mean average precision as COCO measures it. The same "
            "command given again resumes."
        ),
        epilog=examples(
            "detect",
            "detect --attention none cbam --seeds 3",
            "detect --data photos --image-size 320 --backbone resnet50 "
            "--augment flip zoom",
            "detect --data voc/2007 --download --backbone resnet18",
        ),
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add(
        "--backbone",
        default="small",
        choices=list(detection.BACKBONES),
        help="the network below the detector",
    )
    add(
        "--attention",
        action="extend",
        nargs="+",
        choices=ARMS,
        help="what to compare (default: none se cbam)",
        default=argparse.SUPPRESS,
    )
    add(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="how many seeds, from 0; several give mean, deviation, and the "
        "interval of each difference",
    )
    add(
        "--json",
        action="store_true",
        help="print the result as JSON, and the progress on stderr",
    )
    add_quiet(parser)
    add_run_folder(parser, "runs/detect-DATA-BACKBONE")
    _add_data(parser)
    _add_recipe(parser)
    parser.set_defaults(handler=_detect, prog=parser.prog)


def _add_data(parser):
    add = parser.add_argument_group("data").add_argument
    add(
        "--data",
        default="digit_scenes",
        metavar="NAME",
        help=f"{' or '.join(detection.EMBEDDED)} (embedded), a folder with "
        "COCO's annotations, or a dataset of TensorFlow Datasets with boxes, "
        "such as voc/2007",
    )
    add(
        "--data-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="the folder of TensorFlow Datasets "
        "(default: ~/tensorflow_datasets)",
    )
    add(
        "--download",
        action="store_true",
        default=argparse.SUPPRESS,
        help="download and prepare the dataset if necessary",
    )
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        default=argparse.SUPPRESS,
        help="resize images to a square of that side (default: as they are, "
        "or 320 where they differ)",
    )
    add(
        "--augment",
        action="extend",
        nargs="+",
        choices=detection.AUGMENTATIONS,
        default=argparse.SUPPRESS,
        help="augmentation of training images, one or several",
    )


def _add_recipe(parser):
    group = parser.add_argument_group("training")
    recipe = detection.DEFAULT_RECIPE
    for option, kind, text in (
        ("epochs", int, "epochs each"),
        ("batch_size", int, "images per step"),
        ("learning_rate", float, "the highest learning rate of the schedule"),
    ):
        group.add_argument(
            f"--{option.replace('_', '-')}",
            type=kind,
            default=argparse.SUPPRESS,
            help=f"{text} (default: {getattr(recipe, option)})",
        )
    group.add_argument(
        "--mixed-precision",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
        default=argparse.SUPPRESS,
        help="compute in half precision (float16 without a value)",
    )


def _detect(options):
    given = vars(options)
    with progress_of(options), reported(options):
        results = detection.compare(
            given.get("attention", ("none", "se", "cbam")),
            backbone=options.backbone,
            images=options.data,
            recipe=recipe_of(options, detection.DEFAULT_RECIPE),
            data_options={
                key: given[key]
                for key in ("data_dir", "download")
                if key in given
            },
            seeds=options.seeds,
            **run_folder_of(options),
        )
    print(results.json() if options.json else results)
