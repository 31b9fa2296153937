"""How many ONNX nodes does attention add, and how much time in ONNX Runtime?

    python -m benchmarks.exports --mode torch --output runs/bench

Exports the networks `tiny` and `small` without attention, with SE and with
CBAM, and runs them by turns on one core. Prints a table, and writes what is
in it to `exports-MODE.json` in the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools
import pathlib
import tempfile
import types

import numpy as np
import onnx
import onnxruntime

from benchmarks import arguments, results, timing
from cbam_keras import _terminal, exporting
from cbam_keras.models import by_name

ARMS = {"none": None, "SE": "se", "CBAM": "cbam"}
BATCHES = (1, 16)
IMAGES = types.SimpleNamespace(
    image_shape=(32, 32, 3), class_names=[str(digit) for digit in range(10)]
)


def exported(network, arm, folder):
    """Returns the number of nodes of an exported network, and a session."""
    path = pathlib.Path(folder) / f"{network}-{arm}.onnx"
    model = by_name.NETWORKS[network](IMAGES, ARMS[arm])
    exporting.export_model(model, path, format="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    return sum(kind != "Constant" for kind in kinds), session


def measure(repeats):
    """Returns a row for each network, batch size and kind of attention."""
    rows = []
    for network in ("tiny", "small"):
        with tempfile.TemporaryDirectory() as folder:
            arms = {arm: exported(network, arm, folder) for arm in ARMS}
        for batch in BATCHES:
            images = np.random.default_rng(0).random((batch, 32, 32, 3))
            inputs = {"images": (255 * images).astype("float32")}
            functions = {
                arm: functools.partial(session.run, None, inputs)
                for arm, (_, session) in arms.items()
            }
            seconds = timing.by_turns(functions, repeats)
            base = timing.spread(seconds["none"])["median"]
            for arm, (nodes, _) in arms.items():
                found = timing.spread(seconds[arm])
                rows.append(
                    {
                        "network": network,
                        "batch": batch,
                        "attention": arm,
                        "nodes": nodes,
                        "seconds": found,
                        "ratio": found["median"] / base,
                    }
                )
    return rows


def table(rows):
    columns = {"network": "left", "batch": "right", "attention": "left"}
    columns |= {"nodes": "right", "ms (10 to 90 %)": "right", "ratio": "right"}
    cells = [
        (
            *(row["network"], str(row["batch"]), row["attention"]),
            *(str(row["nodes"]), timing.milliseconds(row["seconds"])),
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    return _terminal.render(columns, [cells], markdown=True)


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=200)
    options = parser.parse_args()
    rows = measure(options.repeats)
    record = {**results.conditions(options, [onnxruntime]), "rows": rows}
    results.write("exports", options, record, [table(rows)])


if __name__ == "__main__":
    main()
