"""Trains the networks of the CBAM paper's Tables 1 to 3, and compares them.

    python -m examples.paper_ablations
    python -m examples.paper_ablations --data photos --image-size 64 --epochs 20

A small ResNet is trained with the attention of each row, initialized as in the
paper: 30 training runs, three quarters of an hour on two cores. Rerun the same
command to resume.
"""

import argparse
import functools
import re

from cbam_keras import VARIANTS, comparison, study, training
from cbam_keras.layers import ATTENTION

OFFICIAL = VARIANTS["official"]
# The attention of each row, as printed: its layer, and the arguments of that.
ROWS = {
    "none": (None, {}),
    "SE": ("se", {}),
    "channel (max)": ("channel", {"pool_types": ("max",)}),
    "channel (avg & max)": ("channel", {}),
    "channel + spatial (1x1 conv, k=3)": (
        "cbam",
        OFFICIAL | {"spatial_pool_types": ("conv",), "kernel_size": 3},
    ),
    "channel + spatial (1x1 conv, k=7)": (
        "cbam",
        OFFICIAL | {"spatial_pool_types": ("conv",), "kernel_size": 7},
    ),
    "channel + spatial (avg & max, k=3)": (
        "cbam",
        OFFICIAL | {"kernel_size": 3},
    ),
    "CBAM": ("cbam", OFFICIAL),
    "spatial + channel": ("cbam", OFFICIAL | {"order": "spatial_first"}),
    "channel & spatial in parallel": ("cbam", OFFICIAL | {"order": "parallel"}),
}
# The title and the rows of each table, of which the first is its baseline.
# Table 2 adds to the last of Table 1.
NAMES = [*ROWS]
TABLES = {
    1: ("channel attention", NAMES[:4]),
    2: ("spatial attention after it", NAMES[3:8]),
    3: ("arrangement of the two gates", ["SE", *NAMES[7:]]),
}


def build(data, row):
    """Returns the small ResNet with the attention of a row."""
    kind, options = ROWS[row]
    layer = ATTENTION.get(kind)
    attention = layer and functools.partial(layer, **options)
    return comparison.NETWORKS["small"](data, attention)


def name_of(row):
    """Returns the name of a row, which files can have."""
    return "-".join(re.findall(r"\w+", row.lower()))


def main(arguments=None) -> None:
    """Runs a command line, by default that of the process."""
    parser = argparse.ArgumentParser("python -m examples.paper_ablations")
    parser.add_argument("--data", default="cluttered_mnist")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", default="runs/paper-ablations")
    options = parser.parse_args(arguments)
    recipe = training.Recipe(
        epochs=options.epochs, image_size=options.image_size
    )
    task, seeds = study.Classification(options.data), range(options.seeds)
    for number, (title, rows) in TABLES.items():
        variants = [
            study.Variant(
                name_of(row), functools.partial(build, row=row), label=row
            )
            for row in rows
        ]
        plan = study.Study(
            task, variants, seeds, recipe, baseline=name_of(rows[0])
        )
        # One folder: networks of several tables are trained once.
        results = study.run(plan, options.output)
        print(f"Table {number}: {title}\n{results}\n")


if __name__ == "__main__":
    main()
