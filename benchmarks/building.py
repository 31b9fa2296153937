"""What does attention add to building, inserting, saving and importing?

    python -m benchmarks.building --mode torch --output runs/bench

Measures by turns: building ResNet101 with and without CBAM; inserting CBAM
into EfficientNetB0 and copying it; saving and loading ResNet50 with and
without CBAM; and fresh interpreters that import Keras, or Keras and this
package. Prints a table, and writes what is in it to `building-MODE.json` in
the output folder.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile

import keras

from benchmarks import arguments, results, timing
from cbam_keras import insert_attention, models


def functions(folder):
    """Returns what is timed, without and then with attention."""
    inserted_into = keras.applications.EfficientNetB0(weights=None)
    found = {
        ("EfficientNetB0", "copy"): functools.partial(
            keras.models.clone_model, inserted_into
        ),
        ("EfficientNetB0", "insert CBAM"): functools.partial(
            insert_attention, inserted_into
        ),
    }
    for kind, attention in {"without": None, "with CBAM": "cbam"}.items():
        network = models.ResNet50(attention=attention)
        path = folder / f"{attention}.keras"
        network.save(path)
        for what, function in {
            "build ResNet101": functools.partial(
                models.ResNet101, attention=attention
            ),
            "save ResNet50": functools.partial(network.save, path),
            "load ResNet50": functools.partial(keras.models.load_model, path),
        }.items():
            found[what, kind] = function
    for packages in ("keras", "keras, cbam_keras"):
        command = [sys.executable, "-c", f"import {packages}"]
        found["import", packages] = functools.partial(
            subprocess.run, command, check=True
        )
    return found


def main():
    options = arguments.parser(__doc__, repeats=7).parse_args()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        timed = functions(pathlib.Path(folder))
        rows = timing.compared(timed, options.repeats)
    rows.sort(key=lambda row: row["what"])
    results.write("building", options, {"rows": rows}, [results.times(rows)])


if __name__ == "__main__":
    main()
