"""The fast path under what each backend does with functions of layers."""

import functools
import sys

import keras
import numpy as np
import pytest
from layer_checks import (
    assert_all_close,
    built,
    fused_calls,
    random_input,
    single_operations,
    tensors,
    to_numpy,
)

from cbam_keras import CBAM, ChannelAttention

BACKEND = keras.backend.backend()
SHAPE = (2, 6, 4, 16)


def only_on(backend):
    return pytest.mark.skipif(
        backend != BACKEND, reason=f"is about the {backend} backend"
    )


def cbam(**options):
    return built(CBAM(4, 3, **options), SHAPE)


def call_of(layer, training=True):
    """Returns the layer as a function of its input and its weights."""

    def call(x, *weights):
        return layer.stateless_call(list(weights), [], x, training=training)[0]

    return call


def arguments(layer):
    return tensors([random_input(SHAPE), *layer.trainable_variables])


def total_of(layer, training=True):
    def total(x, *weights):
        return (call_of(layer, training)(x, *weights) ** 2).sum()

    return total


def assert_equals_reference(function, uses_fused=True):
    """Compares what a function returns with what single operations give."""
    with fused_calls() as calls:
        found = function()
    assert bool(calls) is uses_fused
    with single_operations():
        expected = function()
    assert_all_close(
        [to_numpy(value) for value in found],
        [to_numpy(value) for value in expected],
        1e-5,
    )


def gradient_with_tape(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


@only_on("tensorflow")
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("order", ["channel_first", "spatial_first"])
def test_sizes_may_be_unknown_until_the_graph_runs(order, data_format):
    import tensorflow as tf

    layer = cbam(order=order)
    shape = (None, None, None, 16)
    x = random_input((3, 5, 7, 16))
    if data_format == "channels_first":
        layer = CBAM(4, 3, order=order, data_format=data_format)
        layer = built(layer, (2, 16, 6, 4))
        shape, x = (None, 16, None, None), np.moveaxis(x, -1, 1)

    def run():
        call = functools.partial(layer, training=True)
        graph = tf.function(
            lambda x: gradient_with_tape(call, x),
            input_signature=[tf.TensorSpec(shape)],
        )
        return [graph(tf.constant(x))]

    assert_equals_reference(run)


@only_on("tensorflow")
def test_vectorized_map_maps_gradients():
    import tensorflow as tf

    layer = cbam()

    def run():
        call = functools.partial(layer, training=True)
        x = tf.constant(random_input((3, *SHAPE)))
        return [tf.vectorized_map(lambda x: gradient_with_tape(call, x), x)]

    assert_equals_reference(run)


@only_on("tensorflow")
@pytest.mark.parametrize("eager", [True, False])
def test_persistent_tapes_give_several_gradients(eager):
    import tensorflow as tf

    layer = cbam()

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = layer(x, training=True)
            first, second = tf.reduce_sum(y), tf.reduce_sum(y**2)
        return tape.gradient(first, x), tape.gradient(second, x)

    function = gradients if eager else tf.function(gradients)
    x = tf.constant(random_input(SHAPE))
    assert_equals_reference(lambda: function(x))


@only_on("tensorflow")
def test_second_derivatives_may_be_taken_in_graphs():
    import tensorflow as tf

    layer = cbam()

    def run():
        @tf.function
        def gradient(x):
            def squares(x):
                call = functools.partial(layer, training=True)
                slope = gradient_with_tape(lambda x: call(x) ** 2, x)
                return slope**2

            return gradient_with_tape(squares, x)

        return [gradient(tf.constant(random_input(SHAPE)))]

    assert_equals_reference(run)


@only_on("tensorflow")
def test_a_branch_of_a_graph_gives_gradients():
    import tensorflow as tf

    layer = cbam()

    @tf.function
    def gradient(x, taken):
        def branch(x):
            return tf.cond(taken, lambda: layer(x, training=True), lambda: x)

        return gradient_with_tape(branch, x)

    x = tf.constant(random_input(SHAPE))
    found = gradient(x, tf.constant(True))
    with single_operations():
        expected = gradient_with_tape(
            functools.partial(layer, training=True), x
        )
    assert_all_close([to_numpy(found)], [to_numpy(expected)], 1e-5)
    np.testing.assert_array_equal(gradient(x, tf.constant(False)), 1)


def custom_parts(layer, training):
    """Returns what a graph holds: gradients of its own, and compiled calls."""
    import tensorflow as tf

    graph = tf.function(
        lambda x: (
            gradient_with_tape(functools.partial(layer, training=training), x)
            if training
            else layer(x, training=training)
        )
    ).get_concrete_function(tf.TensorSpec(SHAPE))
    definition = graph.graph.as_graph_def(add_shapes=False)
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes.extend(function.node_def)
    gradients = [node for node in nodes if "_gradient_op_type" in node.attr]
    compiled = [
        function
        for function in definition.library.function
        if function.attr["_XlaMustCompile"].b
    ]
    return bool(gradients), bool(compiled)


@only_on("tensorflow")
@pytest.mark.parametrize("training", [False, None])
def test_graphs_of_inference_are_of_plain_operations(training):
    assert custom_parts(cbam(), training=training) == (False, False)


@only_on("tensorflow")
def test_exports_are_of_plain_operations(tmp_path):
    import tensorflow as tf

    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, cbam()(inputs))
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    x = random_input(SHAPE)
    np.testing.assert_allclose(
        loaded.serve(x), model.predict(x, verbose=0), atol=1e-6
    )
    definition = loaded.signatures["serving_default"].graph.as_graph_def()
    functions = definition.library.function
    assert functions
    for function in functions:
        assert not function.attr["_XlaMustCompile"].b
        assert not [
            node for node in function.node_def if node.op == "IdentityN"
        ]


@only_on("tensorflow")
@pytest.mark.skipif(
    sys.platform != "linux", reason="TensorFlow has XLA on Linux alone"
)
def test_graphs_of_training_compile_the_last_pass():
    assert custom_parts(cbam(), training=True)[1]


def jax_results(layer, kind):
    import jax

    values = arguments(layer)
    call, total = call_of(layer), total_of(layer)
    places = tuple(range(len(values)))
    if kind == "checkpoint":
        total = jax.checkpoint(total)
        return jax.jit(jax.grad(total, argnums=places))(*values)
    if kind == "jvp without training":
        call = jax.jit(call_of(layer, training=False))
        return jax.jvp(call, values, [0 * value + 1 for value in values])
    many = random_input((2, *SHAPE))
    if kind == "vmap":
        return [jax.jit(jax.vmap(lambda x: call(x, *values[1:])))(many)]
    if kind == "pmap":
        step = jax.pmap(lambda x: jax.grad(total)(x, *values[1:]))
        return [step(many[:1])]
    slopes = jax.vmap(lambda x: jax.grad(total)(x, *values[1:]))
    return [jax.jit(slopes)(many)]


@only_on("jax")
@pytest.mark.parametrize(
    "kind",
    ["checkpoint", "jvp without training", "vmap", "pmap", "vmap of grad"],
)
def test_jax_transforms_it(kind):
    assert_equals_reference(
        lambda: jax_results(cbam(), kind), kind != "jvp without training"
    )


@only_on("jax")
@pytest.mark.usefixtures("float64")
def test_jax_hessian_equals_single_operations():
    import jax

    layer = built(CBAM(2, 3, dtype="float64"), (1, 2, 2, 4))
    values = tensors(
        [random_input((1, 2, 2, 4), "float64"), *layer.trainable_variables]
    )
    assert_equals_reference(
        lambda: [jax.jit(jax.hessian(total_of(layer)))(*values)]
    )


@only_on("jax")
@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_jax_keeps_the_input_alone_for_the_gradient(order):
    import jax

    layer = cbam(order=order)
    _, pull = jax.vjp(call_of(layer), *arguments(layer))
    kept = [
        leaf.shape
        for leaf in jax.tree_util.tree_leaves(pull)
        if leaf.size >= np.prod(SHAPE)
    ]
    assert kept == [SHAPE]


def torch_results(layer, kind):
    import torch

    x, *weights = arguments(layer)
    total = functools.partial(_swapped, total_of(layer), weights)
    call = functools.partial(_swapped, call_of(layer), weights)
    many = torch.tensor(random_input((3, *SHAPE)))
    if kind == "no_grad":
        with torch.no_grad():
            return [call(x)]
    if kind == "func.grad":
        return [torch.func.grad(total)(x)]
    if kind == "func.vmap":
        return [torch.func.vmap(call)(many)]
    if kind == "func.jvp":
        return torch.func.jvp(call, (x,), (many[0],))
    if kind == "func.vmap of grad":
        return [torch.func.vmap(torch.func.grad(total))(many)]
    if kind in ("forward_ad", "forward_ad of a weight"):
        forward_ad = torch.autograd.forward_ad
        with forward_ad.dual_level():
            if kind == "forward_ad":
                y = call(forward_ad.make_dual(x, many[0]))
            else:
                weights[0] = forward_ad.make_dual(weights[0], weights[0] + 1)
                y = call(x)
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


def _swapped(function, weights, x):
    return function(x, *weights)


@only_on("torch")
@pytest.mark.parametrize(
    "kind, uses_fused",
    [
        ("no_grad", False),
        ("func.grad", False),
        ("func.vmap", False),
        ("func.jvp", False),
        ("func.vmap of grad", False),
        ("forward_ad", False),
        ("forward_ad of a weight", False),
        ("checkpoint", True),
        ("is_grads_batched", True),
        ("retain_graph", True),
    ],
)
def test_torch_transforms_it(kind, uses_fused):
    import torch.utils.checkpoint  # noqa: F401

    # PyTorch can't map a convolution of maps with the channels last.
    layer = built(ChannelAttention(4), SHAPE) if "vmap" in kind else cbam()
    assert_equals_reference(lambda: torch_results(layer, kind), uses_fused)


@only_on("torch")
def test_torch_sees_that_the_input_was_changed():
    layer = cbam()
    x = arguments(layer)[0].requires_grad_() + 0
    y = layer(x, training=True).sum()
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def kept_by_torch(layer):
    """Counts what fills as much memory as the output, after the call."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode

    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            results = function(*args, **kwargs or {})
            for result in torch.utils._pytree.tree_leaves(results):
                if isinstance(result, torch.Tensor):
                    storage = result.untyped_storage()
                    made.append((StorageWeakRef(storage), storage.nbytes()))
            return results

    x = arguments(layer)[0].requires_grad_()
    with Watch():
        y = layer(x, training=True)
    kept = {
        reference.cdata
        for reference, size in made
        if size >= x.nbytes and not reference.expired()
    }
    return len(kept - {StorageWeakRef(x.untyped_storage()).cdata}), y


@only_on("torch")
@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_torch_keeps_the_input_alone_for_the_gradient(order):
    layer = cbam(order=order)
    kept, _ = kept_by_torch(layer)
    # The output.
    assert kept == 1
    with single_operations():
        assert kept_by_torch(layer)[0] > 1
