"""What do the layers cost, beside other code that computes the same?

    python -m benchmarks.layers --mode jax --output runs/bench

Measures forward (as in `predict`) and forward and backward (as in `fit`) of
our CBAM and SE, of the naive layer, and where PyTorch is installed
of the authors' formulation in it, all by turns in one process. The unit is a
copy, `x * 1.5`: what no layer that reads and writes its input can beat. Prints
a table, and writes what is in it to `layers-MODE.json` in the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools
import importlib.util

import keras
import numpy as np

from benchmarks import arguments, results, timing
from benchmarks.naive import NaiveCBAM
from cbam_keras import CBAM, SqueezeExcite, _terminal

SHAPES = (
    *("16x56x56x256", "16x28x28x512", "16x14x14x1024", "16x7x7x2048"),
    "64x32x32x64",
    *("1x56x56x256", "1x28x28x512", "1x14x14x1024", "1x7x7x2048"),
)
# Over these the geometric mean is taken: the stages of ResNet50.
STAGES = 4
# A single image takes so little time that it needs more calls.
OF_ONE_IMAGE = 4
# Copies: a copy reads once and writes once. Forward, the features must be read
# three times (the spatial gate needs the channel gate, the output needs both)
# and written once; with backward, read seven times and written twice.
BOUNDS = {"forward": (3 + 1) / 2, modes.TRAINING_STEP: (7 + 2) / 2}
LAYERS = {"CBAM": CBAM, "naive CBAM": NaiveCBAM, "SE": SqueezeExcite}
COPY = "copy"
# What `torch.compile` should take at most, forward and backward, of the time
# of these. More is a regression.
COMPILED = "CBAM, torch.compile"
AT_MOST = {"CBAM": 0.7, "authors, torch.compile": 0.6}


def ours(mode, shape, dtype, x, cotangent):
    """Returns the two functions of each Keras layer, and the copy."""
    x, cotangent = (
        keras.ops.convert_to_tensor(
            value, keras.DTypePolicy(dtype).compute_dtype
        )
        for value in (x, cotangent)
    )

    def copied(x, training):
        return x * 1.5

    steps = {COPY: modes.layer_steps(mode, copied, [], x, cotangent)[:1]}
    for name, kind in LAYERS.items():
        layer = kind(16, dtype=dtype)
        layer.build(shape)
        variables = layer.trainable_variables
        steps[name] = modes.layer_steps(mode, layer, variables, x, cotangent)
        if mode == "torch" and name == "CBAM":
            import torch

            compiled = torch.compile(layer, dynamic=False)
            steps[COMPILED] = modes.layer_steps(
                mode, compiled, variables, x, cotangent
            )
    return steps


def torch_modules(mode, channels, notes):
    """Returns functions that make the modules to measure, by name."""
    from benchmarks.authors import AuthorsCBAM

    makers = {"authors, PyTorch": functools.partial(AuthorsCBAM, channels)}
    if importlib.util.find_spec("timm"):
        from timm.layers import CbamModule

        makers["timm, PyTorch"] = functools.partial(CbamModule, channels)
    else:
        notes.add("timm: not installed")
    if mode == "torch":
        import torch

        # What was compiled for other shapes would count against its limit.
        torch.compiler.reset()
        makers["authors, torch.compile"] = lambda: torch.compile(
            AuthorsCBAM(channels), dynamic=False
        )
    return makers


def module_steps(make, dtype, x, cotangent):
    """Returns the two functions of a PyTorch module, channels first."""
    import torch

    device = "cuda" if modes.on_gpu() else "cpu"
    x, cotangent = (
        torch.tensor(value.transpose(0, 3, 1, 2).copy(), device=device)
        for value in (x, cotangent)
    )
    policy = keras.DTypePolicy(dtype)
    half = getattr(torch, policy.compute_dtype)
    x, cotangent = x.to(half), cotangent.to(half)
    mixed = torch.autocast(device, half, enabled=half != torch.float32)
    watched = x.clone().requires_grad_()
    evaluated, trained = make().to(device).eval(), make().to(device).train()
    wanted = [watched, *trained.parameters()]

    def forward():
        with torch.no_grad(), mixed:
            evaluated(x)
        modes.wait_for_torch()

    def both():
        with mixed:
            y = trained(watched)
        torch.autograd.grad(y, wanted, cotangent.to(y.dtype))
        modes.wait_for_torch()

    return forward, both


def others(mode, dtype, x, cotangent, notes):
    """Returns the two functions of each module in PyTorch that runs here."""
    if not importlib.util.find_spec("torch"):
        notes.add("PyTorch: not installed")
        return {}
    import torch

    if modes.on_gpu() and not torch.cuda.is_available():
        notes.add("PyTorch: sees no GPU, and is left out")
        return {}
    steps = {}
    for name, make in torch_modules(mode, x.shape[-1], notes).items():
        try:
            forward, both = module_steps(make, dtype, x, cotangent)
            forward(), both()
        except Exception as error:
            # A compiler that is missing, or a precision that the device has
            # not, is no reason to measure nothing.
            reason = str(error).strip() or type(error).__name__
            notes.add(f"{name}: left out, {reason.splitlines()[0]}")
        else:
            steps[name] = forward, both
    return steps


def measure(options, shape, notes):
    """Returns what was measured at one shape."""
    rng = np.random.default_rng(0)
    x, cotangent = (rng.standard_normal(shape, "float32") for _ in range(2))
    steps = ours(options.mode, shape, options.dtype, x, cotangent)
    steps |= others(options.mode, options.dtype, x, cotangent, notes)
    functions = {
        (name, kind): function
        for name, pair in steps.items()
        for kind, function in zip(BOUNDS, pair, strict=False)
    }
    repeats = options.repeats * (OF_ONE_IMAGE if shape[0] == 1 else 1)
    seconds = timing.by_turns(functions, repeats)
    entries = {name: {} for name in steps}
    for (name, kind), values in seconds.items():
        entries[name][kind] = timing.spread(values)
    copy = entries[COPY]["forward"]["median"]
    for entry in entries.values():
        for measured in entry.values():
            measured["copies"] = measured["median"] / copy
    return {
        "shape": shape,
        "repeats": repeats,
        "entries": entries,
        "naive_over_ours": {
            kind: entries["naive CBAM"][kind]["median"]
            / entries["CBAM"][kind]["median"]
            for kind in BOUNDS
        },
    }


def compiled_ratios(rows):
    """Returns sentences on what compiling the layer takes, if it was."""
    sentences = []
    for other, most in AT_MOST.items():
        entries = [row["entries"] for row in rows]
        if not all({COMPILED, other} <= set(entry) for entry in entries):
            continue
        ratio = timing.geometric_mean(
            entry[COMPILED][modes.TRAINING_STEP]["median"]
            / entry[other][modes.TRAINING_STEP]["median"]
            for entry in entries
        )
        verdict = "REGRESSION" if ratio > most else "good"
        sentences.append(
            f"{COMPILED}, over {other}, {modes.TRAINING_STEP}: {ratio:.2f}, "
            f"at most {most} is expected: {verdict}."
        )
    return sentences


def table(rows, kind):
    """Returns the times of one kind as a Markdown table."""
    columns = {"shape": "left", kind: "left", "ms (10 to 90 %)": "right"}
    columns |= {"copies": "right", "bound": "right", "times ours": "right"}
    sections = []
    for row in rows:
        own = row["entries"]["CBAM"][kind]["median"]
        section = [
            (
                "x".join(map(str, row["shape"])),
                name,
                timing.milliseconds(entry[kind]),
                f"{entry[kind]['copies']:.2f}",
                # The bound is that of CBAM, not of less work.
                "" if name in (COPY, "SE") else f"{BOUNDS[kind]:.1f}",
                f"{entry[kind]['median'] / own:.2f}",
            )
            for name, entry in row["entries"].items()
            if kind in entry
        ]
        sections.append(section)
    return _terminal.render(columns, sections, markdown=True)


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=20)
    arguments.add_shapes(parser, [arguments.shape_of(x) for x in SHAPES])
    arguments.add_dtype(parser, "float32")
    options = parser.parse_args()
    notes = set()
    rows = []
    for shape in options.shapes:
        keras.utils.set_random_seed(0)
        rows.append(measure(options, shape, notes))
        print(f"measured {shape}", file=sys.stderr, flush=True)
    means = {
        kind: timing.geometric_mean(
            row["naive_over_ours"][kind] for row in rows[:STAGES]
        )
        for kind in BOUNDS
    }
    packages = [
        sys.modules[name] for name in ("torch", "timm") if name in sys.modules
    ]
    record = {
        **results.conditions(options, packages),
        "dtype": options.dtype,
        "bounds_in_copies": BOUNDS,
        "shapes": rows,
        "geometric_mean_of_naive_over_ours": means,
        "notes": sorted(notes),
    }
    listed = ", ".join(f"{kind} {mean:.2f}" for kind, mean in means.items())
    end = "Geometric mean of naive over ours, first "
    end += f"{len(rows[:STAGES])} shapes: {listed}."
    tables = [table(rows, kind) for kind in BOUNDS]
    texts = [*tables, end, *compiled_ratios(rows), *sorted(notes)]
    results.write("layers", options, record, texts)


if __name__ == "__main__":
    main()
