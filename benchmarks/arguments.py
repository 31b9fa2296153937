"""Options that several benchmarks take. Imports no backend."""

import argparse
import pathlib

# The backend, and for TensorFlow whether XLA compiles.
MODES = ("tensorflow-graph", "tensorflow-xla", "jax", "torch")
# Networks can be compiled by `torch.compile` as well.
COMPILED = "torch-compile"
NETWORK_MODES = (*MODES, COMPILED)
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
NETWORKS = ("ResNet18", "ResNet50", "MobileNet")
OUTPUT = pathlib.Path("runs/bench")


def backend_of(mode: str) -> str:
    return mode.partition("-")[0]


def positive_integer(text: str) -> int:
    """Returns the positive integer that a text gives."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a positive integer. Received: {text!r}"
        )
    return int(text)


def parser(docstring, repeats, modes=MODES):
    """Returns a parser of the options that every script takes."""
    parser = argparse.ArgumentParser(
        description=docstring.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--mode",
        required=True,
        choices=modes,
        help="the backend, and whether a compiler is used",
    )
    parser.add_argument(
        "--repeats",
        type=positive_integer,
        default=repeats,
        help="of each measurement",
    )
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    return parser


def network_parser(docstring, repeats, models, batch_size, image_size):
    """Returns a parser for scripts that train networks."""
    parsed = parser(docstring, repeats, NETWORK_MODES)
    parsed.add_argument(
        "--models", nargs="+", choices=(*NETWORKS, "tiny"), default=models
    )
    parsed.add_argument("--dtype", choices=DTYPES, default="float32")
    for name, default in (
        ("--batch-size", batch_size),
        ("--image-size", image_size),
    ):
        parsed.add_argument(name, type=positive_integer, default=default)
    return parsed
