"""The command `cbam-keras detect`."""

from cbam_keras import detection
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    add_augment,
    add_compared,
    add_image_size,
    add_recipe,
    add_run_folder,
    add_tfds,
    compared_of,
    data_options_of,
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
    parser.add_argument(
        "--backbone",
        default="small",
        choices=list(detection.BACKBONES),
        help="the network below the detector",
    )
    add_compared(parser)
    add_run_folder(parser, "runs/detect-DATA-BACKBONE")
    _add_data(parser)
    add_recipe(parser, lambda _: detection.DEFAULT_RECIPE, named=False)
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
    add_tfds(add)
    add_image_size(
        add,
        "resize images to a square of that side (default: as they are, or "
        "320 where they differ)",
    )
    add_augment(add, detection.AUGMENTATIONS)


def _detect(options):
    attentions = compared_of(options)
    arguments = {
        "backbone": options.backbone,
        "images": options.data,
        "recipe": recipe_of(options, detection.DEFAULT_RECIPE),
        "data_options": data_options_of(options),
        "seeds": options.seeds,
    }
    if options.dry_run:
        with progress_of(options):
            estimate = detection.estimate(attentions, **arguments)
        print(estimate)
        return
    with progress_of(options), reported(options):
        results = detection.compare(
            attentions, **arguments, **run_folder_of(options)
        )
    print(results.json() if options.json else results)
