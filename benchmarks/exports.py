"""How many ONNX nodes does attention add, and how much time in ONNX Runtime?

    python -m benchmarks.exports --mode torch --output runs/bench

Exports the networks `tiny` and `small` without attention, with SE and with
CBAM, and runs them by turns on one core.
"""

import functools
import pathlib
import tempfile
import types

import numpy as np
import onnx
import onnxruntime

from benchmarks import arguments, results, timing
from cbam_keras import CBAM, SqueezeExcite
from cbam_keras.models import by_name

ARMS = {"none": None, "SE": SqueezeExcite, "CBAM": CBAM}
IMAGES = types.SimpleNamespace(input_shape=(32, 32, 3), output_shape=(10,))


def exported(network, arm, path):
    """Returns the number of nodes of an exported network, and a session."""
    model = by_name.NETWORKS[network](IMAGES, ARMS[arm])
    # Keras writes ONNX only of what has been called.
    model(np.zeros((1, 32, 32, 3), "float32"))
    model.export(str(path), format="onnx", verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    return sum(kind != "Constant" for kind in kinds), session


def main():
    options = arguments.parser(__doc__, repeats=200).parse_args()
    nodes, functions = [], {}
    for network in ("tiny", "small"):
        for arm in ARMS:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "network.onnx"
                count, session = exported(network, arm, path)
            nodes.append({"network": network, "kind": arm, "nodes": str(count)})
            for batch in (1, 16):
                images = np.random.default_rng(0).random((batch, 32, 32, 3))
                inputs = {"images": (255 * images).astype("float32")}
                functions[f"{network}, batch of {batch}", arm] = (
                    functools.partial(session.run, None, inputs)
                )
    rows = timing.compared(functions, options.repeats)
    rows.sort(key=lambda row: row["what"])
    tables = [results.table(nodes), results.times(rows)]
    record = {"nodes": nodes, "rows": rows}
    results.write("exports", options, record, tables, [onnxruntime])


if __name__ == "__main__":
    main()
