"""The fused operation under TensorFlow: gradients, graphs and exports."""

import functools
import sys

import keras
import numpy as np
import pytest
from fused_checks import (
    FALLBACKS,
    SHAPE,
    assert_function_equals_reference,
    assert_private_name_has_a_fallback,
    cbam,
    remove_private_name,
    skip_unless,
)
from layer_checks import (
    assert_all_close,
    assert_equals_reference,
    built,
    fused_calls,
    model_of,
    output,
    random_input,
    single_operations,
    to_numpy,
)

from cbam_keras import CBAM
from cbam_keras._fused import gradients_forgotten, operation, private

skip_unless("tensorflow")
pytestmark = pytest.mark.every_backend


def gradient_with_tape(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize(
    "order, data_format",
    [("channel_first", "channels_last"), ("spatial_first", "channels_first")],
)
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

    assert_function_equals_reference(run)


def test_vectorized_map_maps_gradients():
    import tensorflow as tf

    layer = cbam()

    def run():
        call = functools.partial(layer, training=True)
        x = tf.constant(random_input((3, *SHAPE)))
        return [tf.vectorized_map(lambda x: gradient_with_tape(call, x), x)]

    assert_function_equals_reference(run)


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
    assert_function_equals_reference(lambda: function(x))


def test_second_derivatives_may_be_taken_in_graphs():
    import tensorflow as tf

    layer = cbam()

    def run():
        @tf.function
        def gradient(x):
            def squares(x):
                call = functools.partial(layer, training=True)
                first = gradient_with_tape(lambda x: call(x) ** 2, x)
                return first**2

            return gradient_with_tape(squares, x)

        return [gradient(tf.constant(random_input(SHAPE)))]

    assert_function_equals_reference(run)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_branch_of_a_graph_gives_gradients(is_known, monkeypatch):
    import tensorflow as tf

    if not is_known:
        remove_private_name(monkeypatch, "is_branch")
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


@pytest.mark.parametrize("training", [False, None])
def test_graphs_of_inference_are_of_plain_operations(training):
    assert custom_parts(cbam(), training=training) == (False, False)


@pytest.mark.parametrize("method", ["predict", "evaluate", "export"])
def test_predictions_of_keras_and_no_exports_take_the_passes(
    method, monkeypatch, tmp_path
):
    outputs = []
    output = operation.FusedOperation.output
    monkeypatch.setattr(
        operation.FusedOperation,
        "output",
        lambda *given: outputs.append(output(*given)) or outputs[-1],
    )
    x = random_input(SHAPE)
    model = model_of(cbam(), SHAPE[1:])
    model.compile(loss="mse")
    if method == "export":
        model.export(tmp_path / "model", verbose=False)
        assert not outputs
        return
    with single_operations():
        expected = model(x, training=False)
    if method == "predict":
        found = model.predict(x, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    else:
        assert model.evaluate(x, expected, verbose=0) < 1e-12
    assert outputs


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


@pytest.mark.skipif(
    sys.platform != "linux", reason="TensorFlow has XLA on Linux alone"
)
def test_graphs_of_training_compile_passes():
    assert custom_parts(cbam(), training=True)[1]


def test_autograph_leaves_the_call_as_it_is():
    import tensorflow as tf

    layer = cbam()

    @tf.function(autograph=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Both the layer, and its method without Keras around it.
            y = layer(x, training=True) + layer.call(x, training=True)
        return tape.gradient(y, x)

    x = tf.constant(random_input(SHAPE))
    with fused_calls() as calls:
        found = gradient(x)
    assert len(calls) == 2
    with single_operations():
        expected = gradient_with_tape(lambda x: 2 * layer(x, training=True), x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Private names of TensorFlow may vanish: results stay, only speed goes.


@pytest.mark.parametrize("function", FALLBACKS["tensorflow"])
def test_private_names_exist_and_have_safe_fallbacks(function, monkeypatch):
    assert_private_name_has_a_fallback(monkeypatch, function)


@pytest.mark.parametrize(
    "function, order, mode, training",
    [
        ("tape_may_record", "parallel", "eager", None),
        ("tape_may_record", "channel_first", "graph", None),
        ("xla_compiles", "parallel", "eager", None),
        ("xla_compiles", "channel_first", "graph", True),
        ("is_branch", "parallel", "eager", None),
        ("is_branch", "channel_first", "graph", True),
    ],
)
def test_results_stay_where_a_private_name_is_gone(
    function, order, mode, training, monkeypatch
):
    remove_private_name(monkeypatch, function)
    layer, x = cbam(order=order), random_input(SHAPE)
    assert_equals_reference(
        *(layer, x, random_input(SHAPE, seed=5), mode),
        # Sums in another order.
        tolerance=1e-5,
        training=training,
    )
    found = output(layer, x)
    with single_operations():
        np.testing.assert_allclose(found, output(layer, x), atol=1e-6)


def test_gradients_of_a_network_can_be_forgotten(monkeypatch):
    import tensorflow as tf
    from tensorflow.python.framework import ops

    layer, x = cbam(), tf.constant(random_input(SHAPE))

    def trace():
        function = tf.function(lambda x: layer(x, training=True))
        return gradient_with_tape(function, x)

    trace()
    before = set(ops.gradient_registry.list())
    with gradients_forgotten():
        gradient = trace()
        assert set(ops.gradient_registry.list()) > before
    assert set(ops.gradient_registry.list()) == before
    # Others are not, and none are where the private name is gone.
    find = private._find
    gone = {"gradient_registry"}
    monkeypatch.setattr(
        *(private, "_find"),
        lambda module, name: None if name in gone else find(module, name),
    )
    with gradients_forgotten():
        np.testing.assert_array_equal(trace(), gradient)
    assert set(ops.gradient_registry.list()) > before
