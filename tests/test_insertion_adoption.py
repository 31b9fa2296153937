"""Attention that somebody else wrote becomes ours: `adopt`."""

import re
from functools import partial

import keras
import numpy as np
import pytest
from insertion_checks import data_for, predictions, vary
from keras import layers, ops
from pasted import (
    CHANNELS,
    Both,
    Normalized,
    OfTensorFlow,
    Subclassed,
    Weights,
    both,
    channel,
    efficient,
    gated,
    network,
    pooled,
    spatial,
    unrefined,
)

from cbam_keras import CBAM, SimAM
from cbam_keras.insertion import adopt
from cbam_keras.layers import AttentionLayer

# A name: what is pasted, and the line of code for what it becomes.
FORMS = {
    "kobiso": (both, "CBAM(R)"),
    "Lambda": (partial(channel, form="lambda"), "ChannelAttention(R)"),
    "Sequential": (partial(channel, unit="sequential"), "ChannelAttention(R)"),
    "spatial first": (
        lambda x: channel(spatial(x)),
        "CBAM(R, order='spatial_first')",
    ),
    "unrefined": (unrefined, "CBAM(R, order='parallel')"),
    # One unusual argument of CBAM is tried, beside those that are usual.
    "two sigmoids": (
        partial(both, join="gates", activation="gelu"),
        "CBAM(R, activation='gelu', combine='gates')",
    ),
    "truncated": (
        partial(channel, hidden=5),
        "ChannelAttention(hidden_units=5)",
    ),
    "channel gate": (channel, "ChannelAttention(R)"),
    "Swish": (
        partial(channel, pools=("avg",), activation="silu", unit="conv"),
        "SqueezeExcite(R, activation='silu')",
    ),
    "hard sigmoid": (
        partial(channel, pools=("avg",), gate="hard_sigmoid"),
        "SqueezeExcite(R, gate_activation='hard_sigmoid')",
    ),
    "dilated": (
        partial(spatial, size=3, dilation_rate=2),
        "SpatialAttention(kernel_size=3, dilation_rate=2)",
    ),
    "ECA": (efficient, "EfficientChannelAttention(kernel_size=3)"),
    "class Both": (
        lambda x: Both()(x),
        "CBAM(R, spatial_pool_types=('max', 'avg'), spatial_use_bias=True)",
    ),
    "class Normalized": (
        lambda x: Normalized()(x),
        "SpatialAttention(pool_types=('max', 'avg'), use_bias=True, "
        "batch_norm=True)",
    ),
    "kernels at one position": (
        lambda x: gated(
            x,
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.Conv2D(CHANNELS, 3, padding="same", activation="sigmoid"),
        ),
        "SqueezeExcite(R)",
    ),
    "own weights": (
        lambda x: Weights()(x),
        "SqueezeExcite(R, use_bias=False)",
    ),
}


exhaustive = pytest.mark.exhaustive
# `check` recognizes these in `test_recognition_claims.py`, and other forms
# show that weights of their layers are carried over.
RECOGNIZED = {
    *("kobiso", "Sequential", "spatial first", "channel gate", "Swish"),
    *("hard sigmoid", "class Both"),
}


def marked(form):
    marks = [pytest.mark.every_backend] * (form == "own weights")
    marks += [exhaustive] * (form in RECOGNIZED)
    return pytest.param(form, marks=marks)


def only(report):
    (row,) = report.rows
    return row


def gate_of(model):
    (layer,) = (x for x in model.layers if isinstance(x, AttentionLayer))
    return layer


def assert_predicts_the_same(model, other):
    x = data_for(model)
    (expected,), (y,) = (predictions(m, x) for m in (model, other))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * largest)


def assert_trains_the_same(model, other):
    x = data_for(model)
    (before,) = predictions(model, x)
    losses = []
    for each in (model, other):
        each.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        losses.append(each.train_on_batch(x, 0 * before + 1))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_predicts_the_same(model, other)


@pytest.mark.parametrize("form", [*map(marked, FORMS)])
def test_what_computes_the_same_becomes_ours(form):
    gate, code = FORMS[form]
    model = network(gate)
    before = model.get_weights()
    adopted, report = adopt(model)
    row = only(report)
    code = code.replace("(R", "(reduction_ratio=4")
    assert row.adopted and row.equals == f"cbam_keras.{code}"
    assert type(gate_of(adopted)).__name__ == code.partition("(")[0]
    assert row.difference < 1e-5 and report.difference < 1e-5
    assert_predicts_the_same(model, adopted)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert_trains_the_same(model, adopted)


@pytest.mark.parametrize(
    "form, shape, kind",
    [
        ("channel gate", (20, 3), "channel"),
        ("dilated", (None, None, 3), "spatial"),
        pytest.param("kobiso", (20, 3), "cbam", marks=exhaustive),
        pytest.param("kobiso", (None, None, 3), "cbam", marks=exhaustive),
        pytest.param("class Both", (20, 3), "cbam", marks=exhaustive),
        ("class Both", (5, 6, 7, 3), "cbam"),
    ],
)
def test_any_number_of_positions_is_adopted(form, shape, kind):
    model = network(FORMS[form][0], shape)
    adopted, report = adopt(model)
    assert only(report).kind == kind
    assert_predicts_the_same(model, adopted)


def untied(x):
    """An MLP with a first layer for each pool."""
    last = layers.Dense(CHANNELS)
    several = [
        last(layers.Dense(3, "relu")(pooled(x, kind)))
        for kind in ("avg", "max")
    ]
    return x * ops.sigmoid(layers.add(several))


def test_what_is_none_of_ours_stays_and_is_named():
    model = network(untied)
    same, report = adopt(model)
    assert same is model and not only(report).adopted
    assert only(report).verdict.endswith("separate weights for each pool")


def of_dense(first, last=(), kind=layers.Dense, between=()):
    """Returns SE whose layers have options."""

    def gate(x):
        parts = [kind(3, activation="relu", **first), *between]
        last_layer = kind(CHANNELS, activation="sigmoid", **dict(last))
        return gated(x, *parts, last_layer)

    return gate


def normalized(**options):
    """Returns a spatial gate whose batch normalization has options."""

    def gate(x):
        pools = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
        conv = layers.Conv2D(1, 3, padding="same", use_bias=False)
        y = conv(ops.concatenate(pools, axis=-1))
        return x * ops.sigmoid(layers.BatchNormalization(**options)(y))

    return gate


def of_loss(x):
    """SE that adds a loss of its own."""
    return Penalized()(x)


class Penalized(Weights):
    def call(self, x):
        self.add_loss(ops.mean(ops.square(self.w1)))
        return super().call(x)


def of_sum(x):
    """An MLP whose hidden units of both pools are added."""
    first, last = layers.Dense(3, "relu"), layers.Dense(CHANNELS)
    return x * ops.sigmoid(last(first(pooled(x)) + first(pooled(x, "max"))))


L2 = {"kernel_regularizer": keras.regularizers.L2(0.01)}
NORM = {"kernel_constraint": keras.constraints.MaxNorm(2.0)}
OF_CONV = NORM | {"kernel_size": 1}
FROZEN = {"trainable": False}


@pytest.mark.parametrize(
    "gate, reason",
    [
        (of_dense({}, between=[layers.Dropout(0.5)]), "Dropout"),
        (of_dense(L2), "L2 0.01"),
        (of_dense(OF_CONV, OF_CONV, layers.Conv2D), "MaxNorm 2"),
        (of_dense({"bias_constraint": "non_neg"}), "NonNeg"),
        (
            of_dense({"use_bias": False}),
            "the cbam_keras layer has an additional bias",
        ),
        (of_loss, "add_loss"),
        (of_sum, "the cbam_keras layer adds its bias once per pool"),
        (of_dense(FROZEN), "frozen weights"),
        (normalized(epsilon=1e-5, **FROZEN), "frozen weights"),
    ],
)
def test_what_trains_otherwise_stays_and_is_named(gate, reason):
    model = network(gate)
    same, report = adopt(model)
    row = only(report)
    assert same is model and row.equals and not row.adopted
    assert row.note.endswith(f"trains differently: {reason}")


def test_another_epsilon_predicts_otherwise_and_is_named():
    row = only(adopt(network(normalized()))[1])
    assert not row.equals and not row.adopted
    assert row.verdict.endswith("epsilon 0.001 of batch normalization")


def with_maps(x):
    """SE, whose factors are also added to what follows."""
    hidden = layers.Dense(3, "relu")(pooled(x))
    factors = layers.Dense(CHANNELS, "sigmoid")(hidden)
    return (x * factors) + 0.1 * factors


def two_kinds(x):
    """SE and a channel gate that share two dense layers."""
    first, last = layers.Dense(3, "relu"), layers.Dense(CHANNELS)
    x = x * ops.sigmoid(last(first(pooled(x))))
    x = layers.Conv2D(CHANNELS, 3, padding="same")(x)
    several = [last(first(pooled(x, kind))) for kind in ("avg", "max")]
    return x * ops.sigmoid(layers.add(several))


def squared(x):
    """Features times the same factors, twice."""
    parts = [layers.Dense(3, "relu"), layers.Dense(CHANNELS, "sigmoid")]
    factors = parts[1](parts[0](pooled(x)))
    return (x * factors) * factors


class WithMaps(Weights):
    def call(self, x):
        return super().call(x), ops.mean(x, axis=(1, 2))


@pytest.mark.parametrize(
    "gate, note",
    [
        (with_maps, "its factors are used elsewhere, too"),
        (two_kinds, "shares weights with layers outside the module"),
        (lambda x: WithMaps()(x)[0], "returns 2 tensors"),
        (squared, ""),
    ],
)
def test_what_shares_factors_or_weights_stays_and_says_why(gate, note):
    model = network(gate)
    same, report = adopt(model)
    assert same is model and not any(row.adopted for row in report.rows)
    assert all(note in row.note for row in report.rows)
    assert report.verdict.startswith("0 of ")
    assert bool(report.rows[0].equals) == bool(note)


@pytest.mark.parametrize(
    "kind, options",
    [
        (layers.Dense, L2 | {"bias_constraint": "non_neg"}),
        (layers.Conv2D, L2 | {"kernel_size": 1}),
        (layers.Dense, NORM | {"bias_regularizer": "l1"}),
    ],
)
def test_regularizers_and_constraints_are_carried_over(kind, options):
    model = network(of_dense(options, options, kind))
    adopted, report = adopt(model)
    assert only(report).adopted and not only(report).note
    assert_trains_the_same(model, adopted)


def test_the_momentum_is_carried_over():
    model = network(normalized(epsilon=1e-5, momentum=0.5))
    adopted, _ = adopt(model)
    assert gate_of(adopted).batch_norm_momentum == 0.5
    assert_trains_the_same(model, adopted)


def residual(x, y):
    return layers.Add()([x, y])


OTHERS = {
    "residual scaling": lambda x: residual(
        x, layers.Rescaling(0.1)(layers.Conv2D(CHANNELS, 3, padding="same")(x))
    ),
    "gated linear unit": lambda x: x * layers.Dense(CHANNELS, "sigmoid")(x),
    "Swish": lambda x: x * ops.sigmoid(x),
    "squeeze by strides": lambda x: (
        x * layers.Resizing(8, 9)(layers.Conv2D(CHANNELS, 4, 4)(x))
    ),
    "constant": lambda x: x * ops.ones((1, 1, 1, CHANNELS)) * 2.0,
    "normalization": lambda x: (
        x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True))
    ),
    "spatial transformer": lambda x: residual(x, ops.flip(x, axis=1)),
    "ours": lambda x: residual(x, CBAM(4)(SimAM()(x))),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_products_are_no_attention(form):
    model = network(OTHERS[form])
    same, report = adopt(model)
    assert same is model and report.rows == ()


def again(gate):
    """Calls a gate before and after another layer."""
    return lambda x: gate(layers.Conv2D(CHANNELS, 3, padding="same")(gate(x)))


def shared_functions():
    parts = layers.Dense(3, "relu"), layers.Dense(CHANNELS, "sigmoid")
    return lambda x: gated(x, *parts)


@pytest.mark.parametrize("gate", [Both(), shared_functions()])
def test_a_shared_gate_stays_shared(gate):
    model = network(again(gate))
    adopted, report = adopt(model)
    assert [row.adopted for row in report.rows] == [True, True]
    assert len(gate_of(adopted).weights) > 3
    assert_predicts_the_same(model, adopted)


def in_model(x, frames=False):
    inputs = keras.Input(x.shape[1 + frames :])
    inner = keras.Model(inputs, spatial(inputs), name="inner")
    wrap = layers.TimeDistributed if frames else lambda layer, name: layer
    return wrap(inner, name="frames")(x)


@pytest.mark.parametrize(
    "gate, shape, name",
    [
        (in_model, (8, 9, 3), "inner/"),
        (partial(in_model, frames=True), (2, 8, 9, 3), "frames/"),
    ],
)
def test_gates_of_nested_models_and_frames_are_adopted(gate, shape, name):
    model = network(gate, shape)
    adopted, report = adopt(model)
    assert only(report).adopted and only(report).gate.startswith(name)
    assert_predicts_the_same(model, adopted)


def test_half_precision_is_compared_in_float32_and_kept():
    keras.config.set_dtype_policy("mixed_float16")
    model = network(Both())
    keras.config.set_dtype_policy("float32")
    policies = [layer.dtype_policy.name for layer in model.layers]
    adopted, report = adopt(model)
    assert only(report).difference < 1e-5
    assert gate_of(adopted).dtype_policy.name == "mixed_float16"
    assert policies == [layer.dtype_policy.name for layer in model.layers]


@pytest.mark.parametrize(
    "form, suffix", [("channel gate", "h5"), ("class Both", "keras")]
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
# Keras 3.10 loads the one input of some models as a list of one.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_a_trained_network_is_adopted_from_its_file(form, suffix, tmp_path):
    model = network(FORMS[form][0])
    optimizer = keras.optimizers.SGD(0.01)
    loss = keras.losses.MeanSquaredError()
    model.compile(optimizer, loss, metrics=["mae"], run_eagerly=True)
    x, y = data_for(model), np.ones((3, 8, 9, 3))
    model.fit(x, y, epochs=3, verbose=0)
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    adopted, _ = adopt(keras.saving.load_model(path))
    assert_predicts_the_same(model, adopted)
    assert adopted.optimizer.get_config() == optimizer.get_config()
    adopted.fit(x, y, verbose=0)
    adopted.save(path)
    assert_predicts_the_same(adopted, keras.saving.load_model(path))


def test_a_subclassed_model_that_can_be_traced_is_adopted():
    model = Subclassed()
    model(np.zeros((1, 8, 9, 3)))
    vary(model)
    adopted, report = adopt(model)
    assert only(report).kind == "cbam"
    assert_predicts_the_same(adopted, model)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="calls TensorFlow"
)
def test_operations_of_tensorflow_are_adopted():
    model = network(lambda x: OfTensorFlow()(x))
    adopted, report = adopt(model)
    assert only(report).kind == "channel"
    assert_predicts_the_same(model, adopted)


def test_other_layers_keep_names_weights_and_trainable():
    gate = Both()
    model = network(gate)
    model.get_layer("stem").trainable = gate.trainable = False
    adopted, _ = adopt(model)
    assert not gate_of(adopted).trainable
    for name in ("stem", "after", "predictions"):
        old, new = model.get_layer(name), adopted.get_layer(name)
        assert old.trainable == new.trainable
        pairs = zip(old.get_weights(), new.get_weights(), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)


def test_channels_first_is_adopted():
    def gate(x):
        y = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
        for units, activation in ((2, "relu"), (8, "sigmoid")):
            y = layers.Dense(units, activation=activation)(y)
        return x * layers.Reshape((8, 1, 1))(y)

    inputs = keras.Input((8, 5, 6))
    model = keras.Model(inputs, gate(inputs))
    vary(model)
    adopted, report = adopt(model)
    assert only(report).kind == "se"
    assert gate_of(adopted).data_format == "channels_first"
    assert_predicts_the_same(model, adopted)


def test_the_report_has_a_row_for_each_gate():
    softmax = partial(channel, gate="softmax", pools=("avg",))
    model = network(lambda x: softmax(spatial(x)))
    _, report = adopt(model)
    frame = report.to_dataframe()
    assert list(frame["adopted"]) == [True, False]
    assert list(frame["kind"]) == ["spatial", ""]
    assert {"gate", "difference", "note"} <= {*frame}
    assert report.verdict.startswith("1 of 2 attention modules adopted.")
    assert "SpatialAttention()" in str(report)


def unregistered(y, predictions):
    return ops.mean(ops.square(y - predictions), axis=-1)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_loss_that_is_lost_is_warned_of():
    model = network(spatial)
    model.compile("adam", unregistered)
    with pytest.warns(UserWarning, match="`compile`"):
        adopt(model)


@pytest.mark.parametrize(
    "name, end, count",
    [
        ("MobileNetV3Small", "expanded_conv_4_add", 3),
        # What follows, and the others, have more of the same gates.
        pytest.param("MobileNetV3Small", None, 9, marks=exhaustive),
        pytest.param("EfficientNetB0", None, 16, marks=exhaustive),
        pytest.param("EfficientNetV2S", None, 30, marks=exhaustive),
    ],
)
def test_gates_of_the_networks_of_keras_are_adopted(name, end, count):
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(64, 64, 3))
    if end:
        model = keras.Model(model.input, model.get_layer(end).output)
    # Kernels of gates alone: with more noise elsewhere, networks give NaN.
    generator = np.random.default_rng(7)
    for variable in model.trainable_variables:
        if re.search("_se_.*kernel|_squeeze_.*kernel", variable.path):
            noise = generator.normal(0, 0.3, variable.shape)
            variable.assign(variable + noise.astype("float32"))
    _, report = adopt(model)
    assert len(report.rows) == count
    assert all(row.adopted and row.kind == "se" for row in report.rows)
    assert report.passed and report.difference < 1e-5
