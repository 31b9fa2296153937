"""What do the layers cost, beside other code that computes the same?

    python -m benchmarks.layers --mode jax --output runs/bench

Measures forward (as in `predict`) and forward and backward (as in `fit`) of
our CBAM and SE, of the naive layer, and where PyTorch is installed
of the authors' formulation in it, all by turns in one process. The unit is a
copy, `x * 1.5`: what no layer that reads and writes its input can beat.
"""

import argparse
import importlib.util
import statistics
import sys

import keras
import numpy as np

from benchmarks import arguments, modes, results, timing
from benchmarks.naive import NaiveCBAM
from cbam_keras import CBAM, SqueezeExcite
from cbam_keras.layers import ATTENTION, ATTENTION_KINDS

SHAPES = (
    "16x56x56x256 16x28x28x512 16x14x14x1024 16x7x7x2048 64x32x32x64 "
    "1x56x56x256 1x28x28x512 1x14x14x1024 1x7x7x2048"
)
# The geometric mean is taken over so many shapes, the stages of ResNet50.
STAGES = 4
# A single image takes so little time that it needs more calls.
OF_ONE_IMAGE = 4
# Copies: a copy reads once and writes once. Forward, the features must be read
# three times (the spatial gate needs the channel gate, the output needs both)
# and written once; with backward, read seven times and written twice.
BOUNDS = {"forward": (3 + 1) / 2, modes.TRAINING_STEP: (7 + 2) / 2}
COPY, OURS, NAIVE = "copy", "CBAM", "naive CBAM"
AUTHORS = ("authors, PyTorch", "authors, torch.compile")
# `torch.compile` should take at most this fraction of the time of each, forward
# and backward. More is a regression.
COMPILED = "CBAM, torch.compile"
AT_MOST = {OURS: 0.7, AUTHORS[1]: 0.6}


def shape_of(text):
    """Returns the shape that a text such as `"16x56x56x256"` gives."""
    shape = tuple(map(int, text.split("x")))
    # The layers divide the channels by 16.
    if len(shape) != 4 or min(shape) < 1 or shape[-1] < 16:
        raise argparse.ArgumentTypeError(
            f"must be BxHxWxC, with at least 16 channels. Received: {text!r}"
        )
    return shape


def made(attention):
    """Returns the layers to measure by name, CBAM first."""
    layers = {OURS: CBAM(16), NAIVE: NaiveCBAM(16), "SE": SqueezeExcite(16)}
    others = ATTENTION_KINDS if "all" in attention else attention
    known = {"cbam", "se"}
    return layers | {x: ATTENTION[x]() for x in others if x not in known}


def ours(mode, x, cotangent, attention):
    """Returns the two functions of each Keras layer, and the copy."""
    tensors = [keras.ops.convert_to_tensor(value) for value in (x, cotangent)]

    def copied(x, training):
        return x * 1.5

    steps = {COPY: modes.layer_steps(mode, copied, [], *tensors)[:1]}
    for name, layer in made(attention).items():
        layer.build(x.shape)
        variables = layer.trainable_variables
        steps[name] = modes.layer_steps(mode, layer, variables, *tensors)
        if mode == "torch" and name == OURS:
            import torch

            # Graphs for other shapes would count against its limit.
            torch.compiler.reset()
            compiled = torch.compile(layer, dynamic=False)
            steps[COMPILED] = modes.layer_steps(
                mode, compiled, variables, *tensors
            )
    return steps


def authors(mode, x, cotangent):
    """Returns the two functions of the authors' module, if it runs here."""
    if not importlib.util.find_spec("torch"):
        return {}
    import torch

    from benchmarks.authors import AuthorsCBAM

    if modes.gpus() and not torch.cuda.is_available():
        return {}
    device = "cuda" if modes.gpus() else "cpu"
    tensors = [
        torch.tensor(value.transpose(0, 3, 1, 2).copy(), device=device)
        for value in (x, cotangent)
    ]
    steps = {}
    for name in AUTHORS if mode == "torch" else AUTHORS[:1]:
        evaluated = AuthorsCBAM(x.shape[-1]).to(device).eval()
        trained = AuthorsCBAM(x.shape[-1]).to(device)
        weights = list(trained.parameters())
        if name == AUTHORS[1]:
            evaluated = torch.compile(evaluated, dynamic=False)
            trained = torch.compile(trained, dynamic=False)

        def function(x, training, evaluated=evaluated, trained=trained):
            return trained(x) if training else evaluated(x)

        steps[name] = modes.torch_steps(function, weights, *tensors)
    return steps


def measure(options, shape):
    """Returns what was measured at one shape."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, cotangent = (rng.standard_normal(shape, "float32") for _ in range(2))
    steps = ours(options.mode, x, cotangent, options.attention)
    steps |= authors(options.mode, x, cotangent)
    functions = {
        (name, kind): function
        for name, pair in steps.items()
        for kind, function in zip(BOUNDS, pair, strict=False)
    }
    repeats = options.repeats * (OF_ONE_IMAGE if shape[0] == 1 else 1)
    entries = {name: {} for name in steps}
    for (name, kind), times in timing.by_turns(functions, repeats).items():
        entries[name][kind] = times
    print(f"measured {shape}", file=sys.stderr, flush=True)
    return {"shape": shape, "repeats": repeats, "entries": entries}


def mean_ratio(rows, one, other, kind):
    """Returns the geometric mean of times of one thing over another's."""
    return statistics.geometric_mean(
        row["entries"][one][kind]["median"]
        / row["entries"][other][kind]["median"]
        for row in rows
    )


def verdicts(rows):
    """Returns sentences on what compiling the layer takes."""
    for other, most in AT_MOST.items():
        ratio = mean_ratio(rows, COMPILED, other, modes.TRAINING_STEP)
        verdict = "REGRESSION" if ratio > most else "good"
        yield (
            f"{COMPILED}, over {other}, {modes.TRAINING_STEP}: {ratio:.2f}, "
            f"at most {most} is expected: {verdict}."
        )


def table(rows, kind):
    """Returns the times of one kind as a Markdown table."""
    lines = []
    for row in rows:
        copy = row["entries"][COPY]["forward"]["median"]
        own = row["entries"][OURS][kind]["median"]
        for name, entry in row["entries"].items():
            if kind in entry:
                median = entry[kind]["median"]
                # The bound is that of CBAM, not of less work.
                is_bound = "CBAM" in name or name in AUTHORS
                lines.append(
                    {
                        "shape": "x".join(map(str, row["shape"])),
                        kind: name,
                        "ms (10 to 90 %)": timing.milliseconds(entry[kind]),
                        "copies": f"{median / copy:.2f}",
                        "bound": f"{BOUNDS[kind]:.1f}" if is_bound else "",
                        "times ours": f"{median / own:.2f}",
                    }
                )
    return results.table(lines)


def main():
    parser = arguments.parser(__doc__, repeats=20)
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=shape_of,
        default=[*map(shape_of, SHAPES.split())],
        metavar="BxHxWxC",
        help="of the features",
    )
    parser.add_argument(
        "--attention",
        nargs="+",
        choices=("all", *ATTENTION_KINDS),
        default=(),
        help="further layers to measure, by name",
    )
    options = parser.parse_args()
    rows = [measure(options, shape) for shape in options.shapes]
    stages = rows[:STAGES]
    means = {
        kind: {
            name: mean_ratio(stages, name, OURS, kind)
            for name, entry in stages[0]["entries"].items()
            if kind in entry
        }
        for kind in BOUNDS
    }
    listed = ", ".join(f"{kind} {x[NAIVE]:.2f}" for kind, x in means.items())
    texts = [table(rows, kind) for kind in BOUNDS]
    texts.append(
        f"Geometric mean of naive over ours, first {len(stages)} shapes: "
        f"{listed}."
    )
    if options.mode == "torch":
        texts += verdicts(rows)
    record = {
        "bounds_in_copies": BOUNDS,
        "shapes": rows,
        "over_ours": means,
    }
    packages = [sys.modules["torch"]] if "torch" in sys.modules else []
    results.write("layers", options, record, texts, packages)


if __name__ == "__main__":
    main()
