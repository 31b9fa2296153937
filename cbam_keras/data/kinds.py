"""What examples are: images, signals, volumes, vectors, or several inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

IMAGES, INPUTS = "images", "inputs"
# The arrays of each, from one axis of an example to four.
KINDS = {
    "vectors": "(N, F)",
    "signals": "(N, L, C) or (N, L)",
    IMAGES: "(N, H, W, C) or (N, H, W) in [0, 255]",
    "volumes": "(N, D, H, W, C) or (N, D, H, W)",
}


# Moments are summed up over so many numbers at once, 8 MiB as float64.
NUMBERS_AT_ONCE = 2**20

# The shape of an example, or of each of several inputs by its name.
InputShape = tuple[int, ...] | dict[str, tuple[int, ...]]


def kind_of(shape: InputShape | list[int]) -> str:
    """Returns the kind of examples of a shape, or of shapes by input."""
    if isinstance(shape, Mapping) or not 0 < len(shape) <= len(KINDS):
        return INPUTS
    return [*KINDS][len(shape) - 1]


def noun_of(kind: str) -> str:
    """Returns what one example is called."""
    return "example" if kind == INPUTS else kind.removesuffix("s")


def as_array(examples: Any) -> np.ndarray:
    """Returns examples as one array; several inputs are its fields, `(N,)`."""
    if not isinstance(examples, Mapping):
        return np.asarray(examples)
    # A number for each example is a vector of one.
    inputs = {name: np.asarray(x) for name, x in examples.items()}
    columns = {
        str(name): x[:, None] if np.ndim(x) == 1 else np.atleast_1d(x)
        for name, x in inputs.items()
    }
    shapes = {name: x.shape for name, x in columns.items()}
    counts = {shape[0] for shape in shapes.values()}
    if len(counts) != 1:
        raise ValueError(
            "Several inputs must be a mapping of names to arrays (N, ...), all "
            f"of one length N. Received: arrays of the shapes {shapes}"
        )
    fields = [
        (name, "float32" if x.dtype == "float64" else x.dtype, x.shape[1:])
        for name, x in columns.items()
    ]
    joined = np.empty(counts.pop(), fields)
    for name, x in columns.items():
        joined[name] = x
    return joined


def inputs_of(examples: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Returns the inputs of what `as_array` returned; one is called `kind`."""
    names = examples.dtype.names
    return {x: examples[x] for x in names} if names else {kind: examples}


def shape_of(examples: np.ndarray) -> InputShape:
    """Returns the shape of one example, of several inputs one by name."""
    shapes = {x: y.shape[1:] for x, y in inputs_of(examples, IMAGES).items()}
    return shapes if examples.dtype.names else shapes[IMAGES]


def choose_kind(examples: np.ndarray, kind: str | None) -> str:
    """Returns what examples are, as a user says or by their number of axes."""
    if examples.dtype.names:
        return INPUTS
    usual, sides = kind_of(examples.shape[1:]), {*examples.shape[1:]}
    if usual == IMAGES and not kind:
        first, *others = examples.shape[1:]
        # Another error says how to put channels last.
        is_first = first in (1, 3, 4) and len({*others}) == 1 and len(sides) > 1
        if not is_first and (len(sides) == 1 or others[-1] > 4):
            raise ValueError(
                '4-D arrays are ambiguous: pass kind="volumes" (--kind '
                'volumes) for one channel, (N, D, H, W), or kind="images" for '
                f"(N, H, W, C). Received: an array {examples.shape}"
            )
    if kind or usual != "signals":
        return kind or (IMAGES if usual == INPUTS else usual)
    if examples.dtype != "uint8" and len(sides) > 1:
        raise ValueError(
            "3-D arrays are ambiguous: pass images[..., None] for grayscale "
            'images, or kind="signals" (--kind signals) for signals (N, L, '
            f"C). Received: an array {examples.shape} of {examples.dtype}"
        )
    return IMAGES


def measure_channels(
    examples: np.ndarray, kind: str
) -> dict[str, tuple[list[float], list[float]]]:
    """Returns mean and variance of each channel, as float32, by the input."""
    return {
        name: moments(values)
        for name, values in inputs_of(examples, kind).items()
        # Images in [0, 255] stay as they are.
        if values.ndim != 4
    }


def moments(values: Any) -> tuple[list[float], list[float]]:
    """Returns mean and variance by the last axis, as float32."""
    mean, deviation = moments_of(values)
    variance = np.square(deviation).astype("float32")
    axes = tuple(range(len(values.shape) - 1))
    parts = _divide_rows(values)
    ends = [(part.min(axes), part.max(axes)) for part in parts]
    lowest = np.min([low for low, _ in ends], axis=0)
    highest = np.max([high for _, high in ends], axis=0)
    # A channel that is constant is not divided.
    variance[lowest == highest] = 1
    return mean.astype("float32").tolist(), variance.tolist()


def moments_of(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation by the last axis, float64.

    In parts: `numpy.var` needs twice the memory of float32 values.
    """
    axes = tuple(range(len(values.shape) - 1))
    count = max(1, int(np.prod(values.shape[:-1])))
    mean = np.zeros(values.shape[-1])
    for part in _divide_rows(values):
        mean += part.sum(axes, dtype="float64")
    mean /= count
    squares = np.zeros(values.shape[-1])
    for part in _divide_rows(values):
        squares += np.square(part - mean).sum(axes)
    return mean, np.sqrt(squares / count)


def _divide_rows(values):
    """Yields some rows at a time."""
    count = max(1, int(np.prod(values.shape[1:])))
    step = max(1, NUMBERS_AT_ONCE // count)
    for first in range(0, len(values), step):
        yield values[first : first + step]
