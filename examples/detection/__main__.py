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
import sys


def main(arguments=None) -> None:
    """Runs a command line, by default that of the process."""
    options = _parse(arguments)
    # Importing Keras takes seconds, and `--help` must not wait for it.
    from cbam_keras import study
    from examples.detection.task import RECIPES, plan

    names = ("epochs", "batch_size", "image_size", "augment")
    changes = {name: getattr(options, name) for name in names}
    changes = {k: value for k, value in changes.items() if value is not None}
    recipe = dataclasses.replace(RECIPES[options.weights], **changes)
    planned = plan(
        options.attention,
        backbone=options.backbone,
        weights=options.weights,
        data=options.data,
        recipe=recipe,
        seeds=options.seeds,
        data_dir=options.data_dir,
        download=options.download,
    )
    # With --json the result alone is on standard output.
    progress = sys.stderr if options.json else sys.stdout
    with contextlib.redirect_stdout(progress):
        results = study.run(
            planned, options.output, overwrite=options.overwrite
        )
    print(results.json() if options.json else results)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m examples.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    text = "initialize with ImageNet weights"
    add("--weights", choices=["imagenet"], help=text)
    text = "what is compared: none, se, cbam (default) and the other names of "
    text += "`cbam-keras train`"
    default = ["none", "se", "cbam"]
    add("--attention", nargs="+", default=default, metavar="NAME", help=text)
    add("--seeds", type=int, default=1, metavar="N", help="how many, from 0")
    add("--epochs", type=int, metavar="N", help="12, or 9 with --weights")
    add("--batch-size", type=int, metavar="N", help="images per step: 16")
    text = "resize images to a square, or height x width, in pixels"
    add("--image-size", type=_size, metavar="N|HxW", help=text)
    text = "of training images: flip, translate, zoom, color"
    add("--augment", nargs="+", metavar="NAME", help=text)
    add("--output", metavar="DIR", help="runs/study-DATA-BACKBONE")
    add("--overwrite", action="store_true", help="rename a run that is there")
    add("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


def _size(text):
    """Returns a side, or height and width."""
    sides = tuple(map(int, text.split("x")))
    return sides if len(sides) > 1 else sides[0]


if __name__ == "__main__":
    main()
