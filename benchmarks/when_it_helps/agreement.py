"""On how many test images do a network with CBAM and one without disagree?

    python -m benchmarks.when_it_helps.agreement --data FOLDER

Trains small networks without attention and with CBAM from scratch, with two
seeds, on the digits of scikit-learn and on 5,000 training images of CIFAR-10,
whose `FOLDER` `benchmarks.when_it_helps` describes. After each
epoch it counts the test images of which exactly one of two networks is right,
and writes these counts to `agreement.csv`. `published` takes from them how
much two networks of a given accuracy disagree.
"""

import argparse
import csv
import itertools
import pathlib

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks import networks
from cbam_keras import CBAM, VARIANTS

STORED = pathlib.Path(__file__).with_suffix(".csv")
SEEDS = (0, 1)
EPOCHS = 8


def digits(folder):
    """Returns half of the digits for training, and half for the test."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(labels))
    return [(images[x], labels[x]) for x in np.array_split(order, 2)]


def cifar10(folder):
    """Returns 5,000 photographs for training, and 2,500 for the test."""
    splits = []
    for split, number in (("train", 500), ("test", 250)):
        classes = sorted((folder / "cifar10" / split).iterdir())
        paths = [path for x in classes for path in sorted(x.iterdir())[:number]]
        images = np.stack([np.asarray(Image.open(path)) for path in paths])
        labels = np.repeat(np.arange(len(classes)), number)
        splits.append((images.astype("float32") / 255, labels))
    return splits


DATA = {"digits": (digits, 10), "cifar10": (cifar10, 12)}


def attention(name):
    """Builds `"cbam"` with the reduction ratio of the other small networks."""
    options = VARIANTS["recommended"] | {"reduction_ratio": 4}
    return CBAM(**options, name=name)


def train(splits, width, has_attention, seed):
    """Yields, after each epoch, which test images are classified rightly."""
    keras.utils.set_random_seed(seed)
    (images, labels), (test_images, test_labels) = splits
    network = networks.tiny(
        width,
        stem="small",
        input_shape=images.shape[1:],
        classes=10,
        attention=attention if has_attention else None,
    )
    network.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        "sparse_categorical_crossentropy",
    )
    for _ in range(EPOCHS):
        network.fit(images, labels, batch_size=128, verbose=0)
        chances = network.predict(test_images, batch_size=500, verbose=0)
        yield chances.argmax(1) == test_labels


def count(name, first, second, rights):
    """Yields the counts of two networks, a row for each epoch."""
    pair = zip(rights[first], rights[second], strict=True)
    for epoch, (one, other) in enumerate(pair, 1):
        yield {
            "data": name,
            "first": " ".join(map(str, first)),
            "second": " ".join(map(str, second)),
            "epoch": epoch,
            "images": len(one),
            "only first right": int((one & ~other).sum()),
            "only second right": int((other & ~one).sum()),
            "both right": int((one & other).sum()),
        }


def measure(folder):
    """Yields the rows of `agreement.csv`."""
    for name, (load, width) in DATA.items():
        splits = load(folder)
        rights = {
            (kind, seed): [*train(splits, width, kind == "cbam", seed)]
            for kind in ("none", "cbam")
            for seed in SEEDS
        }
        print(name, {x: y[-1].mean() for x, y in rights.items()}, flush=True)
        for first, second in itertools.combinations(rights, 2):
            yield from count(name, first, second, rights)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    rows = [*measure(parser.parse_args().data)]
    with STORED.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
