"""Predictions and weights after insertion, and what a dry run says of it."""

import re

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_holds_all_of,
    assert_predicts_the_same,
    attention_of,
    contents,
    conv,
    data_for,
    layers_in_a_list,
    nested_twice,
    norm,
    operations,
    ours,
    paths,
    predictions,
    preprocessing,
    sequential,
    several_inputs_and_outputs,
    shared_layer,
    siamese,
    small,
    vary,
    wrapped,
)
from keras import layers, ops
from layer_checks import random_input, randomize, to_numpy, weights_of

from cbam_keras import CBAM, freeze_batch_norm
from cbam_keras.insertion import Place, Places, insert_attention

# Networks, and the places where attention goes by default.
NETWORKS = {
    "ours": (ours, ["stage1_block1_bn3", "stage2_block1_bn3"]),
    "nested": (nested_twice, ["outer/body/block_bn2", "outer/block_bn2"]),
    "sequential": (sequential, ["body/inner_conv"]),
    "siamese": (siamese, ["body/block_bn2"]),
    "shared_layer": (shared_layer, ["shared"]),
    "several_inputs": (several_inputs_and_outputs, ["block_bn2"]),
    "operations": (operations, ["last_conv"]),
    "layers_in_a_list": (layers_in_a_list, ["blocks"]),
    "preprocessing": (preprocessing, ["block_bn2"]),
    "wrapped": (wrapped, ["frames/block_bn2"]),
}


@pytest.mark.every_backend
@pytest.mark.parametrize("build, places", NETWORKS.values(), ids=NETWORKS)
def test_network_predicts_to_the_bit_what_it_did(build, places):
    old = vary(build())
    assert paths(insert_attention(old, dry_run=True)) == places
    new = insert_attention(old)
    assert_holds_all_of(new, old)
    assert new.name == old.name
    assert len(attention_of(new)) == len(places)
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.half_precision
@pytest.mark.parametrize(
    "build, policy",
    [(small, "mixed_float16"), (operations, "float16"), (small, "float64")],
)
def test_attention_takes_the_precision_of_the_network(build, policy, request):
    if policy == "float64":
        request.getfixturevalue("float64")
    keras.config.set_dtype_policy(policy)
    old = vary(build())
    keras.config.set_dtype_policy("float32")
    new = insert_attention(old)
    assert {a.dtype_policy.name for a in attention_of(new)} == {policy}
    assert new.output.dtype == old.output.dtype
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.parametrize("after", [None, "block_add"])
def test_attention_takes_the_data_format_of_its_place(after):
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = conv(8, "stem_conv", **first)(inputs)
    y = norm("block_bn", axis=1)(conv(8, "block_conv", **first)(x))
    x = layers.Add(name="block_add")([x, layers.ReLU(name="block_relu")(y)])
    x = layers.GlobalAveragePooling2D(name="pool", **first)(x)
    old = vary(keras.Model(inputs, layers.Dense(5, name="predictions")(x)))
    new = insert_attention(old, after=after)
    (layer,) = attention_of(new)
    assert layer.data_format == "channels_first"
    assert layer.channel_attention.excite_bias.shape == (8,)
    if keras.backend.backend() != "tensorflow":
        # TensorFlow has no convolution of that kind on a CPU.
        assert_predicts_the_same(new, old, data_for(old))


class Gate(layers.Layer):
    """A gate without what Keras does not ask for."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, activation="sigmoid")

    def call(self, inputs):
        return inputs * self.dense(inputs)


class BuiltGate(Gate):
    def build(self, input_shape):
        self.dense.build(input_shape)


@pytest.mark.parametrize("kind", [Gate, BuiltGate])
def test_a_gate_of_ones_own_needs_only_a_call(kind):
    old = vary(small())
    (place,) = insert_attention(old, kind, identity=False, dry_run=True)
    assert place.parameters == 8 * 8 + 8
    new = insert_attention(old, kind, identity=False)
    gate = new.get_layer("block_bn2_attention")
    gate.set_weights([np.zeros((8, 8)), np.full((8,), 30.0)])
    assert_predicts_the_same(new, old, data_for(old))


class Transposed(layers.Layer):
    def call(self, inputs):
        return ops.transpose(inputs, (0, 2, 3, 1))


def first_conv(filters):
    return conv(filters, None, data_format="channels_first")


# 4 channels, of images of 8 x 6: where they are, and what moved them there.
MOVED = {
    "Permute": (
        "channels_last",
        lambda x: layers.Permute((2, 3, 1), name="moved")(first_conv(4)(x)),
    ),
    "to the front": (
        "channels_first",
        lambda x: layers.Permute((3, 1, 2), name="moved")(conv(4, "conv")(x)),
    ),
    "as a sequence": (
        "channels_last",
        lambda x: layers.Permute((2, 1), name="moved")(
            layers.Reshape((4, 48))(first_conv(4)(x))
        ),
    ),
    "own layer": (
        "channels_last",
        lambda x: conv(5, "next")(Transposed(name="moved")(first_conv(4)(x))),
    ),
    "before convolutions": (
        "channels_first",
        lambda x: first_conv(5)(layers.ReLU(name="moved")(x)),
    ),
    "before Permute": (
        "channels_first",
        lambda x: conv(5, "next")(
            layers.Permute((2, 3, 1))(layers.ReLU(name="moved")(x))
        ),
    ),
}


@pytest.mark.parametrize("default", ["channels_last", "channels_first"])
@pytest.mark.parametrize("data_format, body", MOVED.values(), ids=MOVED)
def test_attention_is_of_channels_wherever_they_are(data_format, body, default):
    shape = (8, 6, 4) if body is MOVED["to the front"][1] else (4, 8, 6)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, body(inputs))
    keras.config.set_image_data_format(default)
    (layer,) = attention_of(insert_attention(model, after="moved"))
    assert layer.data_format == data_format
    assert layer.channel_attention.excite_bias.shape == (4,)


def unet(nested):
    inputs = keras.Input((8, 8, 3))
    skip = conv(4, "enc")(inputs)
    low = conv(4, "low")(layers.MaxPooling2D(name="pool")(skip))
    wide = layers.UpSampling2D(name="up")(low)
    joined = layers.Concatenate(name="cat")([skip, wide])
    body = keras.Model(inputs, conv(2, "out")(joined), name="body")
    if not nested:
        return body
    return keras.Model(inputs, body(inputs), name="outer")


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("into", [None, "cat"])
def test_attention_changes_what_it_leads_into_and_nothing_else(into, nested):
    old = vary(unet(nested))
    edge = {"after": "enc", "into": into}
    assert_predicts_the_same(insert_attention(old, **edge), old, data_for(old))
    new = insert_attention(old, identity=False, **edge)
    body = new.get_layer("body") if nested else new
    gate = body.get_layer("enc_attention")
    randomize(gate)
    x = data_for(old)
    features = body.get_layer("enc")(x)
    skip = gate(features)
    pooled = body.get_layer("pool")(features if into else skip)
    low = body.get_layer("up")(body.get_layer("low")(pooled))
    joined = ops.concatenate([skip, low], axis=-1)
    expected = to_numpy(body.get_layer("out")(joined))
    (found,) = predictions(new, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - predictions(old, x)[0]).max() > 0.1


# Keras 3.10 loads the one input of some models as a list of one.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
@pytest.mark.parametrize("levels", [1, 2])
def test_attention_follows_an_output_of_a_nested_encoder(levels, tmp_path):
    image = keras.Input((8, 8, 3))
    features = conv(4, "enc")(image)
    low = conv(4, "low")(layers.MaxPooling2D(name="pool")(features))
    outputs = [features, low]
    for level in range(levels):
        encoder = keras.Model(image, outputs, name=f"encoder{level}")
        image = keras.Input((8, 8, 3))
        outputs = encoder(image)
    wide = layers.UpSampling2D(name="up")(outputs[1])
    joined = layers.Concatenate(name="cat")([outputs[0], wide])
    old = vary(keras.Model(image, conv(2, "out")(joined)))
    edge = {"after": "enc", "into": "cat"}
    assert_predicts_the_same(insert_attention(old, **edge), old, data_for(old))
    new = insert_attention(old, identity=False, **edge)
    randomize(new.get_layer("enc_attention"))
    flat = unet(nested=False)
    flat.set_weights(old.get_weights())
    expected = insert_attention(flat, identity=False, **edge)
    gate = new.get_layer("enc_attention").get_weights()
    expected.get_layer("enc_attention").set_weights(gate)
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = [predictions(x, data_for(old)) for x in (new, loaded, expected)]
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)
    with pytest.raises(
        ValueError, match='of one model .*encoder0/pool", "cat"'
    ):
        insert_attention(old, after="enc", into=["pool", "cat"])


def test_dry_run_lists_the_places_and_changes_nothing():
    old = vary(ours())
    values = weights_of(old)
    places = insert_attention(old, CBAM(4, kernel_size=3), dry_run=True)
    assert isinstance(places, Places)
    # The MLP with its biases, and a kernel for two maps.
    one, two = (2 * 16 * 4 + 4 + 16 + 18, 2 * 32 * 8 + 8 + 32 + 18)
    first, second = "stage1_block1_bn3", "stage2_block1_bn3"
    assert places == (
        Place(first, (None, 8, 8, 16), f"{first}_attention", one),
        Place(second, (None, 4, 4, 32), f"{second}_attention", two),
    )
    text = str(places)
    assert text == repr(places)
    assert f"2 attention layers, {one + two} added parameters" in text
    assert f">{second}</td>" in places._repr_html_()
    assert re.search(rf"{second} .*\(None, 4, 4, 32\) .*{two}", text)
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)


# Weights, state and frozen layers.


def step(model, x, seed=3):
    """Trains for one step on random targets."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(len(x), *model.output.shape[1:]))
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    model.fit(x, y.astype("float32"), batch_size=len(x), verbose=0)


@pytest.mark.parametrize("build", [nested_twice, layers_in_a_list])
def test_training_changes_all_of_the_new_model_and_nothing_of_the_old(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    values = weights_of(old)
    new = insert_attention(old, CBAM)
    np.testing.assert_array_equal(predictions(new, x), before)
    trainable = [to_numpy(v) for v in new.trainable_variables]
    step(new, x)
    # The first factor of a gate waits for the last, which starts at zero.
    owners = [v.path.rsplit("/", 1)[0] for v in new.trainable_variables]
    assert set(owners) == {
        owner
        for owner, variable, value in zip(
            owners, new.trainable_variables, trainable, strict=True
        )
        if not np.array_equal(to_numpy(variable), value)
    }
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


@pytest.mark.parametrize(
    "build, parts",
    [
        (nested_twice, lambda model: [model]),
        (nested_twice, lambda model: [model.get_layer("outer")]),
        (nested_twice, lambda model: [model.get_layer("stem_conv").kernel]),
        (layers_in_a_list, lambda model: model.get_layer("blocks").steps[:2]),
    ],
    ids=["all", "nested model", "variable", "inside a layer"],
)
def test_frozen_stays_frozen_and_attention_trains(build, parts):
    old = vary(build())
    for part in parts(old):
        part.trainable = False
    new = insert_attention(old, CBAM)
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        assert all(variable.trainable for variable in gate.variables)
        found -= contents(gate.variables)
    assert found == contents(old.trainable_variables)
    # Batch normalization asks its layer.
    assert build is nested_twice or not any(x.trainable for x in parts(new))


def test_averages_of_a_nested_backbone_do_not_change():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    x = layers.BatchNormalization(name="inner")(x)
    x = CBAM(2, spatial_batch_norm=True, name="gate")(x)
    backbone = keras.Model(image, x, name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="outer")(inputs)
    x = layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.trainable = False
    model.trainable = True
    assert freeze_batch_norm(model) == 2
    model.compile("sgd", loss="mse")
    gate = backbone.get_layer("gate").spatial_attention.batch_norm
    norms = [model.get_layer("outer"), backbone.get_layer("inner"), gate]
    before = [to_numpy(layer.moving_mean).copy() for layer in norms]
    model.fit(random_input((8, 8, 8, 3)), np.zeros((8, 2)), verbose=0)
    after = [to_numpy(layer.moving_mean) for layer in norms]
    same = [np.array_equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [True, True, False]
