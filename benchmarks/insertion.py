"""What becomes of a trained network when CBAM is inserted into it.

    python -m benchmarks.insertion --seeds 0 1 2 --output runs/insertion

Trains the small ResNet without attention on the cluttered digits, inserts
CBAM with and without `identity`, and measures the test accuracy before any
further step and after fine-tuning, beside the same fine-tuning without
attention. Prints a Markdown table, and writes what is in it to
`insertion.json` in the output folder. If it is killed, the same command
resumes it.
"""

import argparse
import functools
import json
import pathlib
import statistics

import keras
from keras import layers

from cbam_keras import _terminal, data, insert_attention, models, training

ARMS = {
    "no attention": lambda model: model,
    "CBAM, identity": insert_attention,
    "CBAM, random": functools.partial(insert_attention, identity=False),
}
EPOCHS, LEARNING_RATE = 2, 1e-3


def pretrained(images):
    """The network "small" of `cbam-keras train`, without attention."""
    inputs = keras.Input(images.image_shape, name="images")
    return models.ResNet(
        (1, 1, 1),
        block="basic",
        widths=(16, 32, 64),
        stem_width=16,
        stem="small",
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        classes=len(images.class_names),
    )


def accuracy(model, images):
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(images.test, verbose=0)[1]


def measure(seed, output):
    """Returns the accuracies of one seed: start and end of each arm."""
    images = data.load("cluttered_mnist", seed=seed)
    recipe = training.Recipe(seed=seed)
    first = output / f"seed{seed}-pretrained"
    resume = (first / "results.json").exists()
    training.train(
        {"pretrained": functools.partial(pretrained, images)},
        images,
        recipe,
        output=first,
        resume=resume,
    )

    def build(change):
        keras.utils.set_random_seed(seed)
        model = keras.saving.load_model(
            first / "pretrained.keras", compile=False
        )
        return change(model)

    second = output / f"seed{seed}-finetuned"
    results = training.train(
        {arm: functools.partial(build, ARMS[arm]) for arm in ARMS},
        images,
        training.Recipe(epochs=EPOCHS, learning_rate=LEARNING_RATE, seed=seed),
        output=second,
        resume=(second / "results.json").exists(),
    )
    return {
        run.network: {
            "start": accuracy(build(ARMS[run.network]), images),
            "end": run.test_accuracy,
        }
        for run in results.runs
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/insertion")
    )
    options = parser.parse_args()
    measured = {seed: measure(seed, options.output) for seed in options.seeds}
    (options.output / "insertion.json").write_text(
        json.dumps(
            {"versions": {"keras": keras.__version__}, "seeds": measured},
            indent=1,
        )
    )
    rows = []
    for arm in ARMS:
        for when, text in (
            ("start", "right after"),
            ("end", f"after {EPOCHS} more epochs"),
        ):
            values = [100 * measured[seed][arm][when] for seed in measured]
            rows.append(
                (
                    arm,
                    text,
                    *(f"{value:.1f}" for value in values),
                    f"{statistics.mean(values):.1f}",
                )
            )
    columns = {"inserted": "left", "test accuracy in %": "left"}
    columns |= {f"seed {seed}": "right" for seed in measured}
    print(_terminal.render(columns | {"mean": "right"}, [rows], markdown=True))


if __name__ == "__main__":
    main()
