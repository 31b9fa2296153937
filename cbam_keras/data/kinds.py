"""What examples are: images, signals, volumes, vectors, or several inputs."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

# What one example has: a shape, or shapes by the names of inputs.
Shape: TypeAlias = Sequence[int] | Mapping[str, Sequence[int]]

IMAGES, INPUTS = "images", "inputs"
# By the number of axes that an example has.
KINDS = {1: "vectors", 2: "signals", 3: IMAGES, 4: "volumes"}
# The arrays of N examples.
FORMS = {
    "vectors": "(N, F)",
    "signals": "(N, L, C) or (N, L)",
    IMAGES: "(N, H, W, C) or (N, H, W) in [0, 255]",
    "volumes": "(N, D, H, W, C) or (N, D, H, W)",
    INPUTS: "as a mapping of names to arrays (N, ...)",
}
# What one of them is called.
NOUNS = {kind: kind.removesuffix("s") for kind in KINDS.values()}
NOUNS[INPUTS] = "example"


def kind_of(shape: Shape) -> str:
    """Returns the kind of examples of a shape, without the batch."""
    several = isinstance(shape, Mapping)
    return INPUTS if several else KINDS.get(len(shape), INPUTS)


def noun_of(shape: Shape) -> str:
    """Returns what one example of a shape is called."""
    return NOUNS[kind_of(shape)]


def as_array(examples: Any) -> np.ndarray:
    """Returns examples as one array; several inputs are its fields, `(N,)`.

    So their rows are taken, joined and hashed as those of any array.
    """
    if not isinstance(examples, Mapping):
        return np.asarray(examples)
    inputs = {str(name): np.asarray(x) for name, x in examples.items()}
    shapes = {name: x.shape for name, x in inputs.items()}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            "Several inputs must be a mapping of names to arrays (N, ...), all "
            f"of one length N. Received: arrays of the shapes {shapes}"
        )
    # A number for each example is a vector of one.
    columns = {x: y if y.ndim > 1 else y[:, None] for x, y in inputs.items()}
    joined = np.empty(
        len(next(iter(columns.values()))),
        [
            (name, "float32" if x.dtype == "float64" else x.dtype, x.shape[1:])
            for name, x in columns.items()
        ],
    )
    for name, x in columns.items():
        joined[name] = x
    return joined


def inputs_of(examples: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Returns the inputs of what `as_array` returned; one is called `kind`."""
    names = examples.dtype.names
    return {x: examples[x] for x in names} if names else {kind: examples}


def shape_of(examples: np.ndarray) -> Shape:
    """Returns the shape of one example, of several inputs one by name."""
    if not examples.dtype.names:
        return examples.shape[1:]
    return {x: y.shape[1:] for x, y in inputs_of(examples, INPUTS).items()}


def choose_kind(examples: np.ndarray, kind: str | None) -> str:
    """Returns what examples are, as a user says or by their number of axes."""
    if examples.dtype.names:
        return INPUTS
    shape = examples.shape
    if kind is None and len(shape) == 3 and examples.dtype != "uint8":
        if shape[1] != shape[2]:
            raise ValueError(
                "`data` of three axes must say what they are: images[..., "
                'None] of gray images, or kind="signals" (--kind signals) of '
                f"signals (N, L, C). Received: an array of shape {shape} of "
                f"{examples.dtype}"
            )
    usual = IMAGES if len(shape) == 3 else KINDS.get(len(shape) - 1, IMAGES)
    return kind or usual


def add_channels(examples: np.ndarray, kind: str) -> np.ndarray:
    """Returns examples with an axis of channels, where that is left out."""
    axes = {name: 1 + number for number, name in KINDS.items()}
    is_open = examples.ndim + 1 == axes.get(kind)
    return examples[..., None] if is_open else examples
