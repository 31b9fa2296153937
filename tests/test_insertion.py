"""Attention put into networks that exist, judged by what these predict."""

import collections
import functools
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import randomize, to_numpy, weights_of

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    models,
)
from cbam_keras.insertion import Place, Places, insert_attention
from cbam_keras.profiling import profile_model

register = keras.saving.register_keras_serializable(package="test_insertion")


# Networks to insert into, and what they have that is hard to copy.


def conv(filters, name, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", name=name, **options)


def norm(name, **options):
    return layers.BatchNormalization(name=name, **options)


def branch(x, name, filters=8, **options):
    x = conv(filters, f"{name}_conv1", **options)(x)
    x = norm(f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = conv(filters, f"{name}_conv2")(x)
    return norm(f"{name}_bn2")(x)


def block(x, name="block", end=None):
    """A residual block; `end` is what follows its branch."""
    y = branch(x, name)
    if end is not None:
        y = end(y)
    return layers.ReLU(name=f"{name}_relu")(
        layers.Add(name=f"{name}_add")([x, y])
    )


def stem(inputs, filters=8):
    return layers.ReLU(name="stem_relu")(conv(filters, "stem_conv")(inputs))


def head(x, name="predictions"):
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(5, name=name)(x)


def network(body, shape=(8, 8, 3)):
    """Returns a classifier whose features are `body(inputs)`."""
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, head(body(inputs)), name="network")


def small():
    """A stem and one residual block."""
    return network(lambda inputs: block(stem(inputs)))


def ours():
    return models.ResNet(
        (1, 1),
        block="bottleneck",
        widths=(4, 8),
        stem_width=4,
        stem="small",
        input_shape=(8, 8, 3),
        classes=5,
        classifier_activation=None,
        name="ours",
    )


def body_model(name="body", channels=8, body=block):
    inputs = keras.Input((8, 8, channels))
    return keras.Model(inputs, body(inputs), name=name)


def nested_model():
    return network(lambda inputs: body_model()(stem(inputs)))


def nested_twice():
    inner = body_model()
    outer_inputs = keras.Input((8, 8, 8))
    outer = keras.Model(outer_inputs, block(inner(outer_inputs)), name="outer")
    return network(lambda inputs: outer(stem(inputs)))


def nested_sequential():
    body = keras.Sequential(
        [conv(8, "conv"), norm("bn"), layers.ReLU(name="relu")], name="body"
    )
    return network(lambda inputs: body(stem(inputs)))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(8, "conv"),
            norm("bn"),
            keras.Sequential([conv(8, "inner_conv")], name="body"),
            layers.GlobalMaxPooling2D(name="pool"),
            layers.Dense(5, name="predictions"),
        ]
    )


def siamese():
    body = body_model(channels=3, body=lambda x: block(stem(x)))
    left, right = (keras.Input((8, 8, 3), name=n) for n in ("left", "right"))
    apart = layers.Subtract(name="apart")([body(left), body(right)])
    return keras.Model([left, right], head(apart))


def shared_layer():
    shared = conv(8, "shared")
    inputs = keras.Input((8, 8, 3))
    first = shared(inputs)
    second = shared(layers.UpSampling2D(name="larger")(inputs))
    return keras.Model(inputs, [head(first), head(second, "more_predictions")])


def several_inputs_and_outputs():
    # Not in alphabetical order: Keras sorts the keys.
    inputs = {
        "photo": keras.Input((8, 8, 3), name="photo"),
        "depth": keras.Input((8, 8, 1), name="depth"),
        "age": keras.Input((4,), name="age"),
    }
    x = layers.Concatenate(name="both")([inputs["photo"], inputs["depth"]])
    x = block(stem(x))
    age = layers.Dense(5, name="age_dense")(inputs["age"])
    return keras.Model(inputs, [head(x) + age, {"features": x, "age": age}])


def operations():
    def body(inputs):
        x = stem(inputs)
        y = ops.relu(branch(x, "block"))
        y = ops.concatenate([y, y * 2.0], axis=-1)
        y = ops.sum(ops.reshape(y, (-1, 8, 8, 2, 8)), axis=3)
        y = conv(8, "last_conv")(ops.clip(y, -1.0, 4.0))
        return (x + y) / 2.0

    return network(body)


@register
class Blocks(layers.Layer):
    """Holds layers in a list, as those of KerasHub do."""

    def __init__(self, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth
        self.steps = []
        for _ in range(depth):
            self.steps.append(conv(8, None))
            self.steps.append(layers.BatchNormalization())

    def build(self, input_shape):
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)

    def call(self, inputs, training=None):
        for i, step in enumerate(self.steps):
            inputs = step(inputs, training=training) if i % 2 else step(inputs)
        return inputs

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


def layers_in_a_list():
    return network(lambda inputs: Blocks(name="blocks")(stem(inputs)))


@register
class Unnamed(layers.Layer):
    """Has several weights of one shape and no name."""

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.scale, self.first, self.second = (
            self.add_weight(shape, initializer="ones") for _ in range(3)
        )

    def call(self, inputs):
        x = ops.relu(inputs * self.scale + self.first)
        return x * self.second


def unnamed_weights():
    def body(inputs):
        return Unnamed(name="two")(Unnamed(name="one")(stem(inputs)))

    return network(body)


def lambda_layer():
    def body(inputs):
        scaled = layers.Lambda(
            lambda x, by: x * by,
            output_shape=(8, 8, 3),
            arguments={"by": 3.0},
            name="scaled",
        )
        # Without a name, Keras can't write it down.
        halved = layers.Lambda(
            functools.partial(ops.multiply, 0.5), name="halved"
        )
        return block(stem(halved(scaled(inputs))))

    return network(body)


@register
class StochasticDepth(layers.Layer):
    """Drops whole branches in training."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, inputs, training=None):
        if not training:
            return inputs
        kept = keras.random.uniform(
            (ops.shape(inputs)[0], 1, 1, 1), seed=self.seeds
        )
        return inputs * ops.cast(kept > self.rate, inputs.dtype)


@register
class LayerScale(layers.Layer):
    """Weighs each channel, as in ConvNeXt."""

    def build(self, input_shape):
        self.gamma = self.add_weight((input_shape[-1],), name="gamma")

    def call(self, inputs):
        return inputs * self.gamma


def ends_of_branches():
    def body(inputs):
        x = stem(inputs)
        x = block(x, "drop", layers.Dropout(0.5, name="dropout"))
        x = block(x, "depth", StochasticDepth(name="stochastic_depth"))
        return block(x, "scale", LayerScale(name="layer_scale"))

    return network(body)


def normalized():
    adapted = layers.Normalization(name="normalized")
    adapted.adapt(np.random.default_rng(2).normal(3, 2, (20, 8, 8, 3)))
    return network(lambda inputs: block(stem(adapted(inputs))))


def unknown_sizes():
    return network(lambda inputs: block(stem(inputs)), (None, None, 3))


def sizes_not_free():
    # Only numbers of positions that 9 divides pass.
    inputs = keras.Input((None, None, 3))
    x = layers.Reshape((9, -1, 8), name="ninths")(block(stem(inputs)))
    return keras.Model(inputs, head(x))


def inputs_by_name():
    left = keras.Input((8, 8, 3), name="left")
    right = keras.Input((8, 8, 1), name="right")
    # Channels by which the one can't pass for the other.
    joined = layers.Concatenate()([left, conv(4, "right_conv")(right)])
    inner = keras.Model([right, left], block(stem(joined)), name="inner")
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    return keras.Model([one, two], head(inner({"left": one, "right": two})))


def of_rank(rank):
    """A network with a block for one or three spatial axes."""
    n = rank - 2
    make = {1: layers.Conv1D, 3: layers.Conv3D}[n]
    pool = {1: layers.GlobalAveragePooling1D, 3: layers.GlobalMaxPooling3D}[n]
    inputs = keras.Input((4,) * n + (3,))
    x = make(8, 3, padding="same", name="stem_conv")(inputs)
    y = make(8, 3, padding="same", name="block_conv")(x)
    x = layers.Add(name="add")([x, norm("block_bn")(y)])
    return keras.Model(inputs, layers.Dense(5, name="out")(pool()(x)))


def vary(model, seed=1):
    """Gives a network values like those of a trained one."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        # Whole numbers are states of random generators and the like, and
        # `Normalization` has learned what it needs.
        if "float" not in variable.dtype or variable.path.startswith(
            "normaliz"
        ):
            continue
        if len(shape) > 1:
            # Depthwise kernels end in 1.
            fan_in = math.prod(shape[: -2 if shape[-1] == 1 else -1])
            values = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        elif variable.name in ("beta", "bias", "moving_mean"):
            values = rng.normal(0, 0.3, shape)
        else:
            values = rng.uniform(0.5, 1.5, shape)
        variable.assign(values)
    return model


def structures(model):
    """Returns inputs and outputs, nested as the model was made."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def data_for(model, batch=3, size=6):
    """Returns random inputs in the structure that a model takes."""
    rng = np.random.default_rng(0)

    def one(x):
        shape = [size if axis is None else axis for axis in x.shape[1:]]
        # Each sample of another brightness, or global pooling evens them out.
        offset = rng.normal(0, 2, (batch,) + (1,) * len(shape))
        return (offset + rng.normal(size=(batch, *shape))).astype(x.dtype)

    return keras.tree.map_structure(one, structures(model)[0])


def predictions(model, x):
    """Returns the outputs, run operation by operation."""
    return [to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


def assert_predicts_the_same(new, old, x):
    keras.tree.assert_same_structure(structures(new), structures(old))
    for found, expected in zip(
        predictions(new, x), predictions(old, x), strict=True
    ):
        # What the samples have in common would prove nothing.
        values = expected.astype("float64")
        assert np.ptp(values, axis=0).max() > 0.01 * np.abs(values).max() > 0
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


def assert_close(found, expected):
    """To rounding of float32, relative to the scale of the outputs."""
    for one, other in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6 * np.abs(other).max())


def contents(variables):
    """Returns how many variables there are of each content."""
    return collections.Counter(to_numpy(v).tobytes() for v in variables)


def assert_holds_all_of(new, old):
    assert not contents(old.variables) - contents(new.variables)


def attention_of(model):
    """Returns the attention layers, those of models within models too."""
    kinds = (CBAM, ChannelAttention, SpatialAttention)
    found = [layer for layer in model.layers if isinstance(layer, kinds)]
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += attention_of(layer)
    return found


def paths(places):
    return [place.layer for place in places]


def step(model, x, seed=3):
    """Trains for one step on random targets."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(len(x), *model.output.shape[1:]))
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    model.fit(x, y.astype("float32"), batch_size=len(x), verbose=0)


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
    ids=lambda value: str(value)[:40],
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
    ids=lambda value: str(value)[:40],
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


# Where it goes when the caller leaves it open.


def bottleneck(x):
    y = layers.ReLU()(norm("bn1")(conv(4, "conv1", 1)(x)))
    y = layers.ReLU()(norm("bn2")(conv(4, "conv2")(y)))
    y = norm("bn3")(conv(8, "conv3", 1)(y))
    return layers.ReLU()(layers.Add()([conv(8, "shortcut", 1)(x), y]))


def preactivation(x):
    x = stem(x)
    y = conv(8, "conv1")(layers.ReLU()(norm("bn1")(x)))
    y = conv(8, "conv2")(layers.ReLU()(norm("bn2")(y)))
    return layers.ReLU()(norm("bn3")(layers.Add()([x, y])))


def projection(x):
    shortcut = norm("shortcut_bn")(conv(8, "shortcut", 1, strides=2)(x))
    y = branch(x, "block", strides=2)
    return layers.ReLU()(layers.Add()([y, shortcut]))


def pooled_shortcut(x):
    shortcut = conv(8, "shortcut", 1)(layers.AveragePooling2D(2)(x))
    return layers.Add()([shortcut, branch(x, "block", strides=2)])


def padded_shortcut(x):
    # As ResNets for CIFAR-10: strided, more channels by concatenation.
    x = stem(x, 4)
    shortcut = layers.MaxPooling2D(1, strides=2)(x)
    shortcut = layers.Concatenate()([shortcut, shortcut * 0.0])
    return layers.Add()([shortcut, branch(x, "block", strides=2)])


def plus(x):
    x = stem(x)
    return ops.relu(x + branch(x, "block"))


def scaled_branch(x):
    x = stem(x)
    return layers.Add()([x, branch(x, "block") * 0.5])


def scaled_layers(x):
    x = stem(x)
    y = layers.Rescaling(0.3)(branch(x, "block"))
    y = layers.Activation("linear")(layers.SpatialDropout2D(0.1)(y))
    return layers.Add()([x, y])


def two_scales(x):
    x = stem(x)
    y = LayerScale()(branch(x, "block"))
    return layers.Add()([x, StochasticDepth()(y)])


def three_way(x):
    x = stem(x)
    return layers.Add()([branch(x, "one"), x, branch(x, "two")])


def squeezed_and_excited(x):
    x = stem(x)
    y = branch(x, "block")
    weights = layers.GlobalAveragePooling2D(keepdims=True)(y)
    weights = layers.Conv2D(8, 1, activation="sigmoid")(weights)
    y = layers.Multiply(name="excited")([y, weights])
    return layers.Add()([x, y])


def efficient_channel_attention(x):
    x = stem(x)
    y = branch(x, "block")
    weights = layers.Reshape((8, 1))(layers.GlobalAveragePooling2D()(y))
    weights = layers.Conv1D(1, 3, padding="same")(weights)
    weights = layers.Reshape((1, 1, 8))(ops.sigmoid(weights))
    return layers.Add()([x, layers.Multiply(name="weighted")([y, weights])])


def growing(x):
    shortcut = conv(8, "shortcut", 1)(layers.UpSampling2D()(x))
    return layers.Add()([shortcut, branch(layers.UpSampling2D()(x), "block")])


def one_activation_for_all(x):
    relu, add = layers.ReLU(name="relu"), layers.Add(name="add")
    x = relu(conv(8, "stem_conv")(x))
    for name in ("one", "two"):
        y = relu(norm(f"{name}_bn1")(conv(4, f"{name}_conv1")(x)))
        y = relu(norm(f"{name}_bn2")(conv(8, f"{name}_conv2")(y)))
        x = relu(add([x, y]))
    return x


def vgg(x):
    for level in (1, 2, 3):
        x = conv(4 * level, f"conv{level}_1", activation="relu")(x)
        x = conv(4 * level, f"conv{level}_2", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    return x


def vgg_with_one_activation(x):
    relu = layers.ReLU(name="relu")
    for level in (1, 2):
        x = relu(norm(f"bn{level}")(conv(4 * level, f"conv{level}")(x)))
        x = layers.MaxPooling2D(2)(x)
    return x


def vgg_with_dropout(x):
    for level in (1, 2):
        x = layers.ReLU(name=f"relu{level}")(conv(8, f"conv{level}")(x))
        x = layers.MaxPooling2D(2)(layers.Dropout(0.2)(x))
    return x


def padded_by_hand(x):
    for level in (1, 2):
        x = layers.ReLU(name=f"relu{level}")(conv(8, f"conv{level}")(x))
        x = layers.ZeroPadding2D(1, name=f"pad{level}")(x)
        x = layers.Conv2D(8, 3, strides=2, name=f"down{level}")(x)
    return layers.ReLU(name="relu3")(x)


def valid_padding(x):
    # Its sizes shrink by the border of each convolution.
    for level in (1, 2):
        x = layers.Conv2D(8, 3, name=f"conv{level}_1")(x)
        x = layers.Conv2D(8, 3, name=f"conv{level}_2")(x)
        x = layers.MaxPooling2D(2)(x)
    return x


def densenet(x):
    for level in (1, 2):
        for i in (1, 2):
            y = conv(4, f"conv{level}_{i}")(layers.ReLU()(x))
            x = layers.Concatenate(name=f"concat{level}_{i}")([x, y])
        if level == 1:
            x = conv(4, "transition", 1)(norm("transition_bn")(x))
            x = layers.AveragePooling2D(2)(x)
    return layers.ReLU(name="relu")(norm("bn")(x))


def inception(x):
    for level in (1, 2):
        branches = [conv(4, f"conv{level}_{i}", i)(x) for i in (1, 3, 5)]
        pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
        branches.append(conv(4, f"pooled_conv{level}", 1)(pooled))
        x = layers.Concatenate(name=f"mixed{level}")(branches)
        if level == 1:
            x = layers.Concatenate(name="reduced")(
                [layers.MaxPooling2D(2)(x), conv(4, "down", strides=2)(x)]
            )
    return x


def unet(x):
    skips = []
    for level in (1, 2):
        x = conv(4 * level, f"down{level}_1", activation="relu")(x)
        x = conv(4 * level, f"down{level}_2", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = conv(16, "deep_1", activation="relu")(x)
    x = conv(16, "deep_2", activation="relu")(x)
    for level in (2, 1):
        x = layers.Conv2DTranspose(
            4 * level, 2, strides=2, name=f"up{level}_0"
        )(x)
        x = layers.Concatenate(name=f"joined{level}")([skips.pop(), x])
        x = conv(4 * level, f"up{level}_1", activation="relu")(x)
    return x


def lateral_additions(x):
    fine = conv(8, "fine", activation="relu")(x)
    coarse = conv(8, "coarse", strides=2, activation="relu")(fine)
    top = conv(4, "top", 1)(coarse)
    lateral = conv(4, "lateral", 1)(fine)
    merged = layers.Add(name="merged")([lateral, layers.UpSampling2D()(top)])
    return conv(4, "smoothed")(merged)


def pyramid(x):
    levels = []
    for level in (1, 2, 3):
        x = conv(8, f"down{level}", strides=2, activation="relu")(x)
        levels.append(x)
    x = conv(4, "top", 1)(x)
    for level in (2, 1):
        lateral = conv(4, f"lateral{level}", 1)(levels[level - 1])
        x = layers.Add()([lateral, layers.UpSampling2D()(x)])
        x = conv(4, f"smoothed{level}")(x)
    return x


def hourglass(x):
    x = stem(x)
    y = conv(8, "low", activation="relu")(layers.MaxPooling2D(2)(x))
    y = conv(8, "high", activation="relu")(layers.UpSampling2D()(y))
    return layers.Add(name="joined")([x, y])


def sums_in_a_cell(x):
    x = stem(x)
    parts = [
        layers.Add(name=f"sum{i}")([x, conv(8, f"conv{i}", i)(x)])
        for i in (1, 3, 5)
    ]
    return layers.Concatenate(name="cell")(parts)


def second_exit(x):
    x = stem(x)
    inside = conv(8, "inside")(x)
    sum_ = layers.ReLU()(layers.Add()([x, conv(8, "end")(inside)]))
    return layers.Concatenate(name="joined")([sum_, inside])


def two_equal_branches(x):
    x = stem(x)
    x = layers.Add(name="add")([branch(x, "one"), branch(x, "two")])
    return layers.ReLU(name="end")(x)


RESIDUAL = [
    (block, ["block_bn2"]),
    (bottleneck, ["bn3"]),
    (preactivation, ["conv2"]),
    (projection, ["block_bn2"]),
    (pooled_shortcut, ["block_bn2"]),
    (padded_shortcut, ["block_bn2"]),
    (plus, ["block_bn2"]),
    (scaled_branch, ["block_bn2"]),
    (scaled_layers, ["block_bn2"]),
    (two_scales, ["block_bn2"]),
    (three_way, ["one_bn2", "two_bn2"]),
    (squeezed_and_excited, ["excited"]),
    (efficient_channel_attention, ["weighted"]),
    (growing, ["block_bn2"]),
    (one_activation_for_all, ["one_bn2", "two_bn2"]),
]
PLAIN = [
    (vgg, ["conv1_2", "conv2_2", "conv3_2"]),
    (vgg_with_one_activation, ["bn1", "bn2"]),
    (vgg_with_dropout, ["relu1", "relu2"]),
    (padded_by_hand, ["relu1", "relu2", "relu3"]),
    (valid_padding, ["conv1_2", "conv2_2"]),
    (densenet, ["transition", "relu"]),
    (inception, ["mixed1", "mixed2"]),
    (unet, ["down1_2", "down2_2", "deep_2"]),
    (lateral_additions, ["fine", "coarse"]),
    (pyramid, ["down1", "down2", "down3"]),
    (hourglass, ["stem_relu", "low"]),
    (sums_in_a_cell, ["cell"]),
    (second_exit, ["joined"]),
    (two_equal_branches, ["end"]),
]


@pytest.mark.parametrize(
    "body, places",
    RESIDUAL + PLAIN,
    ids=[body.__name__ for body, _ in RESIDUAL + PLAIN],
)
@pytest.mark.parametrize("size", [32, None])
def test_default_places(body, places, size):
    channels = 8 if body is block else 3
    model = network(body, (size, size, channels))
    assert paths(insert_attention(model, dry_run=True)) == places


# Mistakes, and what the caller must know.


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class OwnCall(type(small())):
    """A functional model that computes something else than its graph."""

    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


def own_call():
    model = small()
    return OwnCall(model.input, model.output)


def two_bodies():
    left = body_model("left", 3, lambda x: conv(4, "conv")(x))
    right = body_model("right", 4, lambda x: conv(4, "conv")(x))
    return network(lambda inputs: right(left(inputs)))


def mlp():
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(2)(x), name="mlp")


def with_head():
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "conv")(inputs)
    y = layers.Dense(3, name="dense")(layers.Flatten(name="flat")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, [layers.Dense(2, name="end")(x), y])


@register
class Halves(layers.Layer):
    def call(self, inputs):
        return inputs / 2.0, inputs / 3.0


def two_outputs():
    def body(inputs):
        one, two = Halves(name="halves")(stem(inputs))
        return layers.Add()([one, two])

    return network(body)


def one_activation():
    return network(vgg_with_one_activation)


class NoConfig(layers.Layer):
    """What Keras can't write down, without a `get_config`."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class LosingConfig(Blocks):
    def get_config(self):
        config = super().get_config()
        del config["depth"]
        return config


class WrongConfig(Blocks):
    def get_config(self):
        return {**super().get_config(), "width": 3}


def with_layer(layer):
    return network(lambda inputs: block(layer(stem(inputs))))


def no_config():
    return with_layer(NoConfig(lambda x: x, name="odd"))


def losing_config():
    return with_layer(LosingConfig(depth=3, name="odd"))


def wrong_config():
    return with_layer(WrongConfig(name="odd"))


def outside_variable():
    model = small()
    model.temperature = model.add_weight((1,), name="temperature")
    return model


def inserted():
    return insert_attention(small())


class Widening(layers.Conv2D):
    """No attention: it changes the number of channels."""

    def __init__(self, name=None):
        super().__init__(5, 1, name=name)


VALUE_ERRORS = [
    (Subclassed, {}, "a subclassed model: its layers are called in Python"),
    (own_call, {}, "of type OwnCall, a subclassed model"),
    (
        lambda: keras.Sequential([layers.Conv2D(4, 3)]),
        {},
        r"which is not built. Begin it with keras.Input\(shape\)",
    ),
    (
        small,
        {"after": "blok_bn2"},
        "after='blok_bn2', which finds none. Did you mean \"block_bn2\", ",
    ),
    (
        small,
        {"after": "xyz"},
        r"which finds none. Layers that can take attention \(9\): \"stem_conv",
    ),
    (small, {"after": "bn["}, r"which is not one \(unterminated character"),
    (
        small,
        {"after": ["block_bn2", "block_bn3"]},
        'which finds none. Did you mean "block_bn2", "block_bn1"',
    ),
    (small, {"after": ["^block"]}, "which finds none"),
    (small, {"after": lambda layer: False}, "which finds none"),
    (
        two_bodies,
        {"after": ["conv"]},
        '"conv" may be "left/conv", "right/conv"',
    ),
    (with_head, {"after": "pool"}, r'finds "pool" with .* shape \(None, 4\)'),
    (with_head, {"after": "flat"}, r"shape \(None, 256\)"),
    (
        with_head,
        {"after": ["conv", "dense"]},
        r'shape \(None, 3\)\. Layers that can take attention \(1\): "conv"',
    ),
    (
        two_outputs,
        {"after": "halves"},
        r"shape \(None, 8, 8, 8\), \(None, 8, 8, 8\)",
    ),
    (
        one_activation,
        {"after": "relu"},
        r"shape \(None, 8, 8, 4\), \(None, 4, 4, 8\)",
    ),
    (
        inserted,
        {"after": "block_bn2"},
        'named "block_bn2_attention". Received: .*been inserted there before',
    ),
    (small, {"attention": None}, "must say what to insert. .*attention=None"),
    (small, {"attention": "cbamm"}, 'Did you mean "cbam"'),
    (
        small,
        {"attention": Widening, "identity": False},
        r"\(None, 8, 8, 8\) after layer \"block_bn2\" into \(None, 8, 8, 5\)",
    ),
    (
        small,
        {"attention": layers.LayerNormalization},
        "gives a LayerNormalization. Pass identity=False",
    ),
    (no_config, {}, '"odd" of class NoConfig must be such that it can be made'),
    (
        wrong_config,
        {},
        '"odd" of class WrongConfig must (?s:.)*Give the class a',
    ),
    (losing_config, {}, r"one without .*kernel\" of shape \(3, 3, 8, 8\)"),
    (outside_variable, {}, 'with 1 others: "network/temperature"'),
    (mlp, {}, 'model "mlp", which has no convolution .* has no layer that'),
]
TYPE_ERRORS = [
    (lambda: "ResNet50", {}, "`model` must be a functional keras.Model"),
    (lambda: layers.Dense(3), {}, "of type Dense"),
    (small, {"after": 5}, "Received: after=5"),
    (small, {"after": []}, r"Received: after=\[\]"),
    (small, {"after": ["block_bn2", 3]}, r"Received: after=\['block_bn2', 3"),
    (small, {"attention": 3}, "`attention` must be None, a name"),
    (small, {"identity": 1}, "`identity` must be"),
    (small, {"dry_run": "yes"}, "`dry_run` must be"),
]


@pytest.mark.parametrize(
    "build, options, message",
    VALUE_ERRORS,
    ids=[message[:40] for _, _, message in VALUE_ERRORS],
)
def test_wrong_values_are_told(build, options, message):
    model = build()
    with pytest.raises(ValueError, match=message):
        insert_attention(model, **options)


@pytest.mark.parametrize(
    "build, options, message",
    TYPE_ERRORS,
    ids=[message[:40] for _, _, message in TYPE_ERRORS],
)
def test_wrong_kinds_are_told(build, options, message):
    model = build()
    with pytest.raises(TypeError, match=message):
        insert_attention(model, **options)


# `pytest.warns` gives every warning a place that setup.cfg can't ignore.
OF_NUMPY = "ignore:__array__ implementation:DeprecationWarning"


@pytest.mark.filterwarnings(OF_NUMPY)
def test_compiled_model_is_told_to_be_compiled_anew():
    old = vary(small())
    old.compile("adam", loss="mse", metrics=["mae"])
    x = data_for(old)
    old.fit(x, np.ones((3, 5)), verbose=0)
    with pytest.warns(UserWarning, match="is compiled, the new model is not"):
        new = insert_attention(old)
    assert not new.compiled
    assert_predicts_the_same(new, old, x)


@pytest.mark.filterwarnings(OF_NUMPY)
def test_preprocessor_is_told_to_stay_behind():
    old = small()
    old.preprocessor = layers.Rescaling(1 / 255)
    with pytest.warns(UserWarning, match="preprocesses its input, the new"):
        insert_attention(old)


def test_no_preprocessor_needs_no_word():
    old = small()
    old.preprocessor = None
    insert_attention(old)
