"""Attention at the top of a network: after its last feature map."""

import functools

import keras
import networks
import numpy as np
import pytest
from insertion_checks import attention_of, conv, paths
from keras import layers, ops
from layer_checks import to_numpy

from cbam_keras import comparison, explain, insert_attention, models

three = functools.partial(networks.resnet, (1, 1, 1))
at_top = functools.partial(insert_attention, stages="top")
average = layers.GlobalAveragePooling2D


def top_of(model):
    """Returns the layer that attention at the top comes after."""
    (path,) = paths(at_top(model, dry_run=True))
    return path


def attention_pool(x):
    weights = layers.Reshape((16, 1))(conv(1, "score")(x))
    weights = layers.Reshape((4, 4, 1))(layers.Softmax(axis=1)(weights))
    return ops.sum(x * weights, axis=(1, 2))


def query_pool(x):
    tokens = layers.Reshape((16, 8))(x)
    query = layers.GlobalAveragePooling1D(keepdims=True)(tokens)
    return layers.Flatten()(layers.MultiHeadAttention(1, 4)(query, tokens))


def excited(x):
    weights = layers.Dense(8, activation="sigmoid")(average(keepdims=True)(x))
    return average()(layers.Multiply(name="excited")([x, weights]))


HEADS = {
    "average": (lambda x: average()(layers.Dropout(0.1)(x)), "conv"),
    "flattened": (layers.Flatten(), "conv"),
    "pool of all": (lambda x: layers.AveragePooling2D(4)(x), "conv"),
    "weighted sum": (attention_pool, "conv"),
    "query": (query_pool, "conv"),
    "excited": (excited, "excited"),
    "outputs": (lambda x: [average()(x), average()(conv(2, "b")(x))], "conv"),
}


@pytest.mark.parametrize("case", HEADS)
def test_the_top_comes_before_what_pools(case):
    (head, top), inputs = HEADS[case], keras.Input((4, 4, 3))
    assert top_of(keras.Model(inputs, head(conv(8, "conv")(inputs)))) == top


@pytest.mark.parametrize(
    ("name", "size", "top"),
    [
        ("EfficientNetB0", 64, "top_activation"),
        ("VGG16", 64, "block5_pool"),
        # Their last maps have one position.
        ("ResNet50", 32, "conv5_block3_out"),
        ("MobileNet", 32, "conv_pw_13_relu"),
    ],
)
def test_the_top_is_what_one_would_name(name, size, top):
    build = functools.partial(getattr(keras.applications, name), weights=None)
    for with_head in (True, False):
        with networks.without_values():
            network = build(input_shape=(size, size, 3), include_top=with_head)
            assert top_of(network) == top


@pytest.mark.parametrize(
    "name", ["ResNet18", "MobileNet", "MobileNetV2", "EfficientNetLite0"]
)
def test_builders_and_insertion_agree_on_the_top(name):
    build = functools.partial(getattr(models, name), input_shape=(32, 32, 3))
    with networks.without_values():
        network = build(attention="se", stages="top")
        names = [layer.name for layer in network.layers]
        assert [x.name for x in attention_of(network)] == ["head_attention"]
        before = names[names.index("head_attention") - 1]
        assert top_of(build()) == top_of(build(include_top=False)) == before


def test_attention_at_the_top_of_a_nested_network_is_as_any_other(tmp_path):
    inputs, images = keras.Input((8, 8, 3)), np.random.rand(6, 8, 8, 3)
    gated = three(include_top=False, attention="se")
    old = keras.Model(inputs, layers.Dense(5)(average()(gated(inputs))))
    at_top(old, "channel").save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    expected, found = (to_numpy(network(images)) for network in (old, model))
    np.testing.assert_array_equal(found, expected)
    gate = attention_of(model)[-1].name
    assert gate == "stage3_block1_out_attention"
    assert [*explain.attention_maps(model, images)][-1] == gate
    assert explain.grad_cam(model, images, layer=gate).shape == (6, 8, 8)
    with pytest.raises(ValueError, match=f"has attention, e.g. .*{gate}"):
        at_top(model)


def test_the_places_of_gates_that_are_replaced_have_no_top():
    def build(attention):
        return three(input_shape=(8, 8, 3), attention=attention or "se")

    options = {"instead_of": "se", "model": build, "data": "mnist5k"}
    variants = comparison.plan(["eca"], stages="each", **options).variants
    assert variants[-1].name == "eca-last-2"


NO_TOP = {
    "decoder": lambda x: models.UNet(x, 2, attention="se", stages="top"),
    "masks": lambda x: at_top(models.UNet(x, 2)),
    "boxes": lambda x: at_top(
        keras.Model(x.inputs, layers.Reshape((-1, 4))(conv(4, "box")(x.output)))
    ),
    "classes": lambda x: at_top(
        keras.Model(x.inputs, conv(2, "classes", 1)(x.output))
    ),
    "own places": lambda x: at_top(x, after="stem_relu"),
}


@pytest.mark.parametrize("case", NO_TOP)
def test_other_networks_have_no_top(case):
    with pytest.raises(ValueError, match=r"attention: [1-3, ]+\. .* of masks"):
        NO_TOP[case](three(include_top=False))
