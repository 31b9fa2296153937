"""Attention put into networks that exist, judged by what these predict."""

import functools
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
from insertion_checks import (
    assert_close,
    assert_holds_all_of,
    assert_predicts_the_same,
    attention_of,
    contents,
    conv,
    data_for,
    ends_of_branches,
    inputs_by_name,
    lambda_layer,
    layers_in_a_list,
    nested_model,
    nested_sequential,
    nested_twice,
    network,
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
    step,
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


@pytest.mark.parametrize("build, places", NETWORKS, ids=NAMES)
def test_network_predicts_to_the_bit_what_it_did(build, places):
    old = vary(build())
    assert paths(insert_attention(old, dry_run=True)) == places
    new = insert_attention(old)
    assert_holds_all_of(new, old)
    assert new.name == old.name
    assert len(attention_of(new)) == len(places)
    assert_predicts_the_same(new, old, data_for(old))


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


def test_vocabulary_is_carried_over():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("lookups are computed by TensorFlow")
    lookup = layers.IntegerLookup(output_mode="one_hot")
    lookup.adapt(np.array([3, 5, 7]))
    old = small()
    code = keras.Input((1,), dtype="int64", name="code")
    x = layers.Concatenate()([old.output, lookup(code)])
    old = vary(keras.Model([old.input, code], layers.Dense(3, name="out")(x)))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    x = [images.astype("float32"), np.array([[5], [7], [9]])]
    assert_predicts_the_same(insert_attention(old), old, x)


@pytest.mark.parametrize(
    "build",
    [ours, nested_model, several_inputs_and_outputs, layers_in_a_list],
)
def test_network_from_a_file_predicts_what_it_did(build, tmp_path):
    vary(build()).save(tmp_path / "old.keras")
    old = keras.saving.load_model(tmp_path / "old.keras")
    x = data_for(old)
    assert_predicts_the_same(insert_attention(old), old, x)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"]
)
@pytest.mark.parametrize("build", [small, operations, nested_model])
def test_attention_takes_the_precision_of_the_network(build, policy):
    keras.config.set_dtype_policy(policy)
    old = vary(build())
    keras.config.set_dtype_policy("float32")
    new = insert_attention(old)
    assert {a.dtype_policy.name for a in attention_of(new)} == {policy}
    assert new.output.dtype == old.output.dtype
    assert_predicts_the_same(new, old, data_for(old))


@pytest.mark.usefixtures("float64")
def test_float64_network_predicts_what_it_did():
    keras.config.set_dtype_policy("float64")
    old = vary(small())
    keras.config.set_dtype_policy("float32")
    new = insert_attention(old)
    assert attention_of(new)[0].variables[0].dtype == "float64"
    assert new.output.dtype == "float64"
    assert_predicts_the_same(new, old, data_for(old))


def test_precision_chosen_for_the_attention_is_kept():
    old = vary(small())
    gate = functools.partial(CBAM, dtype="mixed_bfloat16")
    (layer,) = attention_of(insert_attention(old, gate))
    assert layer.dtype_policy.name == "mixed_bfloat16"


def channels_first():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = conv(8, "stem_conv", **first)(inputs)
    y = conv(8, "block_conv", **first)(x)
    y = layers.ReLU(name="block_relu")(norm("block_bn", axis=1)(y))
    x = layers.Add(name="block_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool", **first)(x)
    return keras.Model(inputs, layers.Dense(5, name="predictions")(x))


@pytest.mark.parametrize("after", [None, "block_bn", "block_add"])
def test_attention_takes_the_data_format_of_its_place(after):
    old = vary(channels_first())
    new = insert_attention(old, after=after)
    (layer,) = attention_of(new)
    assert layer.data_format == "channels_first"
    assert layer.channel_attention.excite_bias.shape == (8,)
    if keras.backend.backend() != "tensorflow":
        # Which has no convolution of that kind on a CPU.
        assert_predicts_the_same(new, old, data_for(old))


def test_attention_in_channels_last_is_left_so_under_another_default():
    old = vary(small())
    keras.config.set_image_data_format("channels_first")
    new = insert_attention(old)
    assert attention_of(new)[0].data_format == "channels_last"
    assert_predicts_the_same(new, old, data_for(old))


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


def test_quantized_network_predicts_what_it_did():
    old = quantized()
    new = insert_attention(old, after="^bn$|positionwise")
    kinds = {v.dtype for v in new.get_layer("positionwise").variables}
    assert "int8" in kinds
    gates = attention_of(new)
    assert [gate.dtype_policy.name for gate in gates] == ["float32"] * 2
    assert_predicts_the_same(new, old, data_for(old))


# Forms of attention.


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


def test_layer_without_identity_is_inserted_where_none_is_asked():
    new = insert_attention(small(), layers.Dropout(0.5), identity=False)
    assert isinstance(new.get_layer("block_bn2_attention"), layers.Dropout)


def test_output_changes_by_the_inserted_gate_and_nothing_else():
    old = vary(small())
    x = data_for(old)
    new = insert_attention(old, CBAM(2, kernel_size=3), identity=False)
    gate = CBAM(2, kernel_size=3)
    gate.build((None, 8, 8, 8))
    randomize(gate)
    new.get_layer("block_bn2_attention").set_weights(gate.get_weights())
    # The network by hand.
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


# What is kept.


def test_variables_arrive_under_their_names():
    old = vary(ours())
    new = insert_attention(old)
    values = {v.path: to_numpy(v) for v in new.variables}
    found = {v.path: values[v.path] for v in old.variables}
    for variable in old.variables:
        np.testing.assert_array_equal(found[variable.path], to_numpy(variable))
    added = values.keys() - found.keys()
    assert {path.split("/")[0] for path in added} == {
        f"stage{stage}_block1_bn3_attention" for stage in (1, 2)
    }


@pytest.mark.parametrize("build", [ours, nested_model, sequential])
def test_old_model_is_left_as_it_is(build):
    old = vary(build())
    x = data_for(old)
    before = predictions(old, x)
    variables, values = list(old.variables), weights_of(old)
    outputs = [layer.output for layer in old.layers]
    new = insert_attention(old)
    step(new, x)
    # `output` raises if a layer has been called once more.
    assert all(
        layer.output is output
        for layer, output in zip(old.layers, outputs, strict=True)
    )
    assert list(map(id, old.variables)) == list(map(id, variables))
    for found, expected in zip(weights_of(old), values, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictions(old, x), before)


@pytest.mark.parametrize("build", [ours, nested_twice, layers_in_a_list])
def test_training_changes_old_and_new_weights(build):
    new = insert_attention(vary(build()))
    before = [to_numpy(v) for v in new.trainable_variables]
    step(new, data_for(new))
    changed = {
        variable.path.rsplit("/", 1)[0]
        for variable, old in zip(new.trainable_variables, before, strict=True)
        if not np.array_equal(to_numpy(variable), old)
    }
    # The first factor of each gate waits for the last, which starts at zero.
    assert changed == {
        variable.path.rsplit("/", 1)[0] for variable in new.trainable_variables
    }


def freeze_layer(model):
    model.get_layer("stem_conv").trainable = False


def freeze_nested(model):
    model.get_layer("body").trainable = False


def freeze_all(model):
    model.trainable = False


def freeze_inside_a_layer(model):
    model.get_layer("blocks").steps[0].trainable = False
    model.get_layer("blocks").steps[1].trainable = False


def freeze_variable(model):
    model.get_layer("stem_conv").kernel.trainable = False


FROZEN = [
    (nested_model, freeze_variable),
    (ours, freeze_all),
    (nested_model, freeze_layer),
    (nested_model, freeze_nested),
    (nested_model, freeze_all),
    (layers_in_a_list, freeze_all),
    (layers_in_a_list, freeze_inside_a_layer),
]


@pytest.mark.parametrize("build, freeze", FROZEN)
def test_frozen_stays_frozen_and_attention_trains(build, freeze):
    old = vary(build())
    freeze(old)
    new = insert_attention(old)
    found = contents(new.trainable_variables)
    for gate in attention_of(new):
        assert all(variable.trainable for variable in gate.variables)
        found -= contents(gate.variables)
    assert found == contents(old.trainable_variables)


@pytest.mark.parametrize("build", [ours, nested_model, layers_in_a_list])
def test_training_leaves_a_frozen_network_to_the_bit(build):
    old = vary(build())
    freeze_all(old)
    new = insert_attention(old)
    x = data_for(old)
    gate = attention_of(new)[0]
    before = weights_of(gate)
    step(new, x)
    # Moving statistics too.
    assert_holds_all_of(new, old)
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(weights_of(gate), before, strict=True)
    )


def test_norm_frozen_inside_a_layer_keeps_its_statistics():
    old = vary(layers_in_a_list())
    freeze_inside_a_layer(old)
    new = insert_attention(old)
    step(new, data_for(old))
    found, expected = (
        model.get_layer("blocks").steps[1].get_weights() for model in (new, old)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "build",
    [ours, nested_twice, siamese, several_inputs_and_outputs, operations],
)
def test_result_is_saved_and_loaded(build, tmp_path):
    new = insert_attention(vary(build()), identity=False)
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    assert_predicts_the_same(loaded, new, data_for(new))


LOAD = """
import pathlib, sys
import keras, numpy as np
import cbam_keras

folder = pathlib.Path(sys.argv[1])
model = keras.saving.load_model(folder / "new.keras")
found = model(np.load(folder / "x.npy"), training=False)
np.save(folder / "found.npy", keras.ops.convert_to_numpy(found))
"""


@pytest.mark.slow
def test_result_loads_in_a_fresh_process(tmp_path):
    new = insert_attention(vary(nested_model()), identity=False)
    x = data_for(new)
    new.save(tmp_path / "new.keras")
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], check=True)
    (expected,) = predictions(new, x)
    found = np.load(tmp_path / "found.npy")
    assert_close([found], [expected])


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
    # The perceptron with its biases, and a kernel for two maps.
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


# Where it goes, said by the caller.


def many_names():
    inner_inputs = keras.Input((8, 8, 8))
    x = conv(8, "conv3")(conv(8, "conv2")(inner_inputs))
    inner = keras.Model(inner_inputs, x, name="body")

    def body(inputs):
        x = conv(8, "conv10")(conv(8, "conv1")(inputs))
        return conv(8, "conv4")(inner(x))

    return network(body)


ALL = ["conv1", "conv10", "body/conv2", "body/conv3", "conv4"]


@pytest.mark.parametrize(
    "after, places",
    [
        # A name is that layer alone, though it begins another one.
        ("conv1", ["conv1"]),
        ("conv10", ["conv10"]),
        ("conv2", ["body/conv2"]),
        ("body/conv2", ["body/conv2"]),
        ("body", ["body"]),
        # Anything else is a regular expression.
        ("conv", ALL),
        ("^conv1", ["conv1", "conv10"]),
        ("conv[24]$", ["body/conv2", "conv4"]),
        ("body/", ["body/conv2", "body/conv3"]),
        (["conv1"], ["conv1"]),
        (["body/conv3", "conv1"], ["body/conv3", "conv1"]),
        (("conv1", "conv1"), ["conv1"]),
        ((name for name in ("conv4", "conv3")), ["conv4", "body/conv3"]),
        (lambda layer: isinstance(layer, layers.Conv2D), ALL),
        (lambda layer: layer.name.endswith("0"), ["conv10"]),
    ],
    ids=lambda value: str(value).split(" at 0x")[0][:40],
)
def test_after_finds_layers(after, places):
    found = insert_attention(many_names(), after=after, dry_run=True)
    assert sorted(paths(found)) == sorted(places)


@pytest.mark.parametrize("after", ["conv2", "body", "conv1$|conv3"])
def test_attention_stands_where_after_says(after):
    old = vary(many_names())
    new = insert_attention(old, after=after)
    assert_predicts_the_same(new, old, data_for(old))
    for place in insert_attention(old, after=after, dry_run=True):
        *models_around, name = place.layer.split("/")
        graph = functools.reduce(keras.Model.get_layer, models_around, new)
        gate = graph.get_layer(f"{name}_attention")
        source = gate.input._keras_history.operation
        assert source is graph.get_layer(name)
        # Nothing else reads what the layer gives.
        assert source.output.shape == gate.output.shape
        assert len(source._outbound_nodes) == 1


def test_attention_goes_in_twice_at_different_places():
    old = vary(many_names())
    once = insert_attention(old, "se", after="conv1")
    twice = insert_attention(once, "cbam", after=["conv2", "conv10"])
    assert len(attention_of(twice)) == 3
    assert_predicts_the_same(twice, old, data_for(old))


def test_attention_is_not_piled_up_unasked():
    once = insert_attention(vary(ours()))
    with pytest.raises(ValueError, match="stage1_block1_bn3_attention"):
        insert_attention(once)
    twice = insert_attention(once, "spatial", after="attention$")
    assert len(attention_of(twice)) == 4
    assert_predicts_the_same(twice, once, data_for(once))
