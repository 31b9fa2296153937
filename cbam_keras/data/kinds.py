"""What examples are: images, signals, volumes, vectors, or several inputs."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

# What one example has: a shape, or shapes by the names of inputs.
Shape: TypeAlias = Sequence[int] | Mapping[str, Sequence[int]]

IMAGES, INPUTS = "images", "inputs"
# By the number of axes that an example has.
KINDS = {1: "vectors", 2: "signals", 3: IMAGES, 4: "volumes"}
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
