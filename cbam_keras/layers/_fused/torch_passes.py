"""PyTorch's implementation of the passes that `contract` describes.

Each operation goes over the features once, so they run in place where that is
safe: allocating a tensor takes three times as long as filling an existing
one, measured on two cores at (16, 56, 56, 256).
"""

import torch
from torch.nn import functional

from cbam_keras.layers._fused import contract, private, rows
from cbam_keras.layers._fused.contract import Pooled

# By the number of spatial axes, less one.
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)

reshape = torch.reshape
cast = torch.Tensor.to

# PyTorch 2.6 can't tell exports from `torch.compile`: treat both as exports.
_is_exporting = getattr(
    torch.compiler, "is_exporting", torch.compiler.is_compiling
)


def supports(x):
    if _compiles():
        return True
    # Exports, traces and transformations need single operations, and tangents
    # pass through no custom gradient.
    return not (
        x.is_meta
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or private.torch_transforms()
        or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
    )


def needs_gradient(x, weights, training):
    autocasts = torch.is_autocast_enabled(x.device.type)
    # A compiler takes the gradient itself, and fuses what that needs. Of eight
    # small images, single operations take less time than a call of ours.
    return (
        training is not False
        and not _compiles()
        and (x.numel() > 8 * contract.SMALL or autocasts)
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in (x, *weights))
    )


def fuses_inference():
    return True


def convolve(maps, kernel, dilation_rate):
    if _compiles() and _on_cpu(maps) and rows.can_convolve(maps):
        return _convolve_compiled(maps, kernel, dilation_rate)
    *sizes, count, _ = kernel.shape
    rank = len(sizes)
    kernel = kernel.permute(rank + 1, rank, *range(rank))
    # A CPU has no gradient for float64 and a single image if the kernel is
    # not contiguous. Flattening copies it in this order.
    kernel = kernel.flatten().view(1, count, *sizes)
    convolved = _CONVOLUTIONS[rank - 1](
        # PyTorch would export the axis -1 as a transposition that is not valid.
        maps.movedim(rank + 1, 1),
        kernel,
        # PyTorch takes longer for "same".
        padding=[size // 2 * dilation_rate for size in sizes],
        dilation=dilation_rate,
    )
    return convolved.movedim(1, rank + 1)


def maximum(x, axis, keepdims):
    return torch.amax(x, axis, keepdim=keepdims)


def _convolve_compiled(maps, kernel, dilation_rate):
    """Convolves by a product per row of the kernel.

    The compiler fuses nothing with a convolution, and PyTorch's own, compiled,
    takes more than all of the layer. With the one product of
    `rows.convolve_by_rows`, a step of the layer takes twice as long.
    """
    _, height, width, count = maps.shape
    size = len(kernel)
    margin = size // 2 * dilation_rate
    band = rows.band(width, kernel, dilation_rate)
    bands = torch.einsum("ijo,yjm->yimo", band, kernel[..., 0])
    bands = bands.reshape(size, width * count, width)
    padded = functional.pad(maps, (0, 0, 0, 0, margin, margin)).flatten(2)
    starts = range(0, 2 * margin + 1, dilation_rate)
    products = [
        padded[:, start : start + height] @ bands[y]
        for y, start in enumerate(starts)
    ]
    return sum(products)[..., None]


def custom_vjp(forward, backward, formula, arguments):
    return _Function.apply(forward, backward, formula, *arguments)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, formula, *arguments):
        with _without_autocast(arguments[0]):
            (y, *state), ctx.residuals = forward(*arguments)
        # The caller may change the output in place, which autograd allows of no
        # view that is made here.
        outputs = (y.data, *state)
        ctx.vjp = backward
        ctx.formula = formula
        # Moving averages change before the gradient is taken. It does not
        # depend on them, so they are not saved: autograd would complain.
        x, *weights = arguments
        ctx.fixed = [None if y.requires_grad else y for y in weights]
        trainable = [weight for weight in weights if weight.requires_grad]
        ctx.save_for_backward(x, *trainable)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx, dy, *_):
        x, *trainable = ctx.saved_tensors
        with _without_autocast(x):
            if torch.is_grad_enabled() or private.torch_transforms():
                cotangents = _differentiable_vjp(ctx, dy, x, trainable)
            else:
                cotangents = ctx.vjp(dy, x, ctx.residuals)
        return None, None, None, *cotangents


def _without_autocast(x):
    """Context in which types are those of the layer, as its policy says."""
    return torch.autocast(x.device.type, enabled=False)


def _differentiable_vjp(ctx, dy, x, trainable):
    """Returns the cotangents through the formula, to differentiate again."""
    next_trainable = iter(trainable)
    weights = [
        next(next_trainable) if fixed is None else fixed for fixed in ctx.fixed
    ]
    arguments = [x, *weights]
    differentiable = [tensor for tensor in arguments if tensor.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            ctx.formula(*arguments),
            differentiable,
            dy,
            create_graph=True,
            allow_unused=True,
        )
    next_gradient = iter(gradients)
    return [
        next(next_gradient) if tensor.requires_grad else None
        for tensor in arguments
    ]


def vjp(function, values, weights):
    with torch.enable_grad():
        values = [value.detach().requires_grad_() for value in values]
        weights = [weight.detach().requires_grad_() for weight in weights]
        gate_map, state = function(values, weights)

    def map_vjp(dmap):
        cotangents = torch.autograd.grad(
            gate_map,
            [*values, *weights],
            dmap,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return cotangents[: len(values)], cotangents[len(values) :]

    return gate_map.detach(), [value.detach() for value in state], map_vjp


def pool(x, gate_map, axis, pool_types, dtype, with_argmax):
    product = x if gate_map is None else x * gate_map
    dtype = getattr(torch, dtype)
    total = maximum = argmax = None
    if "avg" in pool_types:
        total = torch.sum(product, axis, keepdim=True, dtype=dtype)
    if "max" in pool_types:
        if axis == 1 and _on_cpu(x) and not _compiles():
            maximum, argmax = _max_over_axis_1(product)
        elif with_argmax:
            maximum, argmax = torch.max(product, axis, keepdim=True)
        else:
            maximum = torch.amax(product, axis, keepdim=True)
        maximum = maximum.to(dtype)
    return Pooled(total, maximum, argmax, product)


def scale(product, gate_map, x):
    if product is x or product.requires_grad or _compiles():
        return product * gate_map
    return product.mul_(gate_map)


class Backward:
    """Allocates `dy * x`, and writes `dp` and `dx` over it."""

    def __init__(self, dy, x):
        self.dy = dy
        self.x = x
        self.product = dy * x

    def dmap2(self, map1, axis):
        return _weighted_sum(self.product, map1, axis).to(self.x.dtype)

    def dmap1(self, map2, to_dp, axis):
        # The sum of `dp * x`, each part of `dp` by itself.
        dmap1 = _weighted_sum(self.product, map2, axis)
        for pools in to_dp:
            if pools.sum is not None:
                dmap1 += _weighted_sum(self.x, pools.sum, axis)
            if pools.max is not None:
                maxima = self.x.gather(pools.axis, pools.argmax) * pools.max
                dmap1.scatter_add_(
                    pools.axis,
                    pools.argmax.transpose(1, 2),
                    maxima.transpose(1, 2).to(dmap1.dtype),
                )
        return dmap1.to(self.x.dtype)

    def dx(self, map1, map2, to_dp, to_dx):
        # `dy` itself belongs to the caller.
        dx = self.product.copy_(self.dy)
        if map2 is not None:
            dx = _pools_vjp(dx.mul_(map2), to_dp)
        return _pools_vjp(dx.mul_(map1), to_dx)


def _pools_vjp(x, cotangents):
    """Adds the cotangents of pools to `x`, in place."""
    for pools in cotangents:
        if pools.sum is not None:
            x.add_(pools.sum)
        if pools.max is not None:
            x.scatter_add_(pools.axis, pools.argmax, pools.max)
    return x


def _weighted_sum(x, gate_map, axis):
    """Returns the sum over an axis, in at least `float32`."""
    is_half = x.itemsize < 4
    if gate_map is not None and not is_half and _on_cpu(x):
        # A product is three times as fast. Other devices may round it.
        if axis == 2:
            return torch.bmm(x, gate_map.transpose(1, 2))
        return torch.bmm(gate_map.transpose(1, 2), x)
    if gate_map is not None:
        x = x * gate_map
    dtype = torch.float32 if is_half else x.dtype
    return x.sum(axis, keepdim=True, dtype=dtype)


def _compiles():
    """Whether `torch.compile` is at work, and not an export."""
    return torch.compiler.is_compiling() and not _is_exporting()


def _on_cpu(x):
    return x.device.type == "cpu"


def _max_over_axis_1(x):
    """Returns maximum and argmax.

    It pools over a row of pixels, which takes a fifth of the time of
    `torch.max` over axis 1.
    """
    row = x.transpose(1, 2).unsqueeze(2)
    pooled = functional.max_pool2d_with_indices(row, (1, x.shape[1]))
    return tuple(value.view(len(x), 1, x.shape[2]) for value in pooled)
