"""Attention inserted into networks, which then predict as before."""

import functools
import math

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_close,
    assert_holds_all_of,
    assert_predicts_the_same,
    attention_of,
    data_for,
    ends_of_branches,
    inputs_by_name,
    lambda_layer,
    layers_in_a_list,
    nested_model,
    nested_sequential,
    nested_twice,
    norm,
    normalized,
    normalized_within,
    of_rank,
    operations,
    ours,
    paths,
    predictions,
    sequential,
    several_inputs_and_outputs,
    shared_layer,
    siamese,
    sizes_not_free,
    small,
    unknown_sizes,
    unnamed_weights,
    vary,
)
from keras import layers, ops
from layer_checks import randomize, to_numpy, weights_of

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)
from cbam_keras.insertion import Place, Places, insert_attention
from cbam_keras.profiling import profile_model

# Where attention goes by default, and what predicts as before.
NETWORKS = [
    (ours, ["stage1_block1_bn3", "stage2_block1_bn3"]),
    (nested_model, ["body/block_bn2"]),
    (nested_twice, ["outer/body/block_bn2", "outer/block_bn2"]),
    (nested_sequential, ["body/relu"]),
    (sequential, ["body/inner_conv"]),
    (siamese, ["body/block_bn2"]),
    (shared_layer, ["shared"]),
    (several_inputs_and_outputs, ["block_bn2"]),
    (operations, ["last_conv"]),
    (layers_in_a_list, ["blocks"]),
    (unnamed_weights, ["two"]),
    (lambda_layer, ["block_bn2"]),
    (ends_of_branches, ["drop_bn2", "depth_bn2", "scale_bn2"]),
    (normalized, ["block_bn2"]),
    (normalized_within, ["block_bn2"]),
    (unknown_sizes, ["block_bn2"]),
    (sizes_not_free, ["block_bn2"]),
    (inputs_by_name, ["inner/block_bn2"]),
    (functools.partial(of_rank, 3), ["block_bn"]),
    (functools.partial(of_rank, 5), ["block_bn"]),
]


NAMES = [getattr(build, "__name__", "of_rank") for build, _ in NETWORKS]


@pytest.mark.every_backend
@pytest.mark.parametrize("build, places", NETWORKS, ids=NAMES)
def test_network_predicts_to_the_bit_what_it_did(build, places):
    old = vary(build())
    assert paths(insert_attention(old, dry_run=True)) == places
    new = insert_attention(old)
    assert_holds_all_of(new, old)
    assert new.name == old.name
    assert len(attention_of(new)) == len(places)
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build", [ours, nested_model, several_inputs_and_outputs, operations]
)
def test_compiled_predictions_are_equal_to_rounding(build):
    old = vary(build())
    x = data_for(old)
    assert_close(
        insert_attention(old).predict(x, verbose=0),
        old.predict(x, verbose=0),
    )


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build",
    [ours, nested_model, several_inputs_and_outputs, layers_in_a_list],
)
def test_network_from_a_file_predicts_what_it_did(build, tmp_path):
    vary(build()).save(tmp_path / "old.keras")
    old = keras.saving.load_model(tmp_path / "old.keras")
    x = data_for(old)
    assert_predicts_the_same(insert_attention(old), old, x)


def quantized():
    """Two dense layers, one of them on a feature map, in int8."""
    inputs = keras.Input((6, 3))
    x = layers.Conv1D(8, 3, padding="same", name="conv")(inputs)
    x = layers.Dense(8, name="positionwise")(norm("bn")(x))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(5, name="predictions")(x))
    vary(model)
    for name in ("positionwise", "predictions"):
        model.get_layer(name).quantize("int8")
    return model


@pytest.mark.every_backend
def test_quantized_network_predicts_what_it_did():
    old = quantized()
    new = insert_attention(old, after="^bn$|positionwise")
    kinds = {v.dtype for v in new.get_layer("positionwise").variables}
    assert "int8" in kinds
    gates = attention_of(new)
    assert [gate.dtype_policy.name for gate in gates] == ["float32"] * 2
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.parametrize(
    "attention, kind, options",
    [
        ("cbam", CBAM, {}),
        ("se", SqueezeExcite, {}),
        ("channel", ChannelAttention, {}),
        ("spatial", SpatialAttention, {}),
        (SqueezeExcite, SqueezeExcite, {}),
        (functools.partial(CBAM, kernel_size=3), CBAM, {"kernel_size": 3}),
        (lambda name: CBAM(2, name=name), CBAM, {"reduction_ratio": 2}),
        (CBAM(4, name="template"), CBAM, {"reduction_ratio": 4}),
        *(
            (CBAM(order=order), CBAM, {"order": order})
            for order in ("channel_first", "spatial_first", "parallel")
        ),
        *((CBAM(**VARIANTS[key]), CBAM, {}) for key in VARIANTS),
    ],
    ids=lambda value: str(value).split(" at 0x")[0][:40],
)
def test_attention_comes_in_every_form(attention, kind, options):
    old = vary(small())
    new = insert_attention(old, attention)
    layer = new.get_layer("block_bn2_attention")
    assert type(layer) is kind
    config = layer.get_config()
    assert config["identity_init"]
    assert config.items() >= options.items()
    assert_predicts_the_same(new, old, data_for(old))


def test_template_is_copied_for_each_place():
    template = CBAM(2)
    new = insert_attention(ours(), template)
    one, two = attention_of(new)
    assert one is not two is not template
    assert not template.built
    assert not template.identity_init


def test_layer_without_identity_is_inserted_with_identity_false():
    new = insert_attention(small(), layers.Dropout(0.5), identity=False)
    assert isinstance(new.get_layer("block_bn2_attention"), layers.Dropout)


@pytest.mark.every_backend
def test_output_changes_by_the_inserted_gate_and_nothing_else():
    old = vary(small())
    x = data_for(old)
    new = insert_attention(old, CBAM(2, kernel_size=3), identity=False)
    gate = CBAM(2, kernel_size=3)
    gate.build((None, 8, 8, 8))
    randomize(gate)
    new.get_layer("block_bn2_attention").set_weights(gate.get_weights())
    # The network, computed by hand.
    shortcut, y = (
        keras.Model(old.input, old.get_layer(name).output)(x)
        for name in ("stem_relu", "block_bn2")
    )
    features = to_numpy(ops.relu(shortcut + gate(y)))
    kernel, bias = old.get_layer("predictions").get_weights()
    expected = features.mean(axis=(1, 2)) @ kernel + bias
    (found,) = predictions(new, x)
    # Sums in another order: float32 rounding.
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - predictions(old, x)[0]).max() > 0.1


@pytest.mark.every_backend
def test_shared_layer_shares_its_attention():
    old = vary(shared_layer())
    new = insert_attention(old, identity=False)
    (gate,) = attention_of(new)
    x = data_for(old)
    shared = old.get_layer("shared")
    larger = layers.UpSampling2D()(x)
    expected = [
        to_numpy(old.get_layer(name)(ops.mean(gate(shared(y)), axis=(1, 2))))
        for name, y in [("predictions", x), ("more_predictions", larger)]
    ]
    assert_close(predictions(new, x), expected)


@pytest.mark.every_backend
def test_nested_model_used_twice_shares_its_attention():
    old = vary(siamese())
    new = insert_attention(old, identity=False)
    (gate,) = attention_of(new)
    inner = old.get_layer("body")
    shortcut = keras.Model(inner.input, inner.get_layer("stem_relu").output)
    y = keras.Model(inner.input, inner.get_layer("block_bn2").output)
    left, right = x = data_for(old)
    one, two = (ops.relu(shortcut(z) + gate(y(z))) for z in (left, right))
    expected = old.get_layer("predictions")(ops.mean(one - two, axis=(1, 2)))
    assert_close(predictions(new, x), [to_numpy(expected)])


@pytest.mark.parametrize("build", [ours, nested_twice, siamese])
@pytest.mark.parametrize("attention", ["cbam", "se", "spatial"])
def test_dry_run_counts_what_is_added(build, attention):
    old = build()
    places = insert_attention(old, attention, dry_run=True)
    profile = profile_model(insert_attention(old, attention))
    assert profile.attention_parameters == places.parameters
    assert profile.parameters == places.parameters + sum(
        math.prod(v.shape) for v in old.trainable_variables
    )


def test_dry_run_lists_the_places():
    places = insert_attention(ours(), CBAM(4, kernel_size=3), dry_run=True)
    assert isinstance(places, Places)
    # The MLP with its biases, and a kernel for two maps.
    one, two = (2 * 16 * 4 + 4 + 16 + 18, 2 * 32 * 8 + 8 + 32 + 18)
    assert places == (
        Place(
            "stage1_block1_bn3",
            (None, 8, 8, 16),
            "stage1_block1_bn3_attention",
            one,
        ),
        Place(
            "stage2_block1_bn3",
            (None, 4, 4, 32),
            "stage2_block1_bn3_attention",
            two,
        ),
    )
    lines = str(places).splitlines()
    assert any("stage1_block1_bn3" in x and str(one) in x for x in lines)
    assert any("(None, 4, 4, 32)" in x and str(two) in x for x in lines)
    # The last line is the border of the table.
    assert "2 places" in lines[-2] and str(one + two) in lines[-2]


def test_dry_run_changes_nothing():
    old = vary(ours())
    values = weights_of(old)
    insert_attention(old, dry_run=True)
    assert len(old.layers) == len(ours().layers)
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
