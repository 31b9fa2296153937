"""The passes of `_fused` on PyTorch.

Each operation goes over the features once, so they are written in place where
that is safe: a new tensor costs three times what filling an old one does,
measured on two cores at (16, 56, 56, 256).
"""

import torch

from cbam_keras._fused.records import Pooled

FORWARD_PAYS = True


def can_take(x):
    # What the compiler fuses itself, or what is to be exported, traced or
    # transformed as single operations, or has a tangent.
    return not (
        x.is_meta
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or _is_transformed()
        or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
    )


def expects_gradient(x, weights, training):
    return (
        training is not False
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in (x, *weights))
    )


def reshape(x, shape):
    return x.reshape(shape)


def cast(x, dtype):
    return x.to(dtype)


def with_gradient(forward, backward, plain, arguments):
    return _Function.apply(forward, backward, plain, *arguments)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, plain, *arguments):
        outputs, ctx.records = forward(*arguments)
        ctx.back, ctx.plain = backward, plain
        # Moving averages change before the gradient is taken, which does not
        # depend on those that do.
        ctx.fixed = [None if x.requires_grad else x for x in arguments[1:]]
        ctx.save_for_backward(
            arguments[0], *(x for x in arguments[1:] if x.requires_grad)
        )
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx, dy, *_):
        x, *learned = ctx.saved_tensors
        if not torch.is_grad_enabled() and not _is_transformed():
            slopes = ctx.back(dy, x, ctx.records)
            return None, None, None, *slopes
        # The gradient itself is to be differentiated.
        learned = iter(learned)
        arguments = [
            x,
            *(next(learned) if value is None else value for value in ctx.fixed),
        ]
        wanted = [tensor for tensor in arguments if tensor.requires_grad]
        with torch.enable_grad():
            slopes = torch.autograd.grad(
                ctx.plain(*arguments),
                wanted,
                dy,
                create_graph=True,
                allow_unused=True,
            )
        slopes = iter(slopes)
        return (
            None,
            None,
            None,
            *(next(slopes) if x.requires_grad else None for x in arguments),
        )


def pull(function, values, weights):
    with torch.enable_grad():
        values = [value.detach().requires_grad_() for value in values]
        weights = [weight.detach().requires_grad_() for weight in weights]
        gate_map, state = function(values, weights)

    def back(slope):
        slopes = torch.autograd.grad(
            gate_map,
            [*values, *weights],
            slope,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return slopes[: len(values)], slopes[len(values) :]

    return gate_map.detach(), [value.detach() for value in state], back


def pool(x, gate_map, axis, pool_types, rows, dtype, locate):
    product = x if gate_map is None else x * gate_map
    total = peak = place = None
    if "avg" in pool_types:
        total = torch.sum(
            product, axis, keepdim=True, dtype=getattr(torch, dtype)
        )
    if "max" in pool_types:
        if not locate:
            peak = torch.amax(product, axis, keepdim=True)
        elif axis == 2:
            peak, place = torch.max(product, 2, keepdim=True)
        else:
            peak, place = _column_peak(product, rows)
        peak = peak.to(getattr(torch, dtype))
    return Pooled(total, peak, place, product)


def scale(product, gate_map, x):
    if product is x or product.requires_grad:
        return product * gate_map
    return product.mul_(gate_map)


class Slopes:
    def __init__(self, dy, x, rows):
        self.dy, self.x = dy, x

    def of_second(self, first, axis):
        product = self.dy * self.x
        return _contracted(product, first, axis)

    def of_first(self, second, inside, axis):
        self.inner = self.dy if second is None else self.dy * second
        for spread in inside:
            _add(self.inner, spread)
        return _contracted(self.inner * self.x, None, axis)

    def of_input(self, first, second, inside, outside):
        if second is None:
            dx = self.dy * first
        else:
            dx = self.inner.mul_(first)
        for spread in outside:
            _add(dx, spread)
        return dx


def _contracted(product, gate_map, axis):
    half = product.itemsize < 4
    if gate_map is not None and not half and _on_cpu(product):
        # Three times as fast. Other devices may round what they multiply.
        if axis == 2:
            return torch.bmm(product, gate_map.transpose(1, 2))
        return torch.bmm(gate_map.transpose(1, 2), product)
    if gate_map is not None:
        product = product * gate_map
    exact = torch.float32 if half else product.dtype
    return product.sum(axis, keepdim=True, dtype=exact).to(product.dtype)


def _add(x, spread):
    if spread.near is not None:
        x.add_(spread.near)
    if spread.top is not None:
        x.scatter_add_(spread.axis, spread.place, spread.top)


def _column_peak(x, rows):
    """Returns the maximum over axis 1 and where it is.

    `torch.max` over axis 1 takes up to ten times as long.
    """
    x = x.reshape(x.shape[0], *rows, x.shape[2])
    peaks = x.amax(2)
    peak = peaks.amax(1, keepdim=True)
    row = _first(peaks == peak)
    index = row[:, :, None].expand(-1, -1, rows[1], -1)
    found = x.permute(0, 2, 1, 3).gather(2, index.permute(0, 2, 1, 3))
    return peak, row * rows[1] + _first(found[:, :, 0] == peak)


def _first(found):
    """Returns where along axis 1 the first `True` is."""
    size = found.shape[1]
    order = torch.arange(size, 0, -1, device=found.device, dtype=torch.float32)
    # At least 1, as nothing is equal to NaN.
    last = (found * order[:, None]).amax(1, keepdim=True).clamp(min=1)
    return size - last.long()


def _on_cpu(x):
    return x.device.type == "cpu"


def _is_transformed():
    return torch._C._are_functorch_transforms_active()
