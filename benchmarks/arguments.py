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


def positive_integer(text: str) -> int:
    """Returns the positive integer that a text gives."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a positive integer. Received: {text!r}"
        )
    return int(text)


def shape_of(text: str) -> tuple[int, ...]:
    """Returns the shape that a text such as `"16x56x56x256"` gives."""
    parts = text.split("x")
    shape = tuple(int(part) if part.isdecimal() else 0 for part in parts)
    # The naive layer divides the channels by 16.
    if len(shape) != 4 or min(shape) < 1 or shape[-1] < 16:
        raise argparse.ArgumentTypeError(
            "must be BxHxWxC: images, height, width and at least 16 "
            f"channels, as 16x56x56x256. Received: {text!r}"
        )
    return shape


def parser(description, repeats, modes=MODES):
    """Returns a parser of the options that every script takes."""
    parser = argparse.ArgumentParser(
        description=description,
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


def add_shapes(parser, default):
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=shape_of,
        default=default,
        metavar="BxHxWxC",
        help="of the features",
    )


def add_models(parser, default):
    parser.add_argument(
        "--models",
        nargs="+",
        choices=NETWORKS,
        default=default,
        help="the networks",
    )


def add_dtype(parser, default):
    parser.add_argument(
        "--dtype", choices=DTYPES, default=default, help="Keras' dtype policy"
    )


def add_batch_size(parser, default):
    parser.add_argument(
        "--batch-size",
        type=positive_integer,
        default=default,
        help="images per step",
    )
