"""How much memory does attention add to a step of training?

    python -m benchmarks.memory --mode jax --output runs/bench

Measures by what the peak of a process grows in a few steps of training, in a
process of its own for each kind of attention. In mode `jax` XLA's own account
of a step of four blocks is printed too, and in mode `torch` what one layer
keeps for its gradient.
"""

import argparse
import gc
import resource
import subprocess
import sys

import keras
import numpy as np

from benchmarks import arguments, modes, networks, results
from benchmarks.naive import ARMS
from cbam_keras.layers import make_attention

BLOCKS, BLOCKS_SHAPE = 4, (16, 28, 28, 256)
LAYER_SHAPE = (16, 28, 28, 512)


def peak():
    """Returns the most bytes taken so far, on the GPU if there is one."""
    if not modes.gpus():
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return resident if sys.platform == "darwin" else resident * 1024
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if keras.config.backend() == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()


def grown(name, arm, options):
    """Returns by what the peak grows in steps, in this process."""
    network = networks.compiled(name, arm, options)
    images, labels = networks.batch(options)
    before = peak()
    for _ in range(options.repeats):
        networks.train(network, images, labels)
    return peak() - before


def grown_in_a_child(name, arm):
    """Returns what `grown` does, in a process of its own.

    On Linux a child inherits the peak of its parent, so this process must run
    no network before: a child's own start then needs more.
    """
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
    command += ["--child", name, arm]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    print(f"measured {name}, {arm}", file=sys.stderr, flush=True)
    return int(done.stdout.splitlines()[-1])


def residual_blocks(arm):
    """Returns blocks of convolution, normalization, ReLU and attention."""
    x = inputs = keras.Input(BLOCKS_SHAPE[1:])
    for _ in range(BLOCKS):
        y = keras.layers.Conv2D(
            BLOCKS_SHAPE[-1], 3, padding="same", use_bias=False
        )(x)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.ReLU()(y)
        layer = make_attention(ARMS[arm])
        y = y if layer is None else layer(y)
        x = keras.layers.Add()([x, y])
    return keras.Model(inputs, x)


def accounted(network):
    """Returns the bytes that XLA sets aside for values within a step."""
    import jax

    def loss(weights, fixed, images):
        outputs, fixed = network.stateless_call(
            weights, fixed, images, training=True
        )
        return keras.ops.mean(outputs * outputs), fixed

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    weights = [variable.value for variable in network.trainable_variables]
    fixed = [variable.value for variable in network.non_trainable_variables]
    images = np.zeros(BLOCKS_SHAPE, "float32")
    analysis = step.lower(weights, fixed, images).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def kept(layer):
    """Returns the bytes that a layer keeps for its gradient, input included.

    What autograd saves, and what objects in Python hold besides, each storage
    once and weights not at all.
    """
    import torch

    layer.build(LAYER_SHAPE)
    before = living()
    x = keras.ops.convert_to_tensor(np.ones(LAYER_SHAPE, "float32"))
    x.requires_grad_()
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        # The output belongs to what comes next, unless it is saved here, too.
        graph = layer(x, training=True).grad_fn
    after = living()
    assert graph is not None
    return sum(size for key, size in after.items() if key not in before)


def living():
    """Returns the bytes of all storages that tensors in Python have."""
    import torch

    gc.collect()
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def measure(options):
    """Returns bytes by what is measured and by arm."""
    found = {}
    for name in options.models:
        found[f"{name}, growth of the peak"] = {
            arm: grown_in_a_child(name, arm) for arm in ARMS
        }
    if options.mode == "jax":
        title = f"{BLOCKS} blocks, {'x'.join(map(str, BLOCKS_SHAPE))}"
        found[f"{title}, XLA's account"] = {
            arm: accounted(residual_blocks(arm)) for arm in ARMS
        }
    if options.mode == "torch":
        title = f"one layer, {'x'.join(map(str, LAYER_SHAPE))}"
        found[f"{title}, kept for its gradient"] = {
            arm: kept(make_attention(ARMS[arm])) for arm in ("cbam", "naive")
        }
    return found


def table(title, arms):
    """Returns bytes by arm as a Markdown table, in MiB."""
    base = arms.get("none", 0)
    return results.table(
        [
            {
                title: arm,
                "MiB": f"{size / 2**20:.1f}",
                "added MiB": f"{(size - base) / 2**20:.1f}",
            }
            for arm, size in arms.items()
        ]
    )


def main():
    parser = arguments.network_parser(__doc__, 3, ["ResNet50"], 8, 224)
    # A child process measures one network.
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(grown(*options.child, options))
        return
    found = measure(options)
    tables = [table(title, arms) for title, arms in found.items()]
    results.write("memory", options, {"bytes": found}, tables)


if __name__ == "__main__":
    main()
