"""Whether attention computes what its name says: `check`."""

import collections
from functools import partial

import keras
import numpy as np
import pytest
from insertion_checks import data_for, vary
from keras import layers, ops
from layer_checks import to_numpy
from pasted import (
    CHANNELS,
    Block,
    Weights,
    both,
    channel,
    gated,
    network,
    pooled,
    spatial,
)
from scipy.special import expit

from cbam_keras import cli
from cbam_keras.insertion import check
from cbam_keras.recognition import matching
from cbam_keras.recognition.reports import DESCRIPTIONS, FAULTS
from cbam_keras.recognition.runs import Runs

pytestmark = pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")


class Attention(layers.Layer):
    """A class of a call that is given."""

    def __init__(self, function=None, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)

    def get_config(self):
        return super().get_config()


def of_class(function):
    """Returns a gate that is a layer with weights of its own."""

    def gate(x):
        parts = [layers.Dense(3, "relu"), layers.Dense(CHANNELS, "sigmoid")]
        layer = Attention(lambda x: function(x, parts[1](parts[0](pooled(x)))))
        layer.parts = parts
        return layer(x)

    return gate


def outside(x):
    """Returns features times a map of a weight of no layer."""
    kernel = keras.Variable(np.ones((CHANNELS, CHANNELS), "float32"))
    return Attention(lambda y: y * ops.sigmoid(pooled(y) @ kernel.value))(x)


def one_factor(x):
    """ECA along the wrong axis."""
    y = layers.Reshape((1, CHANNELS))(pooled(x))
    y = layers.Conv1D(1, 3, padding="same", activation="sigmoid")(y)
    return x * layers.Reshape((1, 1, 1))(y)


def two_mlps(x):
    several = [
        layers.Dense(CHANNELS, "sigmoid")(layers.Dense(3, "relu")(pooled(x, k)))
        for k in ("avg", "max")
    ]
    return x * ops.sigmoid(layers.add(several))


def squeezed(pool, activation="sigmoid"):
    """Returns a gate of one matrix, behind another pool."""
    return lambda x: x * layers.Dense(CHANNELS, activation)(pool(x))


def named_attention(function):
    """Returns a gate as a layer whose name says that it is attention."""
    return lambda x: Attention(function)(x)


def of_windows(x):
    pools = layers.MaxPooling2D((2, 3))(x)
    factors = layers.Dense(CHANNELS, "sigmoid")(pools)
    return x * layers.UpSampling2D((2, 3))(factors)


def over_positions(x):
    logits = layers.Reshape((72,))(layers.Conv2D(1, 1)(x))
    return x * layers.Reshape((8, 9, 1))(layers.Softmax()(logits))


# The bounds of a sigmoid of a sum of two, whatever the weights.
LEAST, MOST = expit([0, 2])
# Gates of which a sentence is true, and its beginning, in order.
SENTENCES = [
    (
        named_attention(
            lambda x: x * keras.random.uniform((1, 1, 1, CHANNELS))
        ),
        "differs from call to call",
    ),
    (outside, "weight arrays that Keras does not track, so neither"),
    (
        of_class(lambda x, gate: x),
        "does nothing: returns its input",
    ),
    (
        squeezed(lambda x: ops.mean(x, axis=(0, 1, 2), keepdims=True)),
        "mixes the images of a batch",
    ),
    (
        of_class(lambda x, gate: 0.3 * x),
        "constant: factors 0.30 to 0.30, whatever the features",
    ),
    (
        of_class(lambda x, gate: x * ops.stop_gradient(gate)),
        "weight arrays without a gradient: 4",
    ),
    (one_factor, "one factor per image"),
    (
        two_mlps,
        f"cannot suppress features: factors stay between {LEAST:.2f} and "
        f"{MOST:.2f}",
    ),
    (
        partial(channel, gate=lambda x: 0.9 * ops.sigmoid(x)),
        "cannot pass features on unchanged: factors stay between 0.00 and 0.90",
    ),
    (
        named_attention(lambda x: x * pooled(x)),
        "no sigmoid: factors from ",
    ),
    (of_class(lambda x, gate: x + gate), "adds, does not multiply"),
    (
        named_attention(lambda x: ops.flip(x, axis=1)),
        "does not multiply features by factors",
    ),
    (over_positions, "features shrink to 1/72 (softmax over positions)"),
    (
        of_windows,
        "one factor per row, column and channel, each from a window of (2, 3)",
    ),
    (
        squeezed(lambda x: ops.std(x, axis=(1, 2), keepdims=True)),
        "matches no cbam_keras layer: one factor per channel, 0.",
    ),
]


# Of a single pool, few layers of ours are compared.
squeeze = partial(channel, pools=("avg",))


@pytest.mark.parametrize(
    "gate, code, difference",
    [
        (of_class(lambda x, y: x * (1 + y)), "Squeeze", "its input is added"),
        (of_class(lambda x, y: x + x * y), "Squeeze", "its input is added"),
        (
            partial(squeeze, norm=1e-3),
            "Squeeze",
            "normalization before",
        ),
        (
            partial(channel, activation=layers.ReLU(max_value=20)),
            "Channel",
            "features 20 times as large",
        ),
    ],
)
def test_the_nearest_of_ours_is_named_with_what_differs(gate, code, difference):
    report = check(network(gate))
    ours, what = only(report).verdict.split("; first difference: ")
    assert ours.startswith(f"closest cbam_keras layer: {code}")
    assert what.startswith(difference)
    assert report.passed and not only(report).equals


def only(report):
    (row,) = report.rows
    return row


@pytest.mark.parametrize(
    "finding, gate, words",
    [
        (finding, *case)
        for finding, case in zip(
            [*FAULTS, *DESCRIPTIONS], SENTENCES, strict=True
        )
    ],
)
def test_each_finding_is_said_where_it_is_true(finding, gate, words):
    report = check(network(gate))
    row = only(report)
    assert finding.sentence.startswith(words[:8])
    assert row.verdict.startswith(words) and row.state == finding.state
    assert words.split()[0] in str(report) and not row.equals
    assert report.passed == row.passed == (finding in DESCRIPTIONS)


@pytest.mark.parametrize(
    "options, hidden",
    [
        ({"activation": "relu6"}, "relu6"),
        ({"activation": layers.ReLU(max_value=20)}, None),
        ({"gate": lambda x: ops.clip(ops.sigmoid(x), 0.01, 0.99)}, None),
        ({"gate": lambda x: ops.sigmoid(ops.clip(x, -10, 10))}, None),
        ({"activation": "leaky_relu"}, "leaky_relu"),
        ({"activation": lambda x: ops.leaky_relu(x, 0.19)}, None),
        ({"activation": "softplus"}, "softplus"),
    ],
)
def test_what_saturates_or_leaks_is_not_taken_for_a_relu(options, hidden):
    row = only(check(network(partial(channel, pools=("avg",), **options))))
    assert bool(row.equals) == (hidden is not None)
    assert f"activation={hidden!r}" in row.equals or hidden is None


def test_features_of_images_may_tell_two_gates_apart():
    x = keras.Input((8, 9, CHANNELS))
    parts = [layers.Dense(3, "relu"), layers.Dense(CHANNELS), ops.sigmoid]
    model = keras.Model(x, gated(x, lambda y: ops.maximum(y, -25), *parts))
    vary(model)
    model.set_weights([0.05 * w for w in model.get_weights()])
    images = np.abs(data_for(model))
    assert only(check(model, images)).equals
    row = only(check(model, -50 * images))
    assert row.verdict.endswith("difference: the network's own features")
    assert not row.equals


@pytest.mark.parametrize("seed", range(2, 4))
def test_what_is_equal_is_equal_on_features_of_all_scales(seed):
    generator = np.random.default_rng(seed)
    hidden = generator.choice(["relu", "silu", "relu6", "elu"])
    pools = [("avg",), ("max", "avg"), ("avg", "max")][seed % 3]
    gate = both if seed % 2 else channel
    x = keras.Input((8, 9, CHANNELS))
    model = keras.Model(x, gate(x, activation=hidden, pools=pools))
    vary(model)
    row = only(check(model))
    values = [w for w in map(to_numpy, model.weights)]
    for scale in (0.1, 3, 300):
        features = scale * np.abs(generator.normal(size=(2, 8, 9, CHANNELS)))
        expected = formula(features, values, hidden, pools)
        y = to_numpy(model(features.astype("float32")))
        np.testing.assert_allclose(y, expected, atol=1e-4 * np.abs(y).max())
    assert row.equals and hidden in row.equals.replace("(", "relu(", 1)


def formula(x, values, hidden, pools):
    """Returns in NumPy what a channel gate, and a spatial one, give."""
    functions = {
        "relu": lambda z: np.maximum(z, 0),
        "relu6": lambda z: np.clip(z, 0, 6),
        "silu": lambda z: z * expit(z),
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    }
    first, bias, second, offset, *rest = (np.float64(w) for w in values)
    reduce = {"avg": np.mean, "max": np.max}
    logits = sum(
        functions[hidden](reduce[k](x, axis=(1, 2)) @ first + bias) @ second
        + offset
        for k in pools
    )
    y = x * expit(logits)[:, None, None]
    if not rest:
        return y
    maps = np.stack([y.mean(-1), y.max(-1)], axis=-1)
    padded = np.pad(maps, [(0, 0), (3, 3), (3, 3), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (1, 2))
    logits = np.einsum("bhwcij,ijco->bhwo", windows, rest[0])
    return y * expit(logits)


@pytest.mark.parametrize(
    "gate, words",
    [
        (Weights(), "SqueezeExcite"),
        (both, "CBAM(reduction_ratio=4), as the paper"),
        (lambda x: channel(x, pools=("avg",)), "SqueezeExcite"),
        (spatial, "SpatialAttention() (spatial attention only)"),
        (layers.Identity(), "does nothing"),
        (lambda x: x, "does nothing"),
        (lambda x: layers.Dense(3)(x[:, :, 0, 0, 0]), "could not be run"),
    ],
)
def test_a_layer_or_a_function_is_checked_on_a_shape(gate, words):
    report = check(gate, (8, 9, CHANNELS))
    assert only(report).verdict.startswith(words)
    assert report.passed == (words[0].isupper())


def test_factors_alone_are_told_from_features_times_factors():
    def factors(x):
        return layers.Dense(CHANNELS, "sigmoid")(
            layers.Dense(3, "relu")(pooled(x))
        )

    row = only(check(factors, (8, 9, CHANNELS)))
    assert row.equals == "cbam_keras.SqueezeExcite(reduction_ratio=4)"
    assert row.note == "returns only the factors"


def test_factors_whose_sigmoid_the_caller_applies_are_not_judged():
    class SEWeights(layers.Layer):
        def build(self, shape):
            self.dense = layers.Dense(shape[-1])
            self.dense.build((None, 1, 1, shape[-1]))

        def call(self, x):
            return self.dense(pooled(x))

    row = only(check(SEWeights(), (8, 9, CHANNELS)))
    reason = "not analyzed: returns factors without a sigmoid"
    assert row.state == "not analyzed" and row.verdict.startswith(reason)
    assert not row.passed and row.agrees is None and row.called == ""

    # Of the same factors, the caller that forgets the sigmoid is blamed.
    class SE(SEWeights):
        def call(self, x):
            return x * super().call(x)

    row = only(check(SE(), (8, 9, CHANNELS)))
    assert row.verdict.startswith("named SE, but is not: no sigmoid: factors")


def test_units_that_are_dead_with_these_weights_are_nothing_wrong():
    def gate(x):
        spread = ops.std(x, axis=(1, 2), keepdims=True)
        below_0 = keras.initializers.Constant(-1.0)
        hidden = layers.Dense(3, "relu", kernel_initializer=below_0)(spread)
        return x * layers.Dense(CHANNELS, "sigmoid")(hidden)

    assert check(gate, (8, 9, CHANNELS)).passed


def test_gates_inside_of_own_blocks_are_found():
    row = only(check(network(lambda x: Block()(x))))
    assert row.gate.endswith("/gate") and "class Block" in row.note
    assert row.equals and not row.adopted


class Numbers(Block):
    """A block whose call takes no symbolic tensors."""

    def call(self, x):
        return super().call(x) if hasattr(x, "numpy") else self.conv(x[0])

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_what_cannot_be_looked_into_has_not_passed():
    report = check(network(lambda x: Numbers()(x)))
    assert only(report).verdict.startswith("not analyzed: Numbers: ")
    assert not report.passed and "1 not analyzed" in report.verdict


def test_a_model_without_gates_has_another_sentence():
    report = check(network(layers.Conv2D(CHANNELS, 3, padding="same")))
    assert (report.rows, report.passed) == ((), False)
    assert str(report) == "No attention in this model."


def test_classes_that_cannot_be_loaded_are_noted():
    gate = of_class(lambda x, gate: x * gate)
    note = only(check(network(gate))).note
    assert note == "get_config lacks `function`; needs custom_objects to load"


@pytest.mark.parametrize("policy", ["float64", "float16", "mixed_bfloat16"])
def test_all_precisions_are_compared(policy):
    keras.config.set_dtype_policy(policy)
    model = network(spatial)
    keras.config.set_dtype_policy("float32")
    assert only(check(model)).equals == "cbam_keras.SpatialAttention()"


@pytest.mark.parametrize(
    "gate, status, words",
    [
        (spatial, 0, "SpatialAttention()"),
        (two_mlps, 1, "cannot suppress features"),
    ],
)
def test_the_command_ends_with_what_it_finds(
    gate, status, words, tmp_path, capsys
):
    path = tmp_path / "model.keras"
    if gate:
        network(gate).save(path)
    assert cli.main(["check", str(path)]) == status
    printed = capsys.readouterr()
    assert words in printed.out + printed.err


class OwnAttention(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x)


def test_the_command_loads_classes_of_others(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    network(OwnAttention()).save(path)
    assert cli.main(["check", path]) == 2
    assert "`classes`" in capsys.readouterr().err
    assert (
        cli.main(["check", path, "--classes", f"{__name__}:OwnAttention"]) == 0
    )
    assert "1 attention module: 1 passed" in capsys.readouterr().out


@pytest.mark.parametrize("gate", [both, channel, spatial, two_mlps])
def test_no_features_are_run_twice_with_the_same_weights(gate, monkeypatch):
    runs = collections.Counter()
    run = Runs._call

    def counted(self, x, values=(), training=False):
        if isinstance(x, np.ndarray):
            weights = [np.asarray(y).tobytes() for y in dict(values).values()]
            runs[id(self), x.shape, x.tobytes(), *weights, training] += 1
        return run(self, x, values, training)

    monkeypatch.setattr(Runs, "_call", counted)
    assert check(gate, (8, 9, CHANNELS)).rows
    assert runs and max(runs.values()) == 1


@pytest.mark.parametrize("gate", [both, channel, spatial])
def test_no_layer_is_built_after_the_one_that_is_equal(gate, monkeypatch):
    built = []

    def counted(layer_class, arguments, probes):
        built.append(layer_class)
        yield from trials_of(layer_class, arguments, probes)

    trials_of = matching._trials_of
    monkeypatch.setattr(matching, "_trials_of", counted)
    row = only(check(gate, (8, 9, CHANNELS)))
    assert row.equals.startswith(f"cbam_keras.{built[-1].__name__}(")
