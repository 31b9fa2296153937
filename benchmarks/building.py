"""What does attention add to building, inserting, saving and importing?

    python -m benchmarks.building --mode torch --output runs/bench

Measures by turns: building ResNet101 with and without CBAM; inserting CBAM
into EfficientNetB0 and copying it; saving and loading ResNet50 with and
without CBAM; and fresh interpreters that import Keras, or Keras and this
package. Prints a table, and writes what is in it to `building-MODE.json` in
the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools
import pathlib
import subprocess
import tempfile

import keras

from benchmarks import arguments, results, timing
from cbam_keras import _terminal, insert_attention, models

# What is compared: the title of what it costs without, then with.
PARTS = {
    "build ResNet101": ("without", "with CBAM"),
    "EfficientNetB0": ("copy", "insert CBAM"),
    "save ResNet50": ("without", "with CBAM"),
    "load ResNet50": ("without", "with CBAM"),
    "import": ("keras", "keras, cbam_keras"),
}


def pairs_of_functions(folder):
    """Returns two functions for each part: without, then with."""
    photographs = keras.applications.EfficientNetB0(weights=None)
    functions = {
        "EfficientNetB0": [
            functools.partial(keras.models.clone_model, photographs),
            functools.partial(insert_attention, photographs),
        ]
    }
    for attention, packages in ((None, "keras"), ("cbam", "keras, cbam_keras")):
        network = models.ResNet50(attention=attention)
        path = folder / f"{attention}.keras"
        network.save(path)
        load = keras.models.load_model
        command = [sys.executable, "-c", f"import {packages}"]
        for part, function in {
            "build ResNet101": functools.partial(
                models.ResNet101, attention=attention
            ),
            "save ResNet50": functools.partial(network.save, path),
            "load ResNet50": functools.partial(load, path),
            "import": functools.partial(subprocess.run, command, check=True),
        }.items():
            functions.setdefault(part, []).append(function)
    return functions


def measure(repeats):
    """Returns the seconds of each part, without and with."""
    with tempfile.TemporaryDirectory() as folder:
        functions = {
            (part, side): function
            for part, pair in pairs_of_functions(pathlib.Path(folder)).items()
            for side, function in zip(PARTS[part], pair, strict=True)
        }
        seconds = timing.by_turns(functions, repeats)
    return {
        part: {side: timing.spread(seconds[part, side]) for side in sides}
        for part, sides in PARTS.items()
    }


def table(parts):
    """Returns the times as a Markdown table."""
    columns = {"": "left", "what": "left", "ms (10 to 90 %)": "right"}
    columns |= {"added ms": "right", "ratio": "right"}
    sections = []
    for part, sides in parts.items():
        without, having = (measured["median"] for measured in sides.values())
        added = timing.digits(1000 * (having - without))
        compared = [("", ""), (added, f"{having / without:.2f}")]
        sections.append(
            [
                (part, side, timing.milliseconds(measured), *cells)
                for (side, measured), cells in zip(
                    sides.items(), compared, strict=True
                )
            ]
        )
    return _terminal.render(columns, sections, markdown=True)


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=7)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    parts = measure(options.repeats)
    record = {**results.conditions(options), "parts": parts}
    results.write("building", options, record, [table(parts)])


if __name__ == "__main__":
    main()
