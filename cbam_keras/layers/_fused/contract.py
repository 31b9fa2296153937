"""The formulas of the fused operation, and what a backend supplies for it.

The time goes into reading and writing the features. So one or two gates run as
one operation with a custom gradient, which keeps only the input and small
residuals and passes over the features a few times, instead of about twenty.

The features are viewed as `x` of shape `(B, M, N)`. With `channels_last`,
`M` is the number of positions and `N` the number of channels; with
`channels_first` the other way round. A gate pools over axis 1 or axis 2, and
multiplies by a map of the pooled shape: `(B, 1, N)` or `(B, M, 1)`.

Forward, for gates 1 and 2 in the order in which they are applied:

    p = x * map1(pools(x))
    y = p * map2(pools(p))      # or map2(pools(x)) if they are parallel

With one gate, `y = p`. Residuals are `x` and, for each gate, its map, the
argmax of its max pool, and the vjp function of what computes the map from the
pooled values.

Backward, where `d` marks cotangents and `dy` is given:

    dmap2 = sum(dy * x * map1)             # over the axis that gate 2 pools
    dp = dy * map2 + pools_vjp(vjp2(dmap2))
    dmap1 = sum(dp * x)                    # over the axis that gate 1 pools
    dx = dp * map1 + pools_vjp(vjp1(dmap1))

If the gates are parallel, `pools_vjp(vjp2(dmap2))` is added to `dx` and not
to `dp`. With one gate, `dp = dy`. `pools_vjp` adds the cotangent of a sum to
every element, and that of a maximum to the one element at the argmax.

`operation` has the code of these formulas. A module for each backend has what
goes over the features, the passes, in this order:

- `reshape(x, shape)`, `cast(x, dtype)`, `convolve` and `maximum`.
- `supports(x)`: whether the passes take this input, and repay compiling them.
- `needs_gradient(x, weights, training)`: whether this call uses `custom_vjp`.
- `fuses_inference()`: whether calls without gradient use the passes, too.
- `custom_vjp(forward, backward, formula, arguments)`: `y`, and outputs without
  gradient, of an operation with a gradient of its own. `arguments` are `x` and
  the weights. `forward` takes `with_argmax=False` where no gradient follows.
  `backward` takes `dy`, `x` and the residuals, and returns the cotangents of
  `arguments`. `formula` is for derivatives of the gradient.
- `vjp(function, values, weights)`: the map and the state of `function(values,
  weights)`, and a function from the cotangent of the map to two sequences,
  those of `values` and of `weights`. The state has no gradient.
- `pool(x, gate_map, axis, pool_types, dtype, with_argmax)`: the pools of `x`,
  or of `x * gate_map`, over an axis, as `Pooled`; sum and maximum in `dtype`.
- `scale(product, gate_map, x)`: `product * gate_map`. `product` is not used
  afterwards unless it is `x`, so its memory may be used for the result.
- `Backward(dy, x)`: the passes of the gradient, methods that are called once
  each, in this order: `dmap2(map1, axis)`, `dmap1(map2, to_dp, axis)` and
  `dx(map1, map2, to_dp, to_dx)`. `axis` is what the gate pools over; `to_dp`
  and `to_dx` are lists of `PoolCotangents`, which `pools_vjp` adds to each.
  With one gate `map2` is `None`, and `dmap2` is not called.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Tensor = Any

# Images of more values repay compiling, see `python -m benchmarks startup`.
SMALL = 2**14


class Pooled(NamedTuple):
    """The pools of a gate over one axis, each of the pooled shape or `None`."""

    sum: Tensor
    max: Tensor
    # The position of a maximum along the axis.
    argmax: Tensor
    # What was pooled, of the shape of `x`.
    product: Tensor


class Residuals(NamedTuple):
    """What the gradient of a gate needs: its map, argmax and vjp function."""

    map: Tensor
    argmax: Tensor
    vjp: Callable[[Tensor], tuple[Sequence[Tensor], Sequence[Tensor]]]


class PoolCotangents(NamedTuple):
    """Cotangents of the pools of a gate, of the pooled shape or `None`."""

    axis: int
    sum: Tensor
    max: Tensor
    argmax: Tensor


def is_small(x: Tensor) -> bool:
    """Returns whether compiling the passes for features takes too long."""
    sizes = x.shape[1:]
    are_known = all(isinstance(size, int) for size in sizes)
    return are_known and math.prod(sizes) <= SMALL


def factors(size: int) -> tuple[int, int]:
    """Returns two factors of `size` close to its root, in order."""
    small = math.isqrt(size)
    while size % small:
        small -= 1
    return small, size // small


def pooled_as_one(shape, axis):
    """Returns a shape of rank 3, whose axis 1 has all that is pooled."""
    axes = [axis] if isinstance(axis, int) else axis
    axes = sorted(i % len(shape) for i in axes)
    start, stop = axes[0], axes[-1] + 1
    parts = shape[:start], shape[start:stop], shape[stop:]
    return tuple(map(math.prod, parts))
