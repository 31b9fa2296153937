"""The fused operation under PyTorch: transformations and memory."""

import functools

import keras
import pytest
from fused_checks import (
    SHAPE,
    arguments,
    assert_function_equals_reference,
    assert_private_name_has_a_fallback,
    call_of,
    cbam,
    remove_private_name,
    skip_unless,
    total_of,
)
from layer_checks import (
    assert_all_close,
    built,
    random_input,
    single_operations,
    to_numpy,
)

from cbam_keras import CBAM, ChannelAttention

skip_unless("torch")
pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.usefixtures("passes_at_any_size"),
]


def torch_results(layer, kind):
    import torch

    x, *weights = arguments(layer)

    def total(x):
        return total_of(layer)(x, *weights)

    def call(x):
        return call_of(layer)(x, *weights)

    many = keras.ops.convert_to_tensor(random_input((3, *SHAPE)))
    if kind == "no_grad":
        with torch.no_grad():
            return [call(x)]
    if kind == "func.grad":
        return [torch.func.grad(total)(x)]
    if kind == "func.vmap":
        return [torch.func.vmap(call)(many)]
    if kind == "func.jvp":
        return torch.func.jvp(call, (x,), (many[0],))
    if kind == "func.vmap-of-grad":
        return [torch.func.vmap(torch.func.grad(total))(many)]
    if kind == "forward_ad":
        forward_ad = torch.autograd.forward_ad
        with forward_ad.dual_level():
            y = call(forward_ad.make_dual(x, many[0]))
            return list(forward_ad.unpack_dual(y))
    x = x.requires_grad_()
    if kind == "checkpoint":
        y = torch.utils.checkpoint.checkpoint(total, x, use_reentrant=False)
        return torch.autograd.grad(y, x)
    y = call(x)
    if kind == "is_grads_batched":
        return torch.autograd.grad(y, x, many, is_grads_batched=True)
    first = torch.autograd.grad(y, x, many[0], retain_graph=True)
    return [*first, *torch.autograd.grad(y, x, many[0])]


FUSED = ["checkpoint", "is_grads_batched", "retain_graph"]
OTHERS = "no_grad func.grad func.vmap func.jvp func.vmap-of-grad forward_ad"


@pytest.mark.parametrize("kind", [*FUSED, *OTHERS.split()])
def test_torch_transforms_it(kind):
    import torch.utils.checkpoint  # noqa: F401

    # PyTorch can't map a convolution of maps with the channels last.
    layer = built(ChannelAttention(4), SHAPE) if "vmap" in kind else cbam()
    assert_function_equals_reference(
        lambda: torch_results(layer, kind), uses_fused=kind in FUSED
    )


def _gradients(layer, x, change):
    """Returns the gradients of the input and of the weights."""
    import torch

    x = keras.ops.convert_to_tensor(x).requires_grad_()
    weights = [variable.value for variable in layer.trainable_variables]
    y = change(layer(x, training=True), x)
    # No sum of equal terms, whose gradient would be the same everywhere.
    factors = torch.arange(y.numel(), device=y.device).reshape(y.shape)
    total = (y * factors / y.numel()).sum()
    found = torch.autograd.grad(total, [x, *weights])
    return [to_numpy(tensor) for tensor in found]


LAYERS = {
    "cbam": cbam,
    "parallel": functools.partial(cbam, order="parallel"),
    "channel": lambda: built(ChannelAttention(4), SHAPE),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_output_may_be_changed_in_place(make):
    import torch

    layer, x = make(), random_input(SHAPE)
    for in_place, plain in (
        (lambda y, _: torch.nn.functional.relu_(y), lambda y, _: y.relu()),
        (lambda y, x: y.add_(x), lambda y, x: y + x),
        (lambda y, _: y.mul_(2), lambda y, _: 2 * y),
    ):
        found = _gradients(layer, x, in_place)
        assert_all_close(found, _gradients(layer, x, plain), 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_autocast_leaves_the_types_to_the_policy(make, dtype):
    import torch

    layer, x = make(), random_input(SHAPE)
    expected = _gradients(layer, x, lambda y, _: y)
    with torch.autocast("cpu", dtype=getattr(torch, dtype)):
        found = _gradients(layer, x, lambda y, _: y)
    assert_all_close(found, expected, 0)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_layer_is_one_graph(dynamic):
    import torch

    torch.compiler.reset()
    layer = CBAM(4, 3, data_format="channels_first" if dynamic else None)
    built(layer, (None, 16, None, 16))
    call = torch.compile(
        functools.partial(layer.call, training=True),
        backend="aot_eager",
        fullgraph=True,
        dynamic=dynamic,
    )
    for x in (random_input((2, 16, 5, 16)), random_input((1, 16, 3, 16))):
        found = _gradients(layer, x, lambda y, x: call(x))
        with single_operations():
            expected = _gradients(layer, x, lambda y, _: y)
        assert_all_close(found, expected, 1e-5)


def test_nothing_that_a_compiler_cannot_fuse_is_compiled():
    import torch
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    torch.compiler.reset()
    called = set()

    def record(graph, inputs):
        called.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    x = keras.ops.convert_to_tensor(random_input(SHAPE)).requires_grad_()
    backend = aot_autograd(fw_compiler=record, bw_compiler=record)
    call = functools.partial(cbam().call, training=True)
    torch.compile(call, backend=backend, fullgraph=True)(x).sum().backward()
    assert {"aten.amax.default", "aten.mm.default"} <= called
    # PyTorch's own kernels are neither fused nor fast with one map.
    assert not [name for name in called if "conv" in name or "pool" in name]


# Private names of PyTorch may vanish: results stay, only speed goes.


def test_private_names_exist_and_have_safe_fallbacks(monkeypatch):
    assert_private_name_has_a_fallback(monkeypatch, "torch_transforms")


def test_results_stay_where_a_private_name_is_gone(monkeypatch):
    layer = cbam()
    remove_private_name(monkeypatch, "torch_transforms")
    assert_function_equals_reference(
        lambda: torch_results(layer, "func.grad"), uses_fused=False
    )
