"""When attention helps: networks without and with it, each over seeds.

    python -m benchmarks.when_it_helps bccd --data FOLDER --workers 2
    python -m benchmarks.when_it_helps --store

Each study has a folder in `runs/when-it-helps`, and the same call resumes it.
`FOLDER` holds `cifar10/train` and `cifar10/test` with a folder of photographs
per class, `bccd` in Pascal VOC's layout, and `camvid/train/images`,
`camvid/train/labels`, the same for val and test. Solar cells come with the
package `elpv-dataset`. `--store` adds what has been trained to
`when_it_helps.jsonl`, which has a line for each study, so that seeds can be
trained one after another (`--first-seed 3 --seeds 1`), each on any machine.
`benchmarks.tables` renders it into the pages.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import pathlib

import keras
import numpy as np
from PIL import Image

from benchmarks import camvid, networks
from benchmarks.arguments import positive_integer
from cbam_keras import comparison, detection, layers, study
from cbam_keras.recipes import RECIPES, Recipe

STORED = pathlib.Path(__file__).with_suffix(".jsonl")
FIGURE = pathlib.Path("docs/figures/when-it-helps.png")
KINDS = ("none", "se", "spatial", "cbam", "eca", "coordinate")
NETWORK, WEIGHTS = "EfficientNetLite0", "imagenet"
# Ends the name of a study of the plain network alone, which takes as much time
# as the others. No wider network has trained weights.
LONGER = "-longer"


def kinds(plan, *more, **arguments):
    """Plans no attention, each kind, CBAM from the paper's start, and more."""
    planned = plan(KINDS, **arguments)
    # A layer that is given starts as it is made, and not as the recommended.
    (paper,) = plan([layers.Attention("cbam")], **arguments).variants
    paper = dataclasses.replace(paper, name="cbam-paper", label="cbam-paper")
    variants = [*planned.variants, paper, *more]
    return dataclasses.replace(planned, variants=variants)


def wider(width, stem, images):
    """Returns the network `"small"` or `"tiny"` with 25 % more channels."""
    x = keras.layers.Rescaling(1 / 255)(keras.Input(images.image_shape))
    classes = len(images.class_names)
    return networks.tiny(width, stem=stem, input_tensor=x, classes=classes)


def longer(plan, epochs, folder):
    """Plans the network without attention alone, for more epochs."""
    planned = plan(folder)
    recipe = dataclasses.replace(planned.recipe, epochs=epochs)
    none = planned.variants[:1]
    return dataclasses.replace(planned, variants=none, recipe=recipe)


def from_scratch(data, width, stem, **arguments):
    wide = study.Variant("none-wide", functools.partial(wider, width, stem))
    options = {"reduction_ratio": 4}
    plan = functools.partial(comparison.plan, layer_options=options)
    return kinds(plan, wide, data=data, **arguments)


def cifar10(folder):
    recipe = dataclasses.replace(RECIPES["small_images"], epochs=15)
    options = {"model": "small", "recipe": recipe, "seeds": 3}
    return from_scratch(folder / "cifar10", 20, "small", **options)


def drawn(data, folder):
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.03)
    return from_scratch(data, 10, "strided", recipe=recipe, seeds=5)


def fine_tuning(data, **options):
    recipe = dataclasses.replace(RECIPES["fine-tuning"], image_size=96)
    plan = functools.partial(comparison.plan, model=NETWORK, weights=WEIGHTS)
    return kinds(plan, data=data, recipe=recipe, **options)


def photographs(folder):
    """Plans fine-tuning on 200 photographs of each class, tested on 200."""
    splits = []
    for split in ("train", "test"):
        classes = sorted((folder / "cifar10" / split).iterdir())
        paths = [path for x in classes for path in sorted(x.iterdir())[:200]]
        images = np.stack([np.asarray(Image.open(path)) for path in paths])
        splits.append((images, np.repeat(np.arange(len(classes)), 200)))
    return fine_tuning(splits, seeds=5)


def cells(folder):
    """Plans fine-tuning on solar cells that have a defect, or certainly not."""
    images, chances, _ = importlib.import_module(
        "elpv_dataset.utils"
    ).load_dataset()
    known = (chances == 0) | (chances == 1)
    small = [Image.fromarray(x).resize((96, 96)) for x in images[known]]
    return fine_tuning((np.stack(small), chances[known].astype(int)), folds=5)


def blood(folder):
    return kinds(
        detection.plan,
        backbone=NETWORK,
        weights=WEIGHTS,
        data=folder / "bccd",
        recipe=Recipe(
            frozen_epochs=3,
            epochs=12,
            batch_size=8,
            learning_rate=2e-3,
            image_size=(192, 256),
            augment=("flip",),
        ),
        seeds=3,
    )


def streets(folder):
    planned = kinds(
        comparison.plan,
        study.Variant("none-wide", lambda images: camvid.unet(None, 1.25)),
        model=camvid.unet,
        recipe=Recipe(epochs=10, batch_size=8, learning_rate=1e-3),
        layer_options={"reduction_ratio": 4},
        seeds=3,
    )
    task = camvid.Segmentation(folder / "camvid")
    return dataclasses.replace(planned, task=task, finish=None)


PLANS = {
    "photographs": photographs,
    "photographs-longer": functools.partial(longer, photographs, 5),
    "solar-cells": cells,
    "solar-cells-longer": functools.partial(longer, cells, 5),
    "bccd": blood,
    "bccd-longer": functools.partial(longer, blood, 14),
    "camvid": streets,
    "cifar10": cifar10,
    "digits": functools.partial(drawn, "crowded_mnist"),
    "fashion": functools.partial(drawn, "fashion_mnist"),
}


def stored():
    """Returns what `results.json` held of each study."""
    rows = map(json.loads, STORED.read_text().splitlines())
    return {row["study"]: row for row in rows}


def results_of(content):
    """Returns what is stored of a study, which is called as its data are."""
    found = study.Results.of(pathlib.Path(content["study"]), content)
    return dataclasses.replace(found, data=content["study"])


def merge(cells, new):
    """Returns the cells of one study, those of new runs in place of old."""
    merged = {(x["seed"], x["variant"]): x for x in [*cells, *new]}
    return [*merged.values()]


def store(runs):
    """Adds what has been trained to what is stored of the same study."""
    studies = stored()
    for run in PLANS:
        if not (path := runs / run / "results.json").exists():
            continue
        # All are printed alike, and without places on one machine.
        new = json.loads(path.read_text()) | {"kind": "study", "labels": {}}
        new |= {"study": run, "source": None, "command": None}
        cells = new["cells"]
        for cell in cells:
            cell |= {"file": None, "traceback": None}
        if run.endswith(LONGER):
            new = studies[run.removesuffix(LONGER)]
            new["settings"]["variants"][f"none{LONGER}"] = {}
            cells = [x | {"variant": f"none{LONGER}"} for x in cells]
        old = studies.get(new["study"])
        # One of an earlier version is replaced.
        if old and "recipe" in old["settings"]:
            for key in ("variants", "data"):
                more = new["settings"][key]
                new["settings"][key] = old["settings"][key] | more
            cells = merge(old["cells"], cells)
        if not cells:
            continue
        new["cells"] = cells
        new["seeds"] = sorted({cell["seed"] for cell in cells})
        studies[new["study"]] = new
    lines = map(json.dumps, studies.values())
    STORED.write_text("".join(f"{line}\n" for line in lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "studies", nargs="*", metavar="NAME", help=str([*PLANS])
    )
    parser.add_argument("--data", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=positive_integer, metavar="NUMBER")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED")
    parser.add_argument("--workers", type=positive_integer, default=1)
    runs = pathlib.Path("runs/when-it-helps")
    parser.add_argument("--output", type=pathlib.Path, default=runs)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--figure", metavar="NAME", help="draw it for the page")
    options = parser.parse_args()
    for name in options.studies:
        plan = PLANS[name](options.data)
        count, first = options.seeds or len(plan.seeds), options.first_seed
        plan = dataclasses.replace(plan, seeds=range(first, first + count))
        print(study.run(plan, options.output / name, workers=options.workers))
    if options.store:
        store(options.output)
    if options.figure:
        figure = results_of(stored()[options.figure]).plot()
        figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    # Workers find a function of a module, but not of a script.
    from benchmarks import when_it_helps

    when_it_helps.main()
