"""What does attention add to building, inserting, saving and importing?

    python -m benchmarks.building --mode torch --output runs/bench

Measures by turns: building ResNet101 with and without CBAM; inserting CBAM
into EfficientNetB0 and copying it; saving and loading ResNet50 with and
without CBAM; and fresh interpreters that import Keras, or Keras and this
package.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile

import keras

from benchmarks import arguments, results, timing
from cbam_keras import CBAM, insert_attention, models


def functions(folder):
    """Returns what is timed, without and then with attention."""
    found = {}
    plain = keras.applications.EfficientNetB0(weights=None)
    for kind, function in {
        "copy": keras.models.clone_model,
        "insert CBAM": insert_attention,
    }.items():
        found["EfficientNetB0", kind] = functools.partial(function, plain)
    for kind, attention in {"without": None, "with CBAM": CBAM}.items():
        network = models.ResNet50(attention=attention)
        path = folder / f"{kind}.keras"
        network.save(path)
        found["build ResNet101", kind] = functools.partial(
            models.ResNet101, attention=attention
        )
        found["save ResNet50", kind] = functools.partial(network.save, path)
        found["load ResNet50", kind] = functools.partial(
            keras.models.load_model, path
        )
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
