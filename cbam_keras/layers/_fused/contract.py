"""The formulas of the fused operation, and what a backend supplies for it.

Attention maps take next to no arithmetic: the time goes into reading and
writing the features. So one or two gates run as one operation with a custom
gradient, which keeps only the input and small residuals and passes over the
features a few times. The gradients of the single operations keep several
copies of the features and pass over them about twenty times.

The features are viewed as `x` of shape `(B, M, N)`. With `channels_last`,
`M` is the number of positions and `N` the number of channels; with
`channels_first` the other way round. A gate pools over axis 1 or axis 2, and
multiplies by a map of the pooled shape: `(B, 1, N)` for axis 1, `(B, M, 1)`
for axis 2. All that is small below has one of these two shapes.

Forward, for gates 1 and 2 in the order in which they are applied:

    p = x * map1(pools(x))
    y = p * map2(pools(p))      # or map2(pools(x)) if they are parallel

With one gate, `y = p`. Residuals are `x` and, for each gate, its map, the
argmax of its max pool, and the vjp function of what computes the map from the
pooled values (the MLP or convolution of the layer, which the backend
differentiates).

Backward, where `d` marks cotangents and `dy` is given:

    dmap2 = sum(dy * x * map1)             # over the axis that gate 2 pools
    dp = dy * map2 + pools_vjp(vjp2(dmap2))
    dmap1 = sum(dp * x)                    # over the axis that gate 1 pools
    dx = dp * map1 + pools_vjp(vjp1(dmap1))

If the gates are parallel, `pools_vjp(vjp2(dmap2))` is added to `dx` and not
to `dp`. With one gate, `dp = dy`. `pools_vjp` adds the cotangent of a sum to
every element, and that of a maximum to the one element at the argmax.

`operation` has the code of these formulas. The functions that go over the
features, the passes, are in a module for each backend, in this order:

- `reshape(x, shape)` and `cast(x, dtype)`, those of the backend.
- `supports(x)`: whether the passes can compute with this input, here, and repay
  what compiling them takes.
- `needs_gradient(x, weights, training)`: whether `custom_vjp` is to be used for
  this call. If not, the output is computed by operations with gradients of
  their own: those are right, but slower.
- `fuses_inference()`: whether the passes are also used where `needs_gradient`
  is `False`, and not the formula.
- `convolve`, which does what `convolution.convolve` says, and `maximum`, that
  of `pools`.
- `custom_vjp(forward, backward, formula, arguments)`: the outputs of an
  operation with a gradient of its own. The first one is `y`; the others have no
  gradient. `arguments` are `x` and the weights of the gates. `forward` also
  takes `with_argmax=False`, for where no gradient follows. `backward` takes
  `dy`, `x` and the residuals, and returns the cotangents of `arguments`.
  `formula` has single operations, for derivatives of the gradient.
- `vjp(function, values, weights)`: the map and the state of `function(values,
  weights)`, and a function from the cotangent of the map to two sequences,
  those of `values` and of `weights`. The state has no gradient.
- `pool(x, gate_map, axis, pool_types, dtype, with_argmax)`: the pools of `x`,
  or of `x * gate_map`, over an axis, as `Pooled`. `"avg"` in `pool_types` asks
  for the sum, `"max"` for the maximum and, `with_argmax`, its argmax. `dtype`
  is that of sum and maximum.
- `scale(product, gate_map, x)`: `product * gate_map`. `product` is not used
  afterwards unless it is `x`, so its memory may be used for the result.
- `Backward(dy, x)`: the passes of the gradient, methods that are called once
  each, in this order: `dmap2(map1, axis)`, `dmap1(map2, to_dp, axis)` and
  `dx(map1, map2, to_dp, to_dx)`. Each returns the cotangent of that name.
  `map2` is `None` and `dmap2` is not called if there is one gate. `axis` is
  what the gate pools over; `to_dp` and `to_dx` are lists of `PoolCotangents`,
  which `pools_vjp` adds to `dp` and to `dx`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Tensor = Any

# Compiling the passes takes a CPU up to half a second for each size of the
# features. Steps of 32 images repay it within some 250 steps if an image has
# more values than this. `python -m benchmarks startup` measures both.
SMALL = 2**14


class Pooled(NamedTuple):
    """The pools of a gate over one axis, each of the pooled shape or `None`.

    `argmax` holds integers, positions of the maxima along the axis: one of
    them where several elements are greatest. `product` is what was pooled, of
    the shape of `x`.
    """

    sum: Tensor
    max: Tensor
    argmax: Tensor
    product: Tensor


class Residuals(NamedTuple):
    """What the gradient of a gate needs: its map, argmax and vjp function."""

    map: Tensor
    argmax: Tensor
    vjp: Callable[[Tensor], tuple[Sequence[Tensor], Sequence[Tensor]]]


class PoolCotangents(NamedTuple):
    """Cotangents of the pools of a gate, of the pooled shape or `None`.

    The argument of `pools_vjp`: `sum` is added to all elements along `axis`,
    and `max` to the element at `argmax`.
    """

    axis: int
    sum: Tensor
    max: Tensor
    argmax: Tensor


def is_small(x: Tensor) -> bool:
    """Returns whether steps are too short to repay compiling the passes."""
    sizes = x.shape[1:]
    are_static = all(isinstance(size, int) for size in sizes)
    return are_static and math.prod(sizes) <= SMALL


def factors(size: int) -> tuple[int, int]:
    """Returns two factors of `size` close to its root, the smaller first."""
    smaller = math.isqrt(size)
    while size % smaller:
        smaller -= 1
    return smaller, size // smaller


def pooled_as_one(shape, axis):
    """Returns a shape of rank 3, whose axis 1 has all that is pooled.

    `axis` is one axis of `shape`, or several that are adjacent.
    """
    axes = [axis] if isinstance(axis, int) else axis
    axes = sorted(pooled_axis % len(shape) for pooled_axis in axes)
    first = axes[0]
    after = axes[-1] + 1
    return (
        math.prod(shape[:first]),
        math.prod(shape[first:after]),
        math.prod(shape[after:]),
    )
