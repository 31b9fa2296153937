"""Trains the networks of the CBAM paper's Tables 1 to 3, and compares them.

    python -m examples.paper_ablations
    python -m examples.paper_ablations --data photos --image-size 64 --epochs 20

A small ResNet is trained with the attention of each row, initialized as in the
paper: 30 trainings, three quarters of an hour on two cores. The same command
given again resumes.
"""

import argparse
import functools

from cbam_keras import comparison, presets, study, training
from cbam_keras.layers import ATTENTION

# The title and first row of each table. Table 2 adds to the last of Table 1.
TABLES = {
    1: ("channel attention", "resnet50"),
    2: ("spatial attention after it", "resnet50-channel-avg-max"),
    3: ("arrangement of the two gates", "resnet50-se"),
}


def build(data, row):
    """Returns the small ResNet with the attention of a row."""
    layer = ATTENTION.get(row.layer)
    attention = layer and functools.partial(layer, **row.layer_options)
    return comparison.NETWORKS["small"](data, attention)


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
    for number, (title, first) in TABLES.items():
        variants = [
            study.Variant(
                name,
                functools.partial(build, row=row),
                label=row.attention or "none",
            )
            for name, row in presets.ABLATIONS.items()
            if number in row.tables or name == first
        ]
        plan = study.Study(task, variants, seeds, recipe, baseline=first)
        # One folder: networks of several tables are trained once.
        results = study.run(plan, options.output)
        print(f"Table {number}: {title}\n{results}\n")


if __name__ == "__main__":
    main()
