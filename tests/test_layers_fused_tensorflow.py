"""The fused operation under TensorFlow: gradients, graphs and exports."""

import functools
import gc
import sys
import weakref

import numpy as np
import pytest
from fused_checks import (
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
    model_of,
    random_input,
    single_operations,
    to_numpy,
)

from cbam_keras.layers._fused import operation
from cbam_keras.study.running.memory import gradients_forgotten

skip_unless("tensorflow")
pytestmark = pytest.mark.usefixtures("passes_at_any_size")


def gradient_with_tape(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


def tensorflow_results(layer, kind):
    import tensorflow as tf

    call = functools.partial(layer, training=True)

    def gradient(x):
        return gradient_with_tape(lambda x: call(x) ** 2, x)

    def both(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = call(x)
            first, second = tf.reduce_sum(y), tf.reduce_sum(y**2)
        return tape.gradient(first, x), tape.gradient(second, x)

    def with_method(x):
        # Both the layer, and its method without Keras around it.
        return gradient_with_tape(
            lambda x: call(x) + layer.call(x, training=True), x
        )

    unknown = [tf.TensorSpec((None, None, None, 16))]
    function = {
        "unknown-sizes": tf.function(gradient, input_signature=unknown),
        "vectorized-map": lambda x: tf.vectorized_map(gradient, x[:, None]),
        "persistent": both,
        "persistent-in-a-graph": tf.function(both),
        "second-in-a-graph": tf.function(
            lambda x: gradient_with_tape(lambda x: gradient(x) ** 2, x)
        ),
        "autograph": tf.function(with_method, autograph=True),
    }[kind]
    return tf.nest.flatten(function(tf.constant(random_input(SHAPE))))


@pytest.mark.parametrize(
    "kind",
    [
        *("unknown-sizes", "vectorized-map", "persistent", "autograph"),
        pytest.param("persistent-in-a-graph", marks=pytest.mark.exhaustive),
        pytest.param("second-in-a-graph", marks=pytest.mark.exhaustive),
    ],
)
def test_tensorflow_transforms_it(kind):
    layer = cbam()
    assert_function_equals_reference(lambda: tensorflow_results(layer, kind))


def test_a_branch_of_a_graph_gives_gradients():
    import tensorflow as tf

    layer = cbam()

    @tf.function
    def gradient(x, is_taken):
        def branch(x):
            return tf.cond(is_taken, lambda: layer(x, training=True), lambda: x)

        return gradient_with_tape(branch, x)

    x = tf.constant(random_input(SHAPE))
    found = gradient(x, tf.constant(True))
    with single_operations():
        expected = gradient_with_tape(
            functools.partial(layer, training=True), x
        )
    assert_all_close([to_numpy(found)], [to_numpy(expected)], 1e-5)
    np.testing.assert_array_equal(gradient(x, tf.constant(False)), 1)


def trace(layer, shape, training=True):
    """Returns the graph of a call, or of its gradient, of any batch size."""
    import tensorflow as tf

    call = functools.partial(layer, training=training)
    function = tf.function(
        lambda x: gradient_with_tape(call, x) if training else call(x)
    )
    return function.get_concrete_function(
        tf.TensorSpec((None, *shape[1:]))
    ).graph


def compiled_functions(graph):
    return {
        function.signature.name
        for function in graph.as_graph_def(add_shapes=False).library.function
        if function.attr["_XlaMustCompile"].b
    }


@pytest.mark.skipif(
    sys.platform != "linux", reason="TensorFlow has XLA on Linux alone"
)
@pytest.mark.parametrize("training", [True, False, None])
def test_graphs_of_training_alone_hold_gradients_and_compiled_passes(training):
    graph = trace(cbam(), SHAPE, training)
    definition = graph.as_graph_def(add_shapes=False)
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes.extend(function.node_def)
    # TensorFlow would pass them to the gradient of what is compiled.
    assert not [
        operation
        for operation in graph.get_operations()
        if operation.type == "ZerosLike" and operation.outputs[0].consumers()
    ]
    gradients = [node for node in nodes if "_gradient_op_type" in node.attr]
    compiled = compiled_functions(graph)
    assert bool(gradients) is bool(compiled) is bool(training)


def test_networks_share_what_is_compiled():
    first, second, other = (
        compiled_functions(trace(cbam(), shape))
        for shape in (SHAPE, SHAPE, (2, 5, 4, 16))
    )
    assert first == second
    assert first.isdisjoint(other)


def test_what_is_compiled_keeps_no_graph_of_a_network():
    with gradients_forgotten():
        # No other test compiles this shape.
        graph = weakref.ref(trace(cbam(), (2, 3, 9, 16)))
    gc.collect()
    assert graph() is None


def test_predictions_of_keras_take_the_passes(monkeypatch):
    outputs = []
    output = operation.FusedOperation.output

    def recorded(*arguments):
        outputs.append(output(*arguments))
        return outputs[-1]

    monkeypatch.setattr(operation.FusedOperation, "output", recorded)
    x = random_input(SHAPE)
    model = model_of(cbam(), SHAPE[1:])
    with single_operations():
        expected = model(x, training=False)
    found = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert outputs


# Private names of TensorFlow may vanish: results stay, only speed goes.


@pytest.mark.parametrize(
    "function", ["tape_may_record", "xla_compiles", "is_branch"]
)
def test_private_names_exist_and_have_safe_fallbacks(function, monkeypatch):
    assert_private_name_has_a_fallback(monkeypatch, function)


@pytest.mark.parametrize(
    "function, mode, training",
    [
        ("tape_may_record", "eager", None),
        ("tape_may_record", "graph", None),
        ("xla_compiles", "graph", True),
        ("is_branch", "graph", True),
    ],
)
def test_results_stay_where_a_private_name_is_gone(
    function, mode, training, monkeypatch
):
    remove_private_name(monkeypatch, function)
    assert_equals_reference(
        *(cbam(), random_input(SHAPE), random_input(SHAPE, seed=5), mode),
        # Sums in another order.
        tolerance=1e-5,
        training=training,
    )
