"""The fused operation under JAX: transformations."""

import numpy as np
import pytest
from fused_checks import (
    SHAPE,
    arguments,
    assert_function_equals_reference,
    call_of,
    cbam,
    skip_unless,
    total_of,
)
from layer_checks import random_input

skip_unless("jax")
pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.usefixtures("passes_at_any_size"),
]


def jax_results(layer, kind):
    import jax

    values = arguments(layer)
    call, total = call_of(layer), total_of(layer)
    places = tuple(range(len(values)))
    if kind == "checkpoint":
        total = jax.checkpoint(total)
        return jax.jit(jax.grad(total, argnums=places))(*values)
    if kind == "jvp-without-training":
        call = jax.jit(call_of(layer, training=False))
        return jax.jvp(call, values, [0 * value + 1 for value in values])
    if kind == "hessian":
        small = [values[0][:1, :2, :1], *values[1:]]
        return [jax.jit(jax.hessian(total))(*small)]
    many = random_input((2, *SHAPE))
    if kind == "vmap":
        return [jax.jit(jax.vmap(lambda x: call(x, *values[1:])))(many)]
    if kind == "pmap":
        step = jax.pmap(lambda x: jax.grad(total)(x, *values[1:]))
        return [step(many[:1])]
    gradient = jax.vmap(lambda x: jax.grad(total)(x, *values[1:]))
    return [jax.jit(gradient)(many)]


@pytest.mark.parametrize(
    "kind",
    "checkpoint hessian jvp-without-training vmap pmap vmap-of-grad".split(),
)
def test_jax_transforms_it(kind):
    assert_function_equals_reference(
        lambda: jax_results(cbam(), kind), kind != "jvp-without-training"
    )


@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_jax_keeps_the_input_alone_for_the_gradient(order):
    import jax

    layer = cbam(order=order)
    _, vjp = jax.vjp(call_of(layer), *arguments(layer))
    kept = [
        leaf.shape
        for leaf in jax.tree_util.tree_leaves(vjp)
        if leaf.size >= np.prod(SHAPE)
    ]
    assert kept == [SHAPE]
