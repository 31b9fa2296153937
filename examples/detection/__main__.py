"""Trains detectors without and with attention, and compares them.

KerasHub's RetinaNet is trained on a backbone without attention, with SE and
with CBAM under equal conditions, and measured as COCO does. The same command
given again resumes. In Python: `study.run(plan(...))`, see `task.py`.

examples:
  python -m examples.detection
  python -m examples.detection --attention none cbam --seeds 3
  python -m examples.detection --data photos --image-size 240x320 --augment flip
  python -m examples.detection --data voc/2007 --download --backbone resnet18
  python -m examples.detection --backbone EfficientNetLite0 --weights imagenet
"""

import argparse
import contextlib
import dataclasses
import pkgutil
import sys


def parse(arguments=None) -> argparse.Namespace:
    """Returns the options of a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = "digit_scenes (embedded, default), a folder with COCO's or VOC's "
    text += "boxes, or a dataset of TensorFlow Datasets with boxes"
    add("--data", default="digit_scenes", metavar="NAME|FOLDER", help=text)
    add("--data-dir", metavar="DIR", help="the folder of TensorFlow Datasets")
    add("--download", action="store_true", help="download it if necessary")
    text = "small (default), resnet18 and so on, EfficientNetLite0, or a "
    text += "network of keras.applications"
    add("--backbone", default="small", metavar="NAME", help=text)
    text = "imagenet: start from weights for ImageNet"
    add("--weights", choices=["imagenet"], metavar="NAME", help=text)
    text = "what is compared: none, se (both by default), cbam and the other "
    text += "names of `cbam-keras train`, or MODULE:CLASS"
    add("--attention", nargs="+", metavar="NAME", help=text)
    add("--seeds", type=int, default=1, metavar="N", help="how many, from 0")
    add("--epochs", type=int, metavar="N", help="12, or 9 with --weights")
    text = (
        "epochs before these, which train what is new: 0, or 3 with --weights"
    )
    add("--frozen-epochs", type=int, metavar="N", help=text)
    add("--batch-size", type=int, metavar="N", help="images per step: 16")
    text = "the highest learning rate of the schedule: 0.002"
    add("--learning-rate", type=float, metavar="NUMBER", help=text)
    text = "resize images to a square, or height x width, in pixels"
    add("--image-size", type=_size, metavar="N|HxW", help=text)
    text = "of training images: flip, translate, zoom, colour"
    add("--augment", nargs="+", metavar="NAME", help=text)
    add("--mixed-precision", choices=["float16", "bfloat16"])
    text = "train N networks at a time on this machine"
    add("--workers", type=int, default=1, metavar="N", help=text)
    add("--output", metavar="DIR", help="runs/study-DATA-BACKBONE")
    add("--overwrite", action="store_true", help="rename a run that is there")
    add("--dry-run", action="store_true", help="only print what is trained")
    add("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _size(text):
    """Returns a side, or height and width."""
    sides = tuple(map(int, text.split("x")))
    return sides if len(sides) > 1 else sides[0]


def main(arguments=None) -> None:
    """Runs a command line, by default that of the process."""
    options = parse(arguments)
    # Importing Keras takes seconds, and `--help` must not wait for it.
    from cbam_keras import comparison, study
    from examples.detection.task import default_recipe, plan

    recipe = default_recipe(options.weights)
    names = {field.name for field in dataclasses.fields(recipe)}
    values = vars(options).items()
    changes = {k: v for k, v in values if k in names and v is not None}
    attentions = options.attention or comparison.DEFAULT
    planned = plan(
        [pkgutil.resolve_name(x) if ":" in x else x for x in attentions],
        backbone=options.backbone,
        weights=options.weights,
        data=options.data,
        recipe=dataclasses.replace(recipe, **changes),
        seeds=options.seeds,
        data_dir=options.data_dir,
        download=options.download,
    )
    # With --json the result alone is on standard output.
    progress = sys.stderr if options.json else sys.stdout
    with contextlib.redirect_stdout(progress):
        if options.dry_run:
            results = study.estimate(planned)
        else:
            results = study.run(
                planned,
                options.output,
                overwrite=options.overwrite,
                workers=options.workers,
            )
    print(results.json() if options.json else results)


if __name__ == "__main__":
    main()
