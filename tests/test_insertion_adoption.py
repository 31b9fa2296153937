"""Attention that somebody else wrote becomes ours: `adopt`."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
    _graph,
)
from cbam_keras.insertion import adopt
from cbam_keras.layers import AttentionLayer

every_backend = pytest.mark.every_backend
CHANNELS = 12


# Functions and classes as they are pasted. `x` are features.


def rank_of(x):
    return len(x.shape) - 2


def positions(x):
    return tuple(range(1, len(x.shape) - 1))


def pooled(x, kind, form):
    """Returns one number per channel, `(B, 1, 1, C)` or `(B, C)`."""
    name = {"avg": "Average", "max": "Max"}[kind]
    reduce = {"avg": ops.mean, "max": ops.max}[kind]
    if form == "layers":
        layer = getattr(layers, f"Global{name}Pooling{rank_of(x)}D")()
        return layers.Reshape((*(1 for _ in positions(x)), x.shape[-1]))(
            layer(x)
        )
    if form == "flat":
        return getattr(layers, f"Global{name}Pooling{rank_of(x)}D")()(x)
    if form == "lambda":
        return layers.Lambda(
            lambda y: reduce(y, axis=positions(y), keepdims=True)
        )(x)
    return reduce(x, axis=positions(x), keepdims=True)


def mlp(x, hidden, bias=True, activation="relu", unit="dense", norm=False):
    """Returns the functions of an MLP, without an activation at its end."""
    make = functools.partial(layers.Dense, use_bias=bias)
    if unit == "conv":
        conv = getattr(layers, f"Conv{rank_of(x)}D")
        make = functools.partial(conv, kernel_size=1, use_bias=bias)
    parts = [make(hidden)]
    if norm:
        parts.append(layers.BatchNormalization())
    parts += [layers.Activation(activation), make(x.shape[-1])]
    return keras.Sequential(parts) if unit == "sequential" else parts


def run(parts, x):
    for part in parts if isinstance(parts, list) else [parts]:
        x = part(x)
    return x


def channel(
    x,
    hidden=3,
    pools=("avg", "max"),
    form="layers",
    gate="sigmoid",
    join="logits",
    multiply=layers.multiply,
    **options,
):
    parts = mlp(x, hidden, **options)
    activate = layers.Activation(gate)
    logits = [run(parts, pooled(x, kind, form)) for kind in pools]
    if join == "gates":
        logits = [activate(y) for y in logits]
    y = layers.add(logits) if len(logits) > 1 else logits[0]
    y = y if join == "gates" else activate(y)
    if form == "flat":
        y = layers.Reshape((*(1 for _ in positions(x)), x.shape[-1]))(y)
    return multiply([x, y])


def spatial_map(
    x, size=7, pools=("avg", "max"), bias=False, norm=False, filters=1, **kw
):
    gate, axis = kw.pop("gate", "sigmoid"), kw.pop("axis", -1)
    reduce = {"avg": ops.mean, "max": ops.max}
    maps = [reduce[kind](x, axis=axis, keepdims=True) for kind in pools]
    y = layers.Concatenate()(maps) if len(maps) > 1 else maps[0]
    conv = getattr(layers, f"Conv{rank_of(x)}D")
    y = conv(filters, size, padding="same", use_bias=bias, **kw)(y)
    if norm:
        y = layers.BatchNormalization()(y)
    return layers.Activation(gate)(y)


def spatial(x, multiply=layers.multiply, **options):
    return multiply([x, spatial_map(x, **options)])


def both(x, spatial_options=(), **options):
    return spatial(channel(x, **options), **dict(spatial_options))


def unrefined(x):
    return layers.multiply([channel(x), spatial_map(x)])


def coordinate(x, hidden=8):
    height, width = x.shape[1:3]
    rows = ops.mean(x, axis=2, keepdims=True)
    columns = ops.mean(x, axis=1, keepdims=True)
    y = layers.Concatenate(axis=1)([rows, layers.Permute((2, 1, 3))(columns)])
    y = layers.BatchNormalization()(layers.Conv2D(hidden, 1)(y))
    rows, columns = ops.split(ops.hard_swish(y), [height], axis=1)
    gates = [
        layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(z)
        for z in (rows, layers.Permute((2, 1, 3))(columns))
    ]
    return x * gates[0] * gates[1]


def squeezes(x):
    """Returns the sum of the gates of channels and of positions."""
    mapped = layers.Conv2D(1, 1, activation="sigmoid")(x)
    gated = channel(x, 6, ("avg",))
    return layers.Add()([gated, layers.Multiply()([x, mapped])])


def efficient(x):
    y = layers.Reshape((x.shape[-1], 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(y)
    y = layers.Reshape((1, 1, x.shape[-1]))(y)
    return x * layers.Activation("sigmoid")(y)


def without_parameters(x):
    n = x.shape[1] * x.shape[2] - 1
    d = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
    v = ops.sum(d, axis=(1, 2), keepdims=True) / n
    return x * ops.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


@keras.saving.register_keras_serializable(package="pasted")
class Channel(layers.Layer):
    def __init__(self, channels=CHANNELS, ratio=4, two=False, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.two = channels, ratio, two
        self.fc1 = layers.Dense(channels // ratio, activation="relu")
        self.fc2 = layers.Dense(channels)

    def build(self, shape):
        self.fc1.build((None, shape[-1]))
        self.fc2.build((None, shape[-1] // self.ratio))

    def call(self, x):
        reduced = (f(x, axis=positions(x)) for f in (ops.mean, ops.max))
        first, second = (self.fc2(self.fc1(y)) for y in reduced)
        if self.two:
            y = ops.sigmoid(first) + ops.sigmoid(second)
        else:
            y = ops.sigmoid(first + second)
        return x * ops.expand_dims(y, positions(x))

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio, "two": self.two}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="pasted")
class Spatial(layers.Layer):
    def build(self, shape):
        conv = getattr(layers, f"Conv{len(shape) - 2}D")
        self.conv = conv(1, 7, padding="same", activation="sigmoid")
        self.conv.build((*shape[:-1], 2))

    def call(self, x):
        maps = [f(x, axis=-1, keepdims=True) for f in (ops.max, ops.mean)]
        return x * self.conv(ops.concatenate(maps, axis=-1))

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable(package="pasted")
class Both(layers.Layer):
    def __init__(self, filters=CHANNELS, two=False, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.channel, self.spatial = Channel(filters, 4, two), Spatial()

    def build(self, shape):
        self.channel.build(shape)
        self.spatial.build(shape)

    def call(self, inputs):
        return self.spatial(self.channel(inputs))

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class Weights(layers.Layer):
    """A gate of weights of its own, without a config."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        c = shape[-1]
        self.w1 = self.add_weight(shape=(c, self.units), name="w1")
        self.w2 = self.add_weight(shape=(self.units, c), name="w2")

    def call(self, x):
        y = ops.mean(x, axis=(1, 2), keepdims=True)
        return x * ops.sigmoid(ops.relu(y @ self.w1) @ self.w2)


class OfTensorFlow(Channel):
    def call(self, x):
        import tensorflow as tf

        reduced = (f(x, axis=[1, 2]) for f in (tf.reduce_mean, tf.reduce_max))
        y = tf.sigmoid(sum(self.fc2(self.fc1(y)) for y in reduced))
        return tf.multiply(x, y[:, None, None, :])


class Wrapped(layers.Layer):
    """A layer of ours in a class of somebody else."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(CHANNELS, 3, padding="same")
        self.gate = Both(name="gate")

    def call(self, x):
        return x + self.gate(self.conv(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.gate = layers.Conv2D(CHANNELS, 3), Both()
        self.head = layers.GlobalMaxPooling2D()

    def call(self, x):
        return self.head(self.gate(self.block(x)))


def attend(x, activation):
    return x * layers.Activation(activation)(x)


def network(gate, shape=(8, 9, 3), seed=0):
    """Returns a classifier with features that go through `gate`."""
    inputs = keras.Input(shape)
    conv = getattr(layers, f"Conv{min(len(shape) - 1, 3)}D")
    make = conv(CHANNELS, 3, padding="same", name="stem")
    x = layers.TimeDistributed(make)(inputs) if len(shape) > 4 else make(inputs)
    x = layers.ReLU(name="relu")(x)
    y = gate(x)
    y = layers.Flatten()(layers.Activation("tanh", name="after")(y))
    model = keras.Model(inputs, layers.Dense(3, name="predictions")(y))
    vary(model, seed)
    return model


def vary(model, seed=0):
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in variable.dtype:
            scale = 0.5 if len(variable.shape) < 2 else 0.1
            noise = generator.normal(size=variable.shape) * scale
            value = keras.ops.convert_to_numpy(variable)
            if "variance" in variable.name:
                noise = np.abs(noise)
            variable.assign(value + noise)


def multiply_by_lambda(pair):
    return layers.Lambda(lambda xy: xy[0] * xy[1])(pair)


P = functools.partial
# A name: what is pasted, the kind of ours that it is, arguments of that.
FORMS = {
    "kobiso": (both, "cbam", {"reduction_ratio": 4}),
    "without biases": (P(both, bias=False), "cbam", {"use_bias": False}),
    "flat pools": (P(both, form="flat"), "cbam", {}),
    "keras.ops": (P(both, form="ops"), "cbam", {}),
    "Lambda": (P(both, form="lambda"), "cbam", {}),
    "Conv1x1": (P(both, unit="conv"), "cbam", {}),
    "Sequential MLP": (P(channel, unit="sequential"), "channel", {}),
    "kernel of 3, bias": (
        P(both, spatial_options={"size": 3, "bias": True}),
        "cbam",
        {"kernel_size": 3, "spatial_use_bias": True},
    ),
    "normalized map": (
        P(both, spatial_options={"norm": True}),
        "cbam",
        {"spatial_batch_norm": True},
    ),
    "max and avg": (
        P(both, spatial_options={"pools": ("max", "avg")}),
        "cbam",
        {"spatial_pool_types": ("max", "avg")},
    ),
    "spatial first": (
        lambda x: channel(spatial(x)),
        "cbam",
        {"order": "spatial_first"},
    ),
    "unrefined": (unrefined, "cbam", {"order": "parallel"}),
    "two sigmoids": (P(both, join="gates"), "cbam", {"combine": "gates"}),
    "truncated": (P(both, hidden=5), "cbam", {"hidden_units": 5}),
    "average alone": (
        P(both, pools=("avg",)),
        "cbam",
        {"channel_pool_types": ("avg",)},
    ),
    "one hidden unit": (P(both, hidden=1), "cbam", {"reduction_ratio": 12}),
    "as many hidden units": (
        P(channel, hidden=12),
        "channel",
        {"reduction_ratio": 1},
    ),
    "normalized MLP": (P(channel, norm=True), "channel", {}),
    "channel gate alone": (channel, "channel", {"reduction_ratio": 4}),
    "maximum alone": (
        P(channel, pools=("max",)),
        "channel",
        {"pool_types": ("max",)},
    ),
    "squeeze-and-excitation": (
        P(channel, pools=("avg",)),
        "se",
        {"reduction_ratio": 4},
    ),
    "Swish": (
        P(channel, pools=("avg",), activation="silu", unit="conv"),
        "se",
        {"activation": "silu"},
    ),
    "hard sigmoid": (
        P(channel, pools=("avg",), gate="hard_sigmoid"),
        "se",
        {"gate_activation": "hard_sigmoid"},
    ),
    "operator": (
        P(channel, multiply=lambda xy: xy[0] * xy[1]),
        "channel",
        {},
    ),
    "factor first": (
        P(channel, multiply=lambda xy: xy[1] * xy[0]),
        "channel",
        {},
    ),
    "product in Lambda": (
        P(channel, multiply=multiply_by_lambda),
        "channel",
        {},
    ),
    "spatial gate alone": (spatial, "spatial", {}),
    "dilated": (
        P(spatial, size=3, dilation_rate=2),
        "spatial",
        {"kernel_size": 3, "dilation_rate": 2},
    ),
    "coordinate": (coordinate, "coordinate", {}),
    "scSE": (squeezes, "scse", {"combine": "add"}),
    "ECA": (efficient, "eca", {"kernel_size": 3}),
    "SimAM": (without_parameters, "simam", {}),
    "class Channel": (lambda x: Channel()(x), "channel", {}),
    "class Spatial": (
        lambda x: Spatial()(x),
        "spatial",
        {"use_bias": True, "pool_types": ("max", "avg")},
    ),
    "class Both": (
        lambda x: Both()(x),
        "cbam",
        {"spatial_use_bias": True, "reduction_ratio": 4},
    ),
    "class of two sigmoids": (
        lambda x: Both(two=True)(x),
        "cbam",
        {"combine": "gates"},
    ),
    "weights of its own": (
        lambda x: Weights(3)(x),
        "se",
        {"reduction_ratio": 4, "use_bias": False},
    ),
}


def only(report):
    (row,) = report.rows
    return row


def gate_of(model):
    (layer,) = (x for x in model.layers if isinstance(x, AttentionLayer))
    return layer


def inputs_for(model, batch=5):
    shape = (batch, *(size or 8 for size in model.input_shape[1:]))
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def assert_predicts_the_same(model, other):
    x = inputs_for(model)
    expected, y = (keras.ops.convert_to_numpy(m(x)) for m in (model, other))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("form", FORMS)
def test_what_computes_the_same_becomes_ours(form):
    gate, kind, arguments = FORMS[form]
    model = network(gate)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    adopted, report = adopt(model)
    row, layer = only(report), gate_of(adopted)
    assert (row.adopted, row.kind) == (True, kind)
    config = layer.get_config()
    assert {x: config[x] for x in arguments} == arguments
    assert row.difference < 1e-5 and report.difference < 1e-5
    assert_predicts_the_same(model, adopted)
    after = [keras.ops.convert_to_numpy(v) for v in model.variables]
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("form", ["kobiso", "class Both"])
@pytest.mark.parametrize("shape", [(20, 3), (5, 6, 7, 3), (None, None, 3)])
def test_any_number_of_positions_is_adopted(form, shape):
    gate, kind, _ = FORMS[form]
    if None in shape:
        inputs = keras.Input(shape)
        x = gate(layers.Conv2D(CHANNELS, 3, activation="relu")(inputs))
        model = keras.Model(inputs, layers.GlobalMaxPooling2D()(x))
        vary(model)
    else:
        model = network(gate, shape)
    adopted, report = adopt(model)
    assert only(report).kind == kind
    assert_predicts_the_same(model, adopted)


# A name: what is pasted, the kind that is nearest, what is said.
DEPARTURES = {
    "sigmoid twice": (
        lambda x: channel(
            x, gate=lambda z: ops.sigmoid(ops.sigmoid(z)), form="ops"
        ),
        "channel",
        "sigmoid twice",
    ),
    "ReLU before": (
        lambda x: spatial(x, gate=lambda z: ops.sigmoid(ops.relu(z))),
        "spatial",
        "a ReLU before the sigmoid",
    ),
    "softmax": (
        P(channel, gate="softmax"),
        "channel",
        "softmax in place of sigmoid",
    ),
    "no MLP": (
        lambda x: (
            x
            * layers.Dense(CHANNELS, activation="sigmoid")(
                pooled(x, "avg", "ops")
            )
        ),
        "se",
        "no MLP between pools and gate",
    ),
    "no weights": (
        lambda x: x * ops.sigmoid(pooled(x, "avg", "ops")),
        "se",
        "no MLP between pools and gate",
    ),
    "many maps": (
        P(spatial, filters=CHANNELS),
        "spatial",
        f"{CHANNELS} spatial maps in place of one",
    ),
    "positions pooled": (
        P(spatial, axis=1),
        "spatial",
        "positions pooled where CBAM pools channels",
    ),
    "one number": (
        lambda x: (
            x * layers.Dense(1, activation="sigmoid")(pooled(x, "avg", "ops"))
        ),
        "spatial",
        "positions pooled where CBAM pools channels",
    ),
    "pixels": (
        lambda x: x * layers.Conv2D(1, 1, activation="sigmoid")(x),
        "spatial",
        "factors of positions",
    ),
    "three layers": (
        lambda x: (
            x
            * run(
                [
                    layers.Dense(4),
                    layers.Dense(5),
                    layers.Dense(CHANNELS, "sigmoid"),
                ],
                pooled(x, "avg", "ops"),
            )
        ),
        "channel",
        "factors of channels",
    ),
}


@pytest.mark.parametrize("form", DEPARTURES)
def test_what_is_none_of_ours_stays_and_is_named(form):
    gate, kind, words = DEPARTURES[form]
    model = network(gate)
    same, report = adopt(model)
    row = only(report)
    assert same is model
    assert (row.adopted, row.kind) == (False, kind)
    assert words in row.note
    assert words.split()[0] in str(report)


def residual(x, y):
    return layers.Add()([x, y])


OTHERS = {
    "residual": lambda x: residual(x, layers.Conv2D(CHANNELS, 1)(x)),
    "residual scaling": lambda x: residual(
        x, layers.Rescaling(0.1)(layers.Conv2D(CHANNELS, 3, padding="same")(x))
    ),
    "gated linear unit": lambda x: x * layers.Dense(CHANNELS, "sigmoid")(x),
    "two branches": lambda x: layers.Multiply()(
        [layers.Conv2D(4, 1)(x), layers.Conv2D(4, 1, activation="sigmoid")(x)]
    ),
    "Swish": P(attend, activation="sigmoid"),
    "hard Swish": lambda x: x * (layers.ReLU(6.0)(x + 3.0) * (1 / 6)),
    "squeeze by strides": lambda x: layers.Multiply()(
        [
            x,
            layers.Resizing(8, 9)(layers.Conv2D(CHANNELS, 4, 4)(x)),
        ]
    ),
    "square": lambda x: layers.Multiply()([x, x]),
    "constant": lambda x: x * ops.ones((1, 1, 1, CHANNELS)) * 2.0,
    "normalization": lambda x: (
        x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True))
    ),
    "spatial transformer": lambda x: residual(x, ops.flip(x, axis=1)),
    "ours": lambda x: CBAM(4)(SimAM()(x)),
    "bottleneck": lambda x: residual(
        x,
        layers.Conv2D(CHANNELS, 1)(
            layers.Conv2D(3, 3, padding="same")(layers.Conv2D(3, 1)(x))
        ),
    ),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_products_are_no_attention(form):
    model = network(OTHERS[form])
    same, report = adopt(model)
    assert same is model and report.rows == ()


OURS = [
    CBAM(identity_init=True, kernel_size=3),
    CBAM(4, spatial_batch_norm=True, order="parallel", identity_init=True),
    ChannelAttention(4, pool_types=("lp", "lse")),
    ChannelAttention(4, combine="gates", identity_init=True),
    SpatialAttention(pool_types=("conv", "max"), use_bias=True),
    SqueezeExcite(4, gate_activation="hard_sigmoid", identity_init=True),
    EfficientChannelAttention(identity_init=True),
    CoordinateAttention(),
    SCSE(identity_init=True),
    BAM(4, combine="multiply"),
    GlobalContext(4),
    GlobalContext(4, fusion="multiply", identity_init=True),
    TripletAttention(),
    SimAM(),
]


@pytest.mark.parametrize("layer", OURS, ids=lambda x: type(x).__name__)
def test_each_kind_is_recognized(layer):
    model = network(lambda x: Wrapped(layer)(x))
    adopted, _ = adopt(model)
    found = gate_of(adopted)
    assert type(found) is type(layer)
    pairs = zip(found.get_weights(), layer.get_weights(), strict=True)
    assert all(np.allclose(*pair) for pair in pairs)


def again(gate):
    """Calls a gate before and after another layer."""
    return lambda x: gate(layers.Conv2D(CHANNELS, 3, padding="same")(gate(x)))


def shared_functions():
    reduced = mlp(np.zeros((1, 1, 1, CHANNELS)), 3)
    return lambda x: (
        x * layers.Activation("sigmoid")(run(reduced, pooled(x, "avg", "ops")))
    )


@pytest.mark.parametrize("gate", [Both(), shared_functions()])
def test_a_shared_gate_stays_shared(gate):
    model = network(again(gate))
    adopted, report = adopt(model)
    assert [row.adopted for row in report.rows] == [True, True]
    assert len(gate_of(adopted).weights) > 3
    assert_predicts_the_same(model, adopted)


def in_model(x, frames=False):
    inputs = keras.Input(x.shape[1 + frames :])
    inner = keras.Model(inputs, both(inputs), name="inner")
    wrap = layers.TimeDistributed if frames else lambda layer, name: layer
    return wrap(inner, name="frames")(x)


@pytest.mark.parametrize(
    "gate, shape, name",
    [
        (in_model, (8, 9, 3), "inner/"),
        (P(in_model, frames=True), (2, 8, 9, 3), "frames/"),
        (
            lambda x: layers.TimeDistributed(Spatial(), name="frames")(x),
            (2, 8, 9, 3),
            "frames",
        ),
    ],
)
def test_gates_of_nested_models_and_frames_are_adopted(gate, shape, name):
    model = network(gate, shape)
    adopted, report = adopt(model)
    assert only(report).adopted and only(report).gate.startswith(name)
    assert_predicts_the_same(model, adopted)


@pytest.mark.parametrize("gate", [both, lambda x: Both()(x)])
def test_half_precision_is_compared_in_float32_and_kept(gate):
    with _graph.dtype_policy("mixed_float16"):
        model = network(gate)
    policies = [layer.dtype_policy.name for layer in model.layers]
    adopted, report = adopt(model)
    assert only(report).difference < 1e-5
    assert gate_of(adopted).dtype_policy.name == "mixed_float16"
    assert policies == [layer.dtype_policy.name for layer in model.layers]


@pytest.mark.parametrize("form", ["channel gate alone", "class Both"])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_trained_network_is_adopted_from_its_file(form, suffix, tmp_path):
    model = network(FORMS[form][0])
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, keras.losses.MeanSquaredError(), metrics=["mae"])
    model.fit(inputs_for(model), np.ones((5, 3)), epochs=3, verbose=0)
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    adopted, _ = adopt(keras.saving.load_model(path))
    assert_predicts_the_same(model, adopted)
    assert adopted.optimizer.get_config() == optimizer.get_config()
    adopted.fit(inputs_for(model), np.ones((5, 3)), verbose=0)
    adopted.save(path)
    assert_predicts_the_same(adopted, keras.saving.load_model(path))


def test_a_gate_inside_another_layer_is_named():
    model = network(lambda x: Block(name="block")(x))
    same, report = adopt(model)
    row = only(report)
    assert same is model and row.gate == "block/gate"
    assert row.note.startswith('inside layer "block": its class can use')
    assert "CBAM(reduction_ratio=4" in row.note


def test_a_subclassed_model_that_can_be_traced_is_adopted():
    model = Subclassed()
    model(np.zeros((1, 8, 9, 3)))
    vary(model)
    adopted, report = adopt(model)
    assert only(report).was == "Both"
    x = inputs_for(adopted)
    np.testing.assert_allclose(adopted(x), model(x), atol=1e-5)


def test_other_layers_keep_names_weights_and_trainable():
    model = network(both)
    model.get_layer("stem").trainable = False
    adopted, _ = adopt(model)
    for name in ("stem", "relu", "after", "predictions"):
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
    model = network(lambda x: channel(both(x), gate="softmax"))
    _, report = adopt(model)
    frame = report.to_dataframe()
    assert list(frame["adopted"]) == [True, False]
    assert list(frame["kind"]) == ["cbam", "channel"]
    assert {"gate", "difference", "note"} <= {*frame}
    assert report.verdict.startswith("1 of 2 gates adopted.")
    assert "CBAM(reduction_ratio=4)" in str(report)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="`model` must be"):
        adopt("model.h5")


# The networks of `keras.applications` with gates, and how many they have.
APPLICATIONS = {
    **{
        f"EfficientNetB{i}": n
        for i, n in enumerate((16, 23, 23, 26, 32, 39, 45, 55))
    },
    "EfficientNetV2B0": 16,
    "EfficientNetV2B3": 25,
    "EfficientNetV2S": 30,
    "MobileNetV3Small": 9,
    "MobileNetV3Large": 8,
}
LARGE = [name for name in APPLICATIONS if name != "MobileNetV3Small"]


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        *(pytest.param(x, marks=pytest.mark.exhaustive) for x in LARGE),
    ],
)
def test_gates_of_the_networks_of_keras_are_adopted(name):
    build = getattr(keras.applications, name)
    options = {"input_shape": (64, 64, 3), "classifier_activation": None}
    _, report = adopt(build(weights=None, classes=10, **options))
    assert len(report.rows) == APPLICATIONS[name]
    assert all(row.adopted and row.kind == "se" for row in report.rows)
    assert report.difference < 1e-6
