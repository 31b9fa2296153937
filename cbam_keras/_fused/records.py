"""What the forward pass of a gate keeps for its gradient, and its shapes."""

import math
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """What the gradient of a gate's two pools adds to that of its input.

    `near` is added to each element over which `axis` was pooled, `top` to the
    greatest one, which is at `place` along `axis`: to one of them, if several
    are. Shapes are `(B, 1, N)` if `axis` is 1, and `(B, M, 1)` if it is 2.
    """

    axis: int
    near: Any = None
    top: Any = None
    place: Any = None


class Pooled(NamedTuple):
    """The sum and maximum over an axis, both maybe `None`.

    `place` tells where the maximum is, and `product` is what was pooled.
    """

    total: Any
    peak: Any
    place: Any
    product: Any


def halves(size):
    """Returns two factors of `size`, the first the smaller one, both near."""
    small = math.isqrt(size)
    while size % small:
        small -= 1
    return small, size // small
