"""Every option of the command: its name, value, default and help.

Needs the standard library alone, since it is read before Keras is imported,
so that help and mistakes take no seconds. A test compares names, defaults and
choices with the functions that they are for.
"""

import argparse
import inspect

NETWORKS = (
    *("tiny", "small", "resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnet152", "wideresnet18", "resnext50", "resnext101", "mobilenet"),
)
# Options that take names, in place of which the help has NAMES.
CHOICES = {
    "algorithm": ("random", "hyperband", "bayesian", "grid"),
    "attention": ("none", "cbam", "se", "channel", "spatial"),
    "augment": (
        *("flip", "crop", "random_resized_crop", "rand_augment"),
        *("mixup", "cutmix"),
    ),
    "backbone": NETWORKS[1:],
    "format": ("saved_model", "onnx", "openvino", "litert", "torch"),
    "method": ("grad_cam", "grad_cam++", "hires_cam"),
    "model": NETWORKS,
    "order": ("channel_first", "spatial_first", "parallel"),
    "recipe": ("default", "imagenet", "small_images"),
    "split": ("train", "validation", "test"),
}
BOX_AUGMENTATIONS = ("flip", "translate", "zoom", "colour")
# Options that take numbers, and others, with what the help shows for values.
INTEGERS = """
    batch_size draw epochs image_size keep kernel_size max_trials process
    processes reduction_ratio seed seeds tables workers
""".split()
NUMBERS = ("learning_rate", "max_macs", "max_parameters")
VALUES = {
    "address": "HOST:PORT",
    "channel_pool_types": "POOLS",
    "class_names": "FILE",
    "count": "N|all",
    "data": "NAME|FOLDER",
    "data_dir": "DIR",
    "head": "NAME|INDEX",
    "hypermodel": "MODULE:FUNCTION",
    "layer": "NAME",
    "manual_dir": "DIR",
    "output": "DIR",
    "preprocess": "MODULE:FUNCTION",
    "spatial_pool_types": "POOLS",
}
AUGMENT = "augmentation of training images, one or several: NAMES"


def _add(group, *, several=False, own=None, names=None, **texts):
    """Adds options: for each name its help.

    Args:
        group: A parser, or a group of one.
        several: Boolean, whether they take several values.
        own: String, what they take besides names, as `"MODULE:CLASS"`.
        names: Sequence of strings, in place of those in `CHOICES`.
        **texts: The help of each option, by its name.
    """
    for name, text in texts.items():
        choices = names or CHOICES.get(name, ())
        value = {"help": text.replace("NAMES", ", ".join(choices))}
        if name in INTEGERS:
            value |= {"type": int, "metavar": "N"}
        elif name in NUMBERS:
            value |= {"type": float, "metavar": "NUMBER"}
        elif name in VALUES:
            value |= {"metavar": VALUES[name]}
        elif own:
            value |= {"type": _name_or(own, choices), "metavar": "NAME"}
        elif choices:
            value |= {"choices": choices, "metavar": "NAME"}
        else:
            value |= {"action": "store_true"}
        if several:
            value |= {"action": "extend", "nargs": "+"}
        group.add_argument(f"--{name.replace('_', '-')}", **value)


def _name_or(own, names):
    def check(text):
        if ":" not in text and text not in names:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r} (choose from {', '.join(names)}, "
                f"or {own})"
            )
        return text

    return check


def add_options(parser, command):
    """Adds the options of a subcommand, and its description and examples."""
    parser.usage = "%(prog)s [options]"
    function = globals()[command]
    function(parser)
    text, _, parser.epilog = inspect.getdoc(function).partition("\n\n")
    parser.description = " ".join(text.split())


# A function for each subcommand; its docstring is what the help says.


def train(parser):
    """Trains a network without attention, with SE and with CBAM under equal
    conditions and ends with a table, a sentence on the differences, and the
    command that draws where the networks look. The same command given again
    resumes. Without arguments: a tiny ResNet on crowded digits, about two
    minutes on a CPU.

    examples:
      cbam-keras train
      cbam-keras train --attention none cbam --seeds 5
      cbam-keras train --attention none cbam my_layers:MyGate
      cbam-keras train --data cifar10 --download --model resnet18 --epochs 20
      cbam-keras train --data photos --image-size 64 --augment flip crop
    """
    _add(parser, model="the network: NAMES")
    _add_run(parser, seeds=1, output="runs/train-DATA-MODEL")
    _add_attention(parser, "4 in the network tiny, otherwise 16")
    _add_data(parser)
    _add_training(parser, 2, "0.03 for the network tiny, otherwise 0.01")
    _add(
        _add_rare(parser),
        distribute="share each batch among all devices of this machine",
        address="of process 0, if several machines train one network (JAX)",
        processes="how many processes there are, one per machine",
        process="which of them this is, from 0",
    )
    parser.set_defaults(model="tiny")


def ablate(parser):
    """Trains the networks of the paper's Tables 1, 2 and 3 and baseline, SE and
    CBAM of Table 4 over several seeds, and ends with those tables: mean,
    deviation, and the paired difference to the baseline. The same command given
    again resumes.

    examples:
      cbam-keras ablate
      cbam-keras ablate --tables 1 2 --seeds 5 --epochs 10
      cbam-keras ablate --data photos --image-size 64 --quiet --csv > table.csv
    """
    _add_model(parser)
    _add(parser, several=True, tables="of the paper (default: 1 2 3 4)")
    form = _add_run(parser, seeds=3, output="runs/ablate-DATA-MODEL")
    _add(form, markdown="print Markdown", csv="print CSV")
    _add_data(parser)
    _add_training(parser, 2, "0.03 for the network tiny, otherwise 0.01")
    _add_identity_init(_add_rare(parser))


def detect(parser):
    """Trains KerasHub's RetinaNet on a backbone without attention, with SE and
    with CBAM under equal conditions, and ends with a table of mean average
    precision as COCO measures it. The same command given again resumes.

    examples:
      cbam-keras detect
      cbam-keras detect --attention none cbam --seeds 3
      cbam-keras detect --data photos --image-size 320 --augment flip
      cbam-keras detect --data voc/2007 --download --backbone resnet18
    """
    _add(parser, backbone="the network below the detector: NAMES")
    _add_run(parser, seeds=1, output="runs/detect-DATA-BACKBONE")
    _add_attention(parser, "16")
    group = parser.add_argument_group("data")
    _add(
        group,
        data="digit_scenes (embedded), a folder with COCO's annotations, or a "
        "dataset of TensorFlow Datasets with boxes, such as voc/2007",
        download="download and prepare the dataset if necessary",
        image_size="resize images to a square of that side, in pixels "
        "(default: as they are, or 320 where they differ)",
    )
    _add(group, several=True, names=BOX_AUGMENTATIONS, augment=AUGMENT)
    group = parser.add_argument_group("training")
    _add(
        group,
        epochs="epochs of each training (default: 12)",
        batch_size="images per step (default: 16)",
        learning_rate="the highest of the schedule (default: 0.002)",
    )
    _add_rare(parser, classifiers=False)
    parser.set_defaults(backbone="small", data="digit_scenes")


def tune(parser):
    """Searches the reduction ratio and kernel size of CBAM, beside no attention
    and SE, and whatever else you give several values, by KerasTuner. Then
    trains the best configurations and both controls again from fresh seeds, and
    ends with whether attention improves accuracy on this dataset. If it is
    killed, the same command resumes it. Without arguments: a tiny ResNet on
    crowded handwritten digits, 26 trainings of one epoch.

    examples:
      cbam-keras tune
      cbam-keras tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7
      cbam-keras tune --data photos --image-size 64 --max-trials 30 --workers 2
      cbam-keras tune --model mine:build --algorithm bayesian --max-macs 1e8
    """
    _add_model(parser)
    _add(
        parser,
        algorithm="how the next trial is chosen: NAMES",
        max_trials="how many trials (default: 14; hyperband and grid end by "
        "themselves)",
        max_parameters="record larger networks as over budget, without "
        "training them",
        max_macs="likewise, in multiply-accumulates of one image, as 1e9",
    )
    parser.add_argument(
        *("--confirm", "--seeds"),
        type=int,
        metavar="N",
        default=3,
        help="how many fresh seeds the best configurations and the controls "
        "are trained with again; 0 for none",
    )
    _add_run(parser, output="runs/tune-DATA-MODEL")
    group = parser.add_argument_group(
        "search space",
        "Each takes one value, which fixes it, or several to choose from.",
    )
    _add(
        group,
        several=True,
        attention="the kind: NAMES (default: none se cbam)",
        reduction_ratio="of the channel gate (default: 2 4 8 16, and 4 for se)",
        kernel_size="of the spatial gate, odd (default: 3 5 7)",
        order="of CBAM's gates: NAMES (default: channel_first)",
        channel_pool_types="of the channel gate (default: avg+max)",
        spatial_pool_types="of the spatial gate (default: avg+max)",
        learning_rate="(default: that of the recipe)",
    )
    _add(group, stages="search in which stages attention is, too")
    _add_data(parser)
    _add_training(parser, 1)
    group = _add_rare(parser)
    _add(
        group,
        hypermodel="a function of your own, or a keras_tuner.HyperModel, with "
        "a search space of its own",
        keep="how many of the best trials keep their weights",
    )
    _add_identity_init(group)
    parser.set_defaults(algorithm="random", keep=3)


def table(parser):
    """Builds the networks of Tables 1 to 5 of the paper and prints their
    parameters and multiply-accumulates beside the printed ones, with the errors
    that the paper reports. About half a minute for all.

    examples:
      cbam-keras table
      cbam-keras table resnet50 resnet50-cbam --markdown
    """
    parser.usage += " [NAME ...]"
    text = "rows, as resnet50-cbam (default: all)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    _add(
        parser.add_mutually_exclusive_group(),
        markdown="print Markdown",
        json="print JSON, with exact counts",
    )
    _add(parser, output="a folder that also gets tables.md and tables.json")


def audit(parser):
    """Runs a layer with weights and features that tell its parts apart, and
    says where it departs from the paper. The exit status is 0 without
    departures and 1 with some.

    examples:
      cbam-keras audit my_model:CBAMBlock
    """
    parser.usage += " MODULE:CLASS"
    parser.add_argument(
        "layer",
        metavar="MODULE:CLASS",
        help="a class of layers, or a function that takes the number of "
        "channels and returns a layer, in a module that is installed or in "
        "this folder",
    )


def export(parser):
    """Exports a model to another format, runs the result in the runtime of that
    format, where it is installed, and compares its outputs with the model's. If
    they differ, nothing is written.

    examples:
      cbam-keras export model.keras --format onnx
      cbam-keras export model.keras --format saved_model --output serving
    """
    parser.usage += " --format NAME MODEL"
    text = "a file, .keras or .h5"
    parser.add_argument("model", metavar="MODEL", help=text)
    parser.add_argument(
        "--format",
        required=True,
        choices=CHOICES["format"],
        metavar="NAME",
        help="%(choices)s; litert is the former TensorFlow Lite, and torch a "
        "program of torch.export",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="the file, or the folder of a SavedModel, which must not exist "
        "yet (default: the path of the model, with the ending of the format)",
    )
    _add_import(parser)


def explain(parser):
    """Draws where networks look, side by side: Grad-CAM as in the figure of the
    paper, and the attention maps of each layer.

    examples:
      cbam-keras explain runs/train-crowded_mnist-tiny
      cbam-keras explain baseline.keras cbam.keras photos/ --class cat
      cbam-keras explain cbam.keras --data cluttered_mnist --count all
      cbam-keras explain cbam.keras it.jpg --layer stage3_block2_out

    Files in the output folder, or in explain/ if it is the folder of a run;
    existing ones are replaced:

      report.html   all of this as a page
      grad_cam.png  the drawn images, and for each model its heat map with the
                    probability of the explained class
      attention-MODEL.png
                    the attention maps of a model, on up to 4 images
      explain.json  for all images, the true class, and for each model the
                    explained and the predicted class, their probabilities
                    and, if the data have boxes, whether the maximum of the
                    heat is in the box (hit) and the fraction of the heat in
                    it (energy)
      arrays.npz    the D drawn images: images (D, H, W, C) uint8, names (D,),
                    labels (D,) (-1 where unknown), boxes (D, 4); and for each
                    model, MODEL/...: heat_maps (D, H, W), probabilities (D,
                    classes), explained, probability, predicted,
                    predicted_probability, hit, energy (D,),
                    attention/LAYER/channel (D, C),
                    attention/LAYER/spatial (D, h, w)

    Images are cropped at the center and resized as in evaluation, to the
    shape that the first model takes. All models see the same crop, each in
    its own size.
    """
    parser.usage += " MODEL|RUN|IMAGE|FOLDER ..."
    parser.anywhere = "paths"
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="MODEL|RUN|IMAGE|FOLDER",
        help="models (.keras, .h5) or output folders of train and tune, whose "
        "models and embedded data are taken; and images (BMP, GIF, JPEG, PNG, "
        "WebP) or folders of images with their subfolders; a folder named "
        "after a class gives the true class of its images",
    )
    parser.add_argument(
        "--class",
        dest="wanted",
        metavar="NAME|INDEX",
        help="the class to explain (default: the true one, as in the paper; "
        "if it is not known, the one that each model predicts)",
    )
    _add(
        parser,
        method="how heat maps are computed: NAMES",
        layer="the layer whose output is explained, e.g. stage3_block2_out, "
        "or backbone/conv5 in a nested model (default: the last feature map)",
        class_names="a text file with a name per line, in the order of the "
        "classes (default: the names in the data, in the results.json beside "
        "a model, or the folders of images if there is one per class)",
        draw="how many images are drawn and kept as arrays; the others count "
        "only in the means",
    )
    _add_output(parser, "runs/explain-NAME, with the first name")
    group = _add_data(parser, training=False)
    _add(
        group,
        split="the split of the data: NAMES",
        count="how many images of the data, or of each folder, are chosen at "
        "random, equally many of each class; files given by name are all "
        "explained",
        seed="seed of that choice, and of the validation split",
    )
    group = parser.add_argument_group("models")
    _add(
        group,
        preprocess="function applied to images (B, H, W, C) in [0, 255] "
        "before a model gets them, e.g. "
        "keras.applications.resnet50:preprocess_input (default: none, as for "
        "networks of cbam-keras train)",
        head="the output to explain, for models with several",
        batch_size="images per batch",
    )
    _add_import(group)
    _add_folders(parser.add_argument_group("rarely used"))
    parser.set_defaults(
        method="grad_cam",
        draw=8,
        split="test",
        count="8",
        seed=0,
        batch_size=32,
    )


# What several subcommands share.


def _add_run(parser, *, output, seeds=None):
    """Adds what runs have alike; returns the group for the result's form."""
    if seeds is not None:
        _add(
            parser,
            seeds="how many seeds, from 0; several give mean, deviation, and "
            "the interval of each difference",
        )
    _add(
        parser,
        workers="train N networks at a time on this machine, each with its "
        "own GPU or its share of the cores; on several machines, give the "
        "same command on each, see docs/cluster",
        dry_run="only print what would be trained and how long it would take, "
        "from a few timed steps",
    )
    _add_output(parser, output)
    _add(
        parser.add_mutually_exclusive_group(),
        overwrite="delete the run in the output folder and start again",
        resume="resume the run in the output folder, as is done without this "
        "option too",
    )
    form = parser.add_mutually_exclusive_group()
    _add(form, json="print the result as JSON, and the progress on stderr")
    parser.set_defaults(workers=1, seeds=seeds)
    return form


def _add_output(parser, default):
    _add(
        parser,
        output=f"the folder for all files (default: {default})",
        quiet="print only the result, and warnings",
        no_report="do not write the result as a page, report.html",
    )


def _add_model(parser):
    _add(
        parser,
        own="MODULE:FUNCTION",
        model="the network: NAMES; or MODULE:FUNCTION, a function of your own "
        "that takes `attention` and returns a keras.Model",
    )
    parser.set_defaults(model="tiny")


def _add_attention(parser, ratio):
    _add(
        parser,
        several=True,
        own="MODULE:CLASS",
        attention="what to compare: NAMES, or MODULE:CLASS, a layer of your "
        "own (default: none se cbam)",
    )
    group = parser.add_argument_group("attention layers")
    _add(
        group,
        reduction_ratio=f"of the channel gate (default: {ratio})",
        kernel_size="of the spatial gate, odd (default: 7)",
        order="of CBAM's gates: NAMES (default: channel_first)",
    )
    _add_identity_init(group)


def _add_identity_init(group):
    group.add_argument(
        "--identity-init",
        action=argparse.BooleanOptionalAction,
        help="whether gates start at one and the spatial one is normalized, "
        "instead of as in the paper; it helps networks that are too small for "
        "their task (default: yes)",
    )


def _add_data(parser, *, training=True):
    """Adds the data of classifiers, and returns the group."""
    group = parser.add_argument_group("data")
    size = "resize images to a square of that side, in pixels (default: as they"
    if not training:
        size = "of images, for models that take any (default: that of another "
        size += "model, as they"
    _add(
        group,
        data="mnist5k, cluttered_mnist or crowded_mnist (embedded), a dataset "
        "of TensorFlow Datasets such as cifar10, or a folder with a folder of "
        "images per class",
        download="download and prepare the dataset if necessary",
        image_size=f"{size} are, or 224 where they differ)",
    )
    if training:
        _add(group, several=True, augment=AUGMENT)
        parser.set_defaults(data="crowded_mnist")
    return group


def _add_folders(group, *, classifiers=True):
    text = "the folder of TensorFlow Datasets (default: ~/tensorflow_datasets)"
    _add(group, data_dir=text)
    if classifiers:
        text = "the folder with archives that you download by hand, as for "
        _add(group, manual_dir=f"{text}imagenet2012")


def _add_training(parser, epochs, learning_rate=None):
    group = parser.add_argument_group("training")
    _add(
        group,
        recipe="NAMES: sets the options below unless given (default: the "
        "values below)",
        epochs=f"epochs of each training (default: {epochs})",
        batch_size="images per step (default: 64)",
        seed="of everything random (default: 0)",
    )
    if learning_rate:
        text = f"the highest of the schedule (default: {learning_rate})"
        _add(group, learning_rate=text)


def _add_rare(parser, *, classifiers=True):
    group = parser.add_argument_group("rarely used")
    group.add_argument(
        "--mixed-precision",
        nargs="?",
        const="float16",
        choices=("float16", "bfloat16"),
        metavar="TYPE",
        help="compute in half precision: %(choices)s (float16 without a value)",
    )
    _add(group, tensorboard="write logs for TensorBoard")
    _add_folders(group, classifiers=classifiers)
    return group


def _add_import(group):
    group.add_argument(
        "--import",
        dest="modules",
        action="append",
        metavar="MODULE",
        default=[],
        help="a module that registers custom layers, imported first; repeat "
        "it for several",
    )
