"""What becomes of a trained network when CBAM is inserted into it.

    python -m benchmarks.insertion
    python -m benchmarks.insertion --photographs FOLDER
    python -m benchmarks.insertion --photographs FOLDER --network FILE

Trains the small ResNet without attention on the cluttered digits, inserts
CBAM with and without `identity`, and measures the test accuracy before any
further step and after fine-tuning, beside the same fine-tuning without
attention. Prints a Markdown table. The studies are in `runs/insertion`, and
the same command resumes them.

Or predicts photographs of ImageNet, one of each class, by EfficientNet-Lite0
before and after. Their names begin with WordNet's number of the class, in the
order of the classes, as those of github.com/EliSchwartz/imagenet-sample-images.
Or draws, for ten of them, Grad-CAM before and after fine-tuning on CIFAR-10:
`FILE` is `cbam-seed0.keras` of the study `photographs` of `when_it_helps`, in a
folder of this name.
"""

import argparse
import functools
import pathlib
import statistics

import keras
import numpy as np

from benchmarks import results
from cbam_keras import (
    explain,
    insert_attention,
    models,
    plotting,
    study,
    training,
)
from cbam_keras.data import Examples
from cbam_keras.data.decoding import read_all
from cbam_keras.models.by_name import NETWORKS

RUNS = pathlib.Path("runs/insertion")
DIGITS = study.Classification("cluttered_mnist")
SEEDS = (0, 1, 2)
# Classes of ImageNet, one for each of CIFAR-10, in their order. It has no deer.
LIKE_CIFAR10 = (
    *("airliner", "sports_car", "jay", "Egyptian_cat", "impala"),
    *("beagle", "tree_frog", "sorrel", "container_ship", "moving_van"),
)
EPOCHS = 2


def inserted(change, images):
    """Returns a trained network after a change."""
    name = f"pretrained-seed{images.seed}"
    path = RUNS / "pretrained" / name / f"{name}.keras"
    return change(keras.saving.load_model(path, compile=False))


PLAIN = functools.partial(NETWORKS["small"], attention=None)
PRETRAINED = study.Study(
    DIGITS, [study.Variant("pretrained", PLAIN)], seeds=SEEDS
)
FINETUNED = study.Study(
    DIGITS,
    [
        study.Variant(name, functools.partial(inserted, change))
        for name, change in {
            "no attention": lambda model: model,
            "CBAM, identity": insert_attention,
            "CBAM, random": functools.partial(insert_attention, identity=False),
        }.items()
    ],
    seeds=SEEDS,
    recipe=training.Recipe(epochs=EPOCHS, learning_rate=1e-3),
)


def accuracy(variant, seed):
    """Returns the test accuracy of a network right after the insertion."""
    recipe = FINETUNED.recipe_for(variant, seed)
    images = DIGITS.load(recipe)
    model = study.build_seeded(functools.partial(variant.build, images), recipe)
    DIGITS.compile(model, recipe, images)
    return DIGITS.evaluate(model, images)["test_accuracy"]


def read(paths, size):
    """Returns photographs as evaluation sees them."""
    files = np.array([*map(str, paths)], object)
    examples = Examples(files, np.zeros(len(files), "int32"))
    return read_all(examples, size, 3, "Reading").images


def predicted(folder):
    """Prints how photographs are recognized before and after an insertion."""
    paths = sorted(folder.iterdir())
    photographs = read(paths, (224, 224))
    labels = np.arange(len(paths))[:, None]
    before = models.EfficientNetLite0(weights="imagenet")
    networks = {"before": before, "after": insert_attention(before, "cbam")}
    scaled = (photographs - np.float32(127)) / 128
    found, rows = {}, []
    for name, network in networks.items():
        found[name] = network.predict(scaled, verbose=0)
        ranked = found[name].argsort(axis=1)[:, ::-1]
        hits = {f"top {k}": (ranked[:, :k] == labels) for k in (1, 5)}
        parts = {k: f"{x.any(axis=1).mean():.1%}" for k, x in hits.items()}
        rows.append({"CBAM": name, **parts})
    before, after = found.values()
    same = (before.argmax(axis=1) == after.argmax(axis=1)).sum()
    print(results.table(rows))
    print(
        f"The same class for {same} of {len(paths)} photographs, and chances "
        f"{abs(before - after).max():.1e} apart at most."
    )


def drawn(folder, file):
    """Draws Grad-CAM of ten photographs before and after fine-tuning."""
    paths = [
        path for kind in LIKE_CIFAR10 for path in folder.glob(f"*{kind}.*")
    ]
    photographs = read(paths, (96, 96))
    before = models.EfficientNetLite0(
        weights="imagenet", input_shape=(96, 96, 3)
    )
    after = keras.saving.load_model(file, compile=False)
    scaled = (photographs - np.float32(127)) / 128
    pixels = photographs.astype("float32")
    heat = {
        "before": explain.grad_cam(insert_attention(before, "cbam"), scaled),
        "after": explain.grad_cam(after, pixels),
    }
    found = after.predict(pixels, verbose=0).argmax(axis=1)
    rows = []
    for number, (kind, *maps) in enumerate(
        zip(LIKE_CIFAR10, *heat.values(), strict=True)
    ):
        alike = np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1]
        right = "yes" if found[number] == number else "no"
        rows.append(
            {
                "photograph": kind,
                "recognized": right,
                "correlation": f"{alike:.2f}",
            }
        )
    print(results.table(rows))
    figure = plotting.plot_grad_cam(photographs, heat, labels=LIKE_CIFAR10)
    RUNS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RUNS / "grad-cam.png", dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photographs", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--network", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    if options.network is not None:
        drawn(options.photographs, options.network)
    elif options.photographs is not None:
        predicted(options.photographs)
    else:
        fine_tuned()


def fine_tuned():
    """Trains, inserts and fine-tunes, and prints the accuracies."""
    study.run(PRETRAINED, RUNS / "pretrained")
    found = study.run(FINETUNED, RUNS / "finetuned")
    rows = []
    for variant in FINETUNED.variants:
        measured = {
            "right after": {seed: accuracy(variant, seed) for seed in SEEDS},
            f"after {EPOCHS} more epochs": found.values(
                variant.name, "test_accuracy"
            ),
        }
        for when, values in measured.items():
            cells = {f"seed {seed}": values[seed] for seed in SEEDS}
            cells["mean"] = statistics.mean(cells.values())
            cells = {name: f"{100 * x:.1f}" for name, x in cells.items()}
            rows.append({"inserted": variant.name, "accuracy": when} | cells)
    print(results.table(rows))


if __name__ == "__main__":
    main()
