"""The command `cbam-keras detect`."""

from cbam_keras import detection
from cbam_keras.cli import arguments
from cbam_keras.cli.runs import run


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Trains KerasHub's RetinaNet on a backbone without attention, "
        "with SE and with CBAM under equal conditions, and ends with a "
        "table of mean average precision as COCO measures it. The same "
        "command given again resumes.",
        "detect",
        "detect --attention none cbam --seeds 3",
        "detect --data photos --image-size 320 --backbone resnet50 "
        "--augment flip zoom",
        "detect --data voc/2007 --download --backbone resnet18",
    )
    parser.add_argument(
        "--backbone",
        default="small",
        choices=list(detection.BACKBONES),
        help="the network below the detector",
    )
    arguments.add_run(parser, "runs/detect-DATA-BACKBONE", seeds=1)
    arguments.add_attention(parser, "16")
    add = parser.add_argument_group("data").add_argument
    add(
        "--data",
        default="digit_scenes",
        metavar="NAME",
        help=f"{' or '.join(detection.EMBEDDED)} (embedded), a folder with "
        "COCO's annotations, or a dataset of TensorFlow Datasets with boxes, "
        "such as voc/2007",
    )
    size = "resize images to a square of that side (default: as they are, or "
    arguments.add_images(
        add, f"{size}320 where they differ)", detection.AUGMENTATIONS
    )
    arguments.add_recipe(
        parser,
        lambda model: detection.DEFAULT_RECIPE,
        without=["recipe", "seed"],
    )
    parser.set_defaults(handler=_detect, prog=parser.prog)


def _detect(options):
    run(
        options,
        detection.estimate,
        detection.compare,
        detection.DEFAULT_RECIPE,
        attentions=arguments.attentions_of(options),
        backbone=options.backbone,
        layer_options=arguments.given(options, arguments.LAYER_OPTIONS),
    )
