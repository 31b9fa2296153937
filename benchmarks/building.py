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

# Of each part: the title of what it costs without, then with.
PARTS = {
    "build ResNet101": ("without", "with CBAM"),
    "EfficientNetB0": ("copy", "insert CBAM"),
    "save ResNet50": ("without", "with CBAM"),
    "load ResNet50": ("without", "with CBAM"),
    "import": ("keras", "keras and cbam_keras"),
}


def imported(statement):
    subprocess.run([sys.executable, "-c", statement], check=True)


def functions_of_parts(folder):
    """Returns a function for each of the two sides of each part."""
    photographs = keras.applications.EfficientNetB0(weights=None)
    build = {"without": None, "with CBAM": "cbam"}
    functions = {
        ("build ResNet101", side): functools.partial(
            models.ResNet101, attention=attention
        )
        for side, attention in build.items()
    }
    functions["EfficientNetB0", "copy"] = functools.partial(
        keras.models.clone_model, photographs
    )
    functions["EfficientNetB0", "insert CBAM"] = functools.partial(
        insert_attention, photographs
    )
    for side, attention in build.items():
        network = models.ResNet50(attention=attention)
        path = folder / f"{attention}.keras"
        network.save(path)
        functions["save ResNet50", side] = functools.partial(network.save, path)
        functions["load ResNet50", side] = functools.partial(
            keras.models.load_model, path
        )
    for side, statement in (
        ("keras", "import keras"),
        ("keras and cbam_keras", "import keras; import cbam_keras"),
    ):
        functions["import", side] = functools.partial(imported, statement)
    return functions


def measure(repeats):
    """Returns the seconds of each part, without and with."""
    with tempfile.TemporaryDirectory() as folder:
        functions = functions_of_parts(pathlib.Path(folder))
        seconds = timing.by_turns(functions, repeats)
    parts = {}
    for part, (without, having) in PARTS.items():
        sides = {
            side: timing.spread(seconds[part, side])
            for side in (without, having)
        }
        low, high = sides[without]["median"], sides[having]["median"]
        parts[part] = {
            "seconds": sides,
            "added": high - low,
            "ratio": high / low,
        }
    return parts


def table(parts):
    """Returns the times as a Markdown table."""
    columns = {"": "left", "what": "left", "ms (10 to 90 %)": "right"}
    columns |= {"added ms": "right", "ratio": "right"}
    sections = []
    for part, found in parts.items():
        (without, base), (having, measured) = found["seconds"].items()
        sections.append(
            [
                (part, without, timing.milliseconds(base), "", ""),
                (
                    *(part, having, timing.milliseconds(measured)),
                    timing.digits(1000 * found["added"]),
                    f"{found['ratio']:.2f}",
                ),
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
