"""What becomes of a trained network when CBAM is inserted into it.

    python -m benchmarks.insertion

Trains the small ResNet without attention on the cluttered digits, inserts
CBAM with and without `identity`, and measures the test accuracy before any
further step and after fine-tuning, beside the same fine-tuning without
attention. Prints a Markdown table. The studies are in `runs/insertion`, and
the same command resumes them.
"""

import functools
import pathlib
import statistics

import keras

from benchmarks import results
from cbam_keras import insert_attention, study, training
from cbam_keras.models.by_name import NETWORKS

RUNS = pathlib.Path("runs/insertion")
DIGITS = study.Classification("cluttered_mnist")
SEEDS = (0, 1, 2)
EPOCHS = 2


def inserted(change, images):
    """Returns a trained network after a change."""
    path = RUNS / "pretrained" / f"pretrained-seed{images.seed}.keras"
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


def main():
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
