"""Do the gates of CBAM compute a single image as fast as `x @ kernel` does?

    OMP_NUM_THREADS=1 python -m benchmarks.single_image --mode torch

Calls the layer on one image, as a prediction does, with the product of matrices
that the layer has and with a plain one, by turns in one process. So small an
input takes as long as its single operations, of which Keras has many in a
product that reshapes. The seconds are those of the CPU.
"""

import sys
import time

import keras
import numpy as np
from keras import ops

from benchmarks import arguments, modes, results, timing
from cbam_keras import CBAM

SHAPES = ((1, 14, 14, 256), (1, 28, 28, 256), (1, 28, 28, 512))
PLAIN, OURS = "x @ kernel", "CBAM"
# More than this many times the seconds of a plain product is a regression.
AT_MOST = 1.03


def plain_dense(x, kernel, bias=None):
    """Returns what `TrainableAttention._dense` does, for any rank."""
    x = x @ ops.cast(kernel, x.dtype)
    return x if bias is None else x + ops.cast(bias, x.dtype)


def measure(options, shape):
    """Returns the times of one image of this shape with each product."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.standard_normal(shape, "float32"))
    functions = {}
    for name in (PLAIN, OURS):
        layer = CBAM(16)
        layer.build(shape)
        if name == PLAIN:
            for gate in (layer.channel_attention, layer.spatial_attention):
                gate._dense = plain_dense
        forward, _ = modes.layer_steps(options.mode, layer, [], x, x)
        functions["x".join(map(str, shape)), name] = forward
    print(f"measuring {shape}", file=sys.stderr, flush=True)
    return timing.compared(functions, options.repeats, time.process_time)


def main():
    parser = arguments.parser(__doc__, repeats=500)
    options = parser.parse_args()
    rows = [row for shape in SHAPES for row in measure(options, shape)]
    highest = max(row["ratio"] for row in rows if row["kind"] == OURS)
    verdict = "REGRESSION" if highest > AT_MOST else "good"
    text = f"Highest ratio: {highest:.3f}, at most {AT_MOST}: {verdict}."
    texts = [results.times(rows), text]
    results.write("single_image", options, {"rows": rows}, texts)


if __name__ == "__main__":
    main()
