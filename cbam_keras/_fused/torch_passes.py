"""PyTorch's implementation of the passes that `contract.Passes` describes.

Each operation goes over the features once, so they run in place where that is
safe: allocating a tensor takes three times as long as filling an existing
one, measured on two cores at (16, 56, 56, 256).
"""

import torch
from torch.nn import functional

from cbam_keras._fused import private
from cbam_keras._fused.contract import COMPILED_ROWS, Pooled

# Rows wider than this take as long as the convolution: at (64, 24, 24),
# forward and backward, they take 2.3 ms in place of 3.7 ms.
_EAGER_ROWS = 48

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
    # A compiler takes the gradient itself, and fuses what that needs.
    return (
        training is not False
        and not _compiles()
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in (x, *weights))
    )


def fuses_inference():
    return True


def widest_rows(maps):
    if not _on_cpu(maps) or not supports(maps):
        return 0
    return COMPILED_ROWS if _compiles() else _EAGER_ROWS


def convolve_by_rows(maps, kernel, dilation_rate):
    if _compiles():
        return _by_rows(maps, kernel, dilation_rate)
    return _ByRows.apply(maps, kernel, dilation_rate)


def reshape(x, shape):
    return x.reshape(shape)


def cast(x, dtype):
    return x.to(dtype)


def custom_vjp(forward, backward, formula, arguments):
    return _Function.apply(forward, backward, formula, *arguments)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, formula, *arguments):
        with _without_autocast(arguments[0]):
            (y, *state), ctx.residuals = forward(*arguments)
        # Not as a view of what it was computed as: the caller may change it in
        # place, which autograd allows of no view that is made here.
        outputs = (y.data, *state)
        ctx.vjp, ctx.formula = backward, formula
        # Moving averages change before the gradient is taken. It does not
        # depend on them, so they are not saved: autograd would complain.
        ctx.fixed = [None if x.requires_grad else x for x in arguments[1:]]
        ctx.save_for_backward(
            arguments[0], *(x for x in arguments[1:] if x.requires_grad)
        )
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx, dy, *_):
        x, *learned = ctx.saved_tensors
        with _without_autocast(x):
            if torch.is_grad_enabled() or private.torch_transforms():
                cotangents = _differentiable_vjp(ctx, dy, x, learned)
            else:
                cotangents = ctx.vjp(dy, x, ctx.residuals)
        return None, None, None, *cotangents


def _without_autocast(x):
    """Context in which types are those of the layer, as its policy says."""
    return torch.autocast(x.device.type, enabled=False)


def _differentiable_vjp(ctx, dy, x, learned):
    """Returns the cotangents through the formula, to differentiate again."""
    learned = iter(learned)
    arguments = [
        x,
        *(next(learned) if value is None else value for value in ctx.fixed),
    ]
    wanted = [tensor for tensor in arguments if tensor.requires_grad]
    with torch.enable_grad():
        found = torch.autograd.grad(
            ctx.formula(*arguments),
            wanted,
            dy,
            create_graph=True,
            allow_unused=True,
        )
    found = iter(found)
    return [next(found) if x.requires_grad else None for x in arguments]


class _ByRows(torch.autograd.Function):
    """Keeps the maps alone, where autograd would keep their rows."""

    @staticmethod
    def forward(ctx, maps, kernel, dilation_rate):
        ctx.save_for_backward(maps, kernel)
        ctx.dilation_rate = dilation_rate
        with _without_autocast(maps):
            return _by_rows(maps, kernel, dilation_rate)

    @staticmethod
    def backward(ctx, dy):
        maps, kernel = ctx.saved_tensors
        with _without_autocast(maps):
            return *_by_rows_vjp(dy, maps, kernel, ctx.dilation_rate), None


def _by_rows_vjp(dy, maps, kernel, dilation_rate):
    size, count, width = len(kernel), maps.shape[3], maps.shape[2]
    flipped = kernel.flip(0, 1).transpose(2, 3)
    dmaps = _by_rows(dy, flipped, dilation_rate)
    rows = _rows(maps, size, dilation_rate)
    dbands = rows.T @ dy.reshape(-1, width)
    band = _band(size, width, dilation_rate, kernel)
    dkernel = dbands.view(-1, width * width) @ band.T
    return dmaps, dkernel.view(size, count, size, 1).transpose(1, 2)


def _by_rows(maps, kernel, dilation_rate):
    _, height, width, count = maps.shape
    size, results = len(kernel), kernel.shape[3]
    band = _band(size, width, dilation_rate, kernel)
    bands = kernel.permute(0, 2, 3, 1).reshape(-1, size) @ band
    bands = bands.view(-1, results, width, width).permute(0, 2, 3, 1)
    bands = bands.reshape(size * count * width, width * results)
    rows = _rows(maps, size, dilation_rate)
    return (rows @ bands).view(-1, height, width, results)


def _rows(maps, size, dilation_rate):
    """Returns for each row of the result the rows that it depends on."""
    _, _, width, count = maps.shape
    margin = size // 2 * dilation_rate
    rows = functional.pad(maps.transpose(2, 3), (0, 0, 0, 0, margin, margin))
    rows = rows.unfold(1, 2 * margin + 1, 1).permute(0, 1, 4, 2, 3)
    if dilation_rate > 1:
        rows = rows[:, :, ::dilation_rate]
    return rows.reshape(-1, size * count * width)


def _band(size, width, dilation_rate, kernel):
    """Returns where column `i`, times the kernel at `j`, adds to `o`."""
    column = torch.arange(width, device=kernel.device)
    offset = torch.arange(size, device=kernel.device) - size // 2
    offset = (offset * dilation_rate)[:, None, None]
    band = column[:, None] == column + offset
    return band.to(kernel.dtype).view(size, -1)


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


def pool(x, gate_map, axis, pool_types, split, dtype, with_argmax):
    product = x if gate_map is None else x * gate_map
    dtype = getattr(torch, dtype)
    total = maximum = argmax = None
    if "avg" in pool_types:
        total = torch.sum(product, axis, keepdim=True, dtype=dtype)
    if "max" in pool_types:
        if not with_argmax:
            maximum = torch.amax(product, axis, keepdim=True)
        elif axis == 2:
            maximum, argmax = torch.max(product, 2, keepdim=True)
        else:
            maximum, argmax = _max_over_axis_1(product, split)
        maximum = maximum.to(dtype)
    return Pooled(total, maximum, argmax, product)


def scale(product, gate_map, x):
    if product is x or product.requires_grad or _compiles():
        return product * gate_map
    return product.mul_(gate_map)


class Backward:
    def __init__(self, dy, x, split):
        self.dy, self.x = dy, x

    def dmap2(self, map1, axis):
        return _weighted_sum(self.dy * self.x, map1, axis)

    def dmap1(self, map2, to_dp, axis):
        self.dp = self.dy
        if map2 is not None:
            self.dp = _pools_vjp(self.dy * map2, to_dp)
        return _weighted_sum(self.dp * self.x, None, axis)

    def dx(self, map1, map2, to_dp, to_dx):
        # `dy` itself belongs to the caller.
        in_place = map2 is not None
        dx = self.dp.mul_(map1) if in_place else self.dp * map1
        return _pools_vjp(dx, to_dx)


def _pools_vjp(x, cotangents):
    """Adds the cotangents of pools to `x`, in place."""
    for pools in cotangents:
        if pools.sum is not None:
            x.add_(pools.sum)
        if pools.max is not None:
            x.scatter_add_(pools.axis, pools.argmax, pools.max)
    return x


def _weighted_sum(x, gate_map, axis):
    """Returns the sum over an axis of `x`, or of `x * gate_map`."""
    half = x.itemsize < 4
    if gate_map is not None and not half and _on_cpu(x):
        # Three times as fast. Other devices may round what they multiply.
        if axis == 2:
            return torch.bmm(x, gate_map.transpose(1, 2))
        return torch.bmm(gate_map.transpose(1, 2), x)
    if gate_map is not None:
        x = x * gate_map
    exact = torch.float32 if half else x.dtype
    return x.sum(axis, keepdim=True, dtype=exact).to(x.dtype)


def _compiles():
    """Whether `torch.compile` is at work, and not an export."""
    return torch.compiler.is_compiling() and not _is_exporting()


def _on_cpu(x):
    return x.device.type == "cpu"


def _max_over_axis_1(x, split):
    """Returns maximum and argmax.

    `torch.max` over axis 1 takes up to ten times as long.
    """
    x = x.reshape(x.shape[0], *split, x.shape[2])
    row_max = x.amax(2)
    maximum = row_max.amax(1, keepdim=True)
    row = _first_true(row_max == maximum)
    index = row[:, :, None].expand(-1, -1, split[1], -1)
    found = x.permute(0, 2, 1, 3).gather(2, index.permute(0, 2, 1, 3))
    column = _first_true(found[:, :, 0] == maximum)
    return maximum, row * split[1] + column


def _first_true(found):
    """Returns the position along axis 1 of the first `True`."""
    size = found.shape[1]
    order = torch.arange(size, 0, -1, device=found.device, dtype=torch.float32)
    # At least 1, as nothing is equal to NaN.
    last = (found * order[:, None]).amax(1, keepdim=True).clamp(min=1)
    return size - last.long()
