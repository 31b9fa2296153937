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

from cbam_keras import _terminal, data, insert_attention, training
from cbam_keras.models.by_name import NETWORKS

ARMS = {
    "no attention": lambda model: model,
    "CBAM, identity": insert_attention,
    "CBAM, random": functools.partial(insert_attention, identity=False),
}
EPOCHS, LEARNING_RATE = 2, 1e-3


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
        {"pretrained": functools.partial(NETWORKS["small"], images, None)},
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
    record = {"versions": {"keras": keras.__version__}, "seeds": measured}
    text = json.dumps(record, indent=1)
    (options.output / "insertion.json").write_text(text)
    rows = []
    whens = {"start": "right after", "end": f"after {EPOCHS} more epochs"}
    for arm in ARMS:
        for when, words in whens.items():
            values = [100 * measured[seed][arm][when] for seed in measured]
            values.append(statistics.mean(values))
            rows.append((arm, words, *(f"{value:.1f}" for value in values)))
    columns = {"inserted": "left", "test accuracy in %": "left"}
    columns |= {f"seed {seed}": "right" for seed in measured}
    print(_terminal.render(columns | {"mean": "right"}, [rows], markdown=True))


if __name__ == "__main__":
    main()
