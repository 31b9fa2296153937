"""How much memory does attention add to a step of training?

    python -m benchmarks.memory --mode jax --output runs/bench

Measures by what the peak of a process grows in a few steps of training, in a
process of its own for each kind of attention. In mode `jax` XLA's own account
of the step is printed too, and in mode `torch` what one layer keeps for its
gradient. Prints tables, and writes what is in them to `memory-MODE.json` in
the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import argparse
import gc
import json
import resource
import subprocess

import keras
import numpy as np

from benchmarks import arguments, networks, results, timing
from benchmarks.naive import ARMS, NaiveCBAM
from cbam_keras import CBAM, _terminal
from cbam_keras.layers import make_attention

BLOCKS = 4


def peak_resident():
    """Returns the highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_on_device():
    """Returns the highest memory taken on the GPU so far, or `None`."""
    if not modes.on_gpu():
        return None
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if keras.config.backend() == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()


def grown(options):
    """Returns by what the peaks grow in steps, in this process."""
    name, arm = options.child
    network = networks.compiled(name, arm, options)
    images, labels = networks.batch(options.batch_size, options.image_size)
    before = peak_resident()
    for _ in range(options.repeats):
        networks.train(network, images, labels)
    return {
        "resident": peak_resident() - before,
        "on_device": peak_on_device(),
    }


def grown_in_children(name):
    """Returns what `grown` does, of each arm in a process of its own.

    On Linux a child inherits the peak of its parent, so this process must run
    no network before: a child's own start then needs more.
    """
    arms = {}
    for arm in ARMS:
        command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
        command += ["--child", name, arm]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"memory: {name} with attention={arm} failed")
        arms[arm] = json.loads(done.stdout.splitlines()[-1])
        print(f"measured {name}, {arm}", file=sys.stderr, flush=True)
    return arms


def residual_blocks(shape, attention):
    """Returns blocks of convolution, normalization, ReLU and attention."""
    x = inputs = keras.Input(shape[1:])
    for _ in range(BLOCKS):
        y = keras.layers.Conv2D(shape[-1], 3, padding="same", use_bias=False)(x)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.ReLU()(y)
        layer = make_attention(ARMS[attention])
        y = y if layer is None else layer(y)
        x = keras.layers.Add()([x, y])
    return keras.Model(inputs, x)


def accounted(network, images):
    """Returns the bytes that XLA sets aside for values within a step."""
    import jax

    fixed = [variable.value for variable in network.non_trainable_variables]

    def loss(weights, fixed, images):
        outputs, fixed = network.stateless_call(
            weights, fixed, images, training=True
        )
        return keras.ops.mean(outputs * outputs), fixed

    @jax.jit
    def step(weights, fixed, images):
        (_, fixed), gradients = jax.value_and_grad(loss, has_aux=True)(
            weights, fixed, images
        )
        return [
            w - 1e-3 * d for w, d in zip(weights, gradients, strict=True)
        ], fixed

    weights = [variable.value for variable in network.trainable_variables]
    analysis = step.lower(weights, fixed, images).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def all_accounted(options):
    """Returns XLA's account of the blocks and of each network, by arm."""
    shape = options.blocks_shape
    images = networks.batch(options.batch_size, options.image_size)[0]
    found = {
        f"{BLOCKS} blocks, {'x'.join(map(str, shape))}, XLA's account": {
            arm: accounted(
                residual_blocks(shape, arm), np.zeros(shape, "float32")
            )
            for arm in ARMS
        }
    }
    for name in options.models:
        found[f"{name}, XLA's account"] = {
            arm: accounted(networks.compiled(name, arm, options), images)
            for arm in ARMS
        }
    return found


def kept(layer, shape):
    """Returns the bytes that a layer keeps for its gradient, input included.

    What autograd saves, and what objects in Python hold besides, each storage
    once and weights not at all.
    """
    import torch

    layer.build(shape)
    x = keras.ops.convert_to_tensor(np.ones(shape, "float32"))
    x.requires_grad_()
    weights = _storages(variable.value for variable in layer.variables)
    before = _storages(_live_tensors())
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = layer(x, training=True)
    output = _storages([y])
    live = _storages(_live_tensors())
    kept = {key: live[key] for key in set(live) - set(before)}
    kept |= _storages(saved)
    # The output belongs to what comes next, unless it is needed here too.
    for key in {*weights, *(set(output) - set(_storages(saved)))}:
        kept.pop(key, None)
    return sum(kept.values())


def _live_tensors():
    import torch

    gc.collect()
    return [x for x in gc.get_objects() if type(x) is torch.Tensor]


def _storages(tensors):
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def table(title, arms):
    """Returns bytes by arm as a Markdown table, in MiB."""
    columns = {title: "left", "MiB": "right", "added MiB": "right"}
    columns["of what naive adds"] = "right"
    rows = []
    for arm, size in arms.items():
        added = f"{(size - arms['none']) / 2**20:.1f}"
        ratio = timing.ratio_text(timing.added_ratio(arms))
        rows.append(
            (
                *(arm, f"{size / 2**20:.1f}"),
                *(
                    "" if arm == "none" else added,
                    ratio if arm == "cbam" else "",
                ),
            )
        )
    return _terminal.render(columns, [rows], markdown=True)


def measure(options):
    """Returns bytes by what is measured and by arm."""
    found = {}
    for name in options.models:
        grown = grown_in_children(name)
        found[f"{name}, peak of steps"] = {
            arm: sizes["resident"] for arm, sizes in grown.items()
        }
        if grown["none"]["on_device"] is not None:
            found[f"{name}, peak on the GPU"] = {
                arm: sizes["on_device"] for arm, sizes in grown.items()
            }
    if options.mode == "jax":
        found |= all_accounted(options)
    return found


def kept_by_layers(shape):
    """Returns what one layer keeps for its gradient, and a sentence of it."""
    sizes = {"cbam": kept(CBAM(), shape), "naive": kept(NaiveCBAM(), shape)}
    ours, naive = (f"{size / 2**20:.1f} MiB" for size in sizes.values())
    return sizes, (
        f"One layer at {'x'.join(map(str, shape))} keeps {ours} for its "
        f"gradient, naive {naive}: {sizes['cbam'] / sizes['naive']:.2f} of it."
    )


def main():
    parser = arguments.parser(
        __doc__.splitlines()[0], 3, arguments.NETWORK_MODES
    )
    arguments.add_models(parser, ["ResNet50"])
    arguments.add_batch_size(parser, 8)
    arguments.add_dtype(parser, "float32")
    parser.add_argument(
        "--image-size", type=arguments.positive_integer, default=224
    )
    for name, shape in (("blocks", "28x28x256"), ("layer", "28x28x512")):
        parser.add_argument(
            f"--{name}-shape",
            type=arguments.shape_of,
            default=arguments.shape_of(f"16x{shape}"),
            metavar="BxHxWxC",
        )
    # What a child process measures.
    parser.add_argument(
        "--child", nargs=2, default=None, help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(grown(options)))
        return
    found = measure(options)
    record = {
        **results.conditions(options),
        "batch_size": options.batch_size,
        "dtype": options.dtype,
        "image_size": options.image_size,
        "bytes": found,
    }
    tables = [table(title, arms) for title, arms in found.items()]
    if options.mode == "torch":
        record["kept"], sentence = kept_by_layers(options.layer_shape)
        tables.append(sentence)
    tables.append(networks.sizes(options))
    results.write("memory", options, record, tables)


if __name__ == "__main__":
    main()
