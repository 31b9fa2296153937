"""Gates folded into the layers around them, and taken out."""

import subprocess
import sys
from functools import partial

import insertion_checks as checks
import keras
import numpy as np
import pytest
from insertion_checks import attention_of, data_for, predictions, vary
from keras import layers
from layer_checks import randomize, weights_of

from cbam_keras import CBAM, SCSE, SqueezeExcite, _graph
from cbam_keras import insertion as ours
from cbam_keras.explain.importance import Change
from cbam_keras.layers import Attention

BACKEND = keras.backend.backend()
FORMATS = ["channels_last", "channels_first"][: 1 + (BACKEND != "tensorflow")]

every_format = pytest.mark.parametrize("data_format", FORMATS)


class DropoutNorm(layers.Layer):
    """A user's layer, whose name begins as one of Keras."""

    def call(self, inputs):
        squares = keras.ops.sum(inputs**2, axis=(1, 2, 3), keepdims=True)
        return inputs / keras.ops.sqrt(squares)


def trained(name):
    """Returns a normalization by the values of the batch, always."""
    first = keras.config.image_data_format() == "channels_first"
    return partial(norm(1 if first else -1, name=name), training=True)


conv = partial(layers.Conv2D, 8, padding="same")
norm = layers.BatchNormalization
# Layers by their names.
MAKE = {
    "active": partial(conv, 1, activation="relu"),
    "conv": partial(conv, 3),
    "last": partial(conv, 3, activation="relu"),
    "grouped": partial(conv, 3, groups=2),
    "depthwise": partial(layers.DepthwiseConv2D, 3, depth_multiplier=2),
    "transposed": partial(layers.Conv2DTranspose, 5, 3),
    "dense": partial(layers.Dense, 8),
    "lora": partial(layers.Dense, 8, lora_rank=2),
    "no_scale": partial(norm, scale=False),
    "no_center": partial(norm, center=False),
    "relu": layers.ReLU,
    "add": layers.Add,
    "pad": layers.ZeroPadding2D,
    "pad_first": partial(layers.ZeroPadding2D, data_format="channels_first"),
    "pool": layers.MaxPooling2D,
    "tanh": partial(SqueezeExcite, gate_activation="tanh"),
    "zeros": partial(SqueezeExcite, gate_activation="relu"),
    "scse": SCSE,
    "coordinate": Attention("coordinate"),
    "gc": Attention("gc"),
    "inside": lambda name: layers.TimeDistributed(SqueezeExcite(name=name)),
    "mapped": lambda name: partial(
        SqueezeExcite(name=name), return_attention_maps=True
    ),
    "times": layers.Multiply,
    "own": DropoutNorm,
    "trained": trained,
    "gate_scale": layers.ReLU,
}


def chain(words, gate=SqueezeExcite):
    """Returns a classifier; "add" adds what the layer before it took."""

    def body(x):
        first = keras.config.image_data_format() == "channels_first"
        made, taken = {"bn": norm(1 if first else -1, name="bn")}, []
        for word in words.split():
            if word not in made:
                made[word] = MAKE.get(word, gate)(name=word)
            taken.append(x)
            x = made[word]([taken[-2], x] if word == "add" else x)
        return x

    return vary(checks.network(body, (8, 6, 8)))


def constant(model, half=None):
    """Gives gates, or a half of each, weights that make maps constants."""
    for layer in attention_of(model):
        part = getattr(layer, f"{half}_attention", layer)
        for weight in randomize(part).weights:
            if "kernel" in weight.name or weight.name == "gamma":
                weight.assign(np.zeros(weight.shape))
    return model


def fold(model, names=None):
    """Returns the folded model, and where each gate went."""
    slim, report = ours.fold_attention(model, data_for(model), names)
    return slim, {row.gate: row.where for row in report.rows}


def assert_close(new, old, tolerance=1e-6):
    x = data_for(old)
    for pair in zip(predictions(new, x), predictions(old, x), strict=True):
        y, expected = (array.astype("float32") for array in pair)
        scale = np.abs(expected).max()
        assert np.ptp(expected, axis=0).max() > max(1e-3, tolerance) * scale
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * scale)


# Gates after, before and between layers.
PLACES = "conv bn gate1 relu gate2 last gate3 add"
ORDERS = "channel_first", "spatial_first", "parallel"
KINDS = [
    *(Attention(CBAM, {"order": x, "spatial_use_bias": True}) for x in ORDERS),
    *map(Attention, ("channel", "spatial", "se", "eca")),
    Attention("scse", {"combine": "add"}),
    Attention("gc", {"fusion": "multiply"}),
]


@pytest.mark.every_backend
@every_format
@pytest.mark.parametrize("attention", KINDS, ids=repr)
def test_constant_gates_fold_and_outputs_stay(attention, data_format):
    keras.config.set_image_data_format(data_format)
    model = constant(chain(PLACES, attention))
    before = weights_of(model)
    slim, where = fold(model)
    # Halves of CBAM go to the same place.
    names = dict.fromkeys(x.split('"')[1] for x in where.values())
    assert [*names] == ["bn", "last", "gate3_scale"]
    assert not attention_of(slim)
    assert_close(slim, model)
    for values in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(*values)


@every_format
@pytest.mark.parametrize("half", ["channel", "spatial"])
@pytest.mark.parametrize("order", ORDERS)
def test_half_folds_and_the_other_sees_the_same(order, half, data_format):
    keras.config.set_image_data_format(data_format)
    options = {"order": order, "spatial_use_bias": True}
    model = constant(chain(PLACES, partial(CBAM, 2, 3, **options)), half)
    attention_of(model)[1].trainable = False
    slim, where = fold(model, [f"gate{n}/{half}" for n in (1, 2, 3)])
    # It goes before the other half where it is the first, else after it.
    assert ("bn" in where[f"gate1/{half}"]) == (order == f"{half}_first")
    rest = {x.name: x.trainable for x in attention_of(slim)}
    assert rest == {"gate1": True, "gate2": False, "gate3": True}
    assert_close(slim, model)


@pytest.mark.every_backend
@pytest.mark.half_precision
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_mixed_precision_changes_outputs_by_its_rounding(kind):
    keras.config.set_dtype_policy(f"mixed_{kind}")
    model = constant(chain(PLACES, KINDS[0]))
    slim, _ = fold(model)
    assert {x.dtype for x in slim.variables} == {"float32"}
    # Four times what one rounding changes.
    assert_close(slim, model, 4e-3 if kind == "float16" else 3.2e-2)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build", ["nested_twice", "wrapped", "several_inputs_and_outputs"]
)
def test_inserted_attention_folds_in_models_of_any_form(build):
    old = vary(getattr(checks, build)())
    model = constant(ours.insert_attention(old, "se"))
    slim, _ = fold(model, _graph.attention_layers(model, None).values())
    assert not attention_of(slim)
    assert_close(slim, model)


# "zeros" would be divided by in normalization; after a change of signs by
# "tanh" the maximum is another; "pad_first" takes rows for channels.
WHERE = {
    'batch normalization "bn"': "active bn gate relu, active gate bn relu, "
    "active gate bn gate2 relu",
    'batch normalization "no_center"': "active no_center gate relu",
    'convolution "conv"': "conv gate relu, active gate pad pool conv",
    'convolution "grouped"': "active grouped gate relu",
    'convolution "transposed"': "transposed gate relu, active gate transposed",
    'depthwise convolution "depthwise"': "depthwise gate relu, "
    "active gate depthwise",
    'dense layer "dense"': "dense gate relu, active conv conv gate dense",
    'dense layer "predictions"': "active gate, active scse",
    'Rescaling "gate_scale"': "active no_scale gate relu, lora gate relu, "
    "active gate grouped, active gate pad_first conv, active gate relu, "
    "active gate own conv, active gate trained, "
    "conv gate add, active gate conv add, active gate conv conv",
    'Rescaling "gate_scale_1"': "active gate gate_scale",
    'Rescaling "zeros_scale"': "active zeros bn",
    'Rescaling "tanh_scale"': "active tanh pool",
}
KEPT = {
    "its map is one of positions and channels": "conv coordinate",
    "it adds to the features": "conv gc",
    "its layer is called several times": "active gate conv gate",
    "its layer is inside another layer": "conv inside",
    "its map is an output of its layer": "conv mapped times",
}
TABLE = {**WHERE, **KEPT}.items()
CASES = [(words, x) for x, row in TABLE for words in row.split(", ")]


@pytest.mark.parametrize("words, place", CASES)
def test_constant_goes_where_it_can(words, place):
    model = constant(chain(words))
    slim, where = fold(model)
    assert [*where.values()][0] == place
    assert_close(slim, model)


@pytest.mark.every_backend
def test_constants_stay_where_their_inverse_overflows():
    model = constant(chain("active gate bn"))
    bias = model.get_layer("gate").weights[-1]
    model.get_layer("bn").moving_mean.assign(np.full(bias.shape, 10.0))
    # One map is 1e-38, by which the moving mean would be divided.
    bias.assign(np.where(np.arange(bias.shape[0]), 0.0, -87.5))
    slim, where = fold(model)
    assert where == {"gate": 'Rescaling "gate_scale"'}
    assert_close(slim, model)


@pytest.mark.every_backend
def test_gates_with_a_mask_fold():
    inputs = keras.Input((6, 4))
    x = layers.Dense(8, name="first")(layers.Masking()(inputs))
    x = SqueezeExcite(name="gate")(x)
    outputs = layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    model = constant(vary(keras.Model(inputs, outputs)))
    slim, where = fold(model)
    assert where == {"gate": 'dense layer "first"'}
    assert_close(slim, model)


@pytest.mark.parametrize("gates", [None, "idle"])
def test_result_is_compared_with_the_model(gates, monkeypatch):
    scaled = ours.folding._scaled

    def wrong(layer, vector, of_input):
        return scaled(layer, -vector, of_input)

    monkeypatch.setattr(ours.folding, "_scaled", wrong)
    with pytest.raises(ValueError, match="predict the same .* 0.00 % right"):
        ours.fold_attention(*deciding(), gates)


@pytest.mark.parametrize("reason", [*KEPT][-2:])
def test_what_cannot_be_taken_out(reason):
    with pytest.raises(ValueError, match=f'gate "[a-z]+": {reason}'):
        ours.remove_attention(chain(KEPT[reason]))


def test_map_that_differs_by_position_is_kept_though_named():
    slim, where = fold(chain("active gate", CBAM), "gate")
    assert where["gate/channel"] == 'Rescaling "gate_scale"'
    assert "its map differs by position" in where["gate/spatial"]
    assert len(attention_of(slim)) == 1


def deciding(units=2, end="sigmoid"):
    """Returns a network that finds classes by one of two gates, and images.

    The first channel closes the second or the third one by its sign.
    """
    decides = SqueezeExcite(hidden_units=2, name="decides")
    idle = SqueezeExcite(name="idle", kernel_initializer="zeros")
    inputs, classes = keras.Input((4, 4, 3)), layers.Dense(units, end)
    x = layers.GlobalAveragePooling2D()(idle(decides(inputs)))
    model = keras.Model(inputs, classes(x))
    squeeze, excite = (x for x in decides.weights if len(x.shape) == 2)
    squeeze.assign([[1, -1], [0, 0], [0, 0]])
    excite.assign([[0, 20, -20], [0, -20, 20]])
    values = np.array([[0, 0], [1, -1], [-1, 1]])
    classes.kernel.assign(values[:, -units:])
    # The loss says whether outputs are logits.
    loss = keras.losses.BinaryCrossentropy(from_logits=end is None)
    model.compile("sgd", loss)
    images = np.ones((6, 4, 4, 3), "float32")
    images[::2, ..., 0] = -1
    return model, images


@pytest.mark.parametrize("labels", [None, [1, 0] * 3, [[1], [0]] * 3])
@pytest.mark.parametrize("tolerance, units", [(0, 1), (0, 2), (0.6, 1)])
@pytest.mark.parametrize("end", ["sigmoid", None])
def test_gates_fold_while_the_accuracy_stays(tolerance, units, labels, end):
    model, images = deciding(units, end)
    slim, report = ours.fold_attention(model, images, None, tolerance, labels)
    decides, idle = report.rows
    assert (decides.is_folded, idle.is_folded) == (tolerance > 0.5, True)
    assert "50.00 points would be lost" in decides.where or decides.is_folded
    assert report.before.accuracy == 1
    assert report.after.accuracy == (0.5 if decides.is_folded else 1)
    assert report.measure == ("agreement" if labels is None else "accuracy")
    assert report.after.parameters == slim.count_params()
    assert "idle" in str(report) and " % on these images, " in report.verdict


def test_02_points_need_about_1000_images():
    same = np.ones((1000, 2))
    few, enough = (Change.of(x, x) for x in (same[:900], same))
    assert few.accuracy_error > 0.002 > enough.accuracy_error


WRONG = [
    ({"tolerance": 1}, ValueError, "`tolerance` must be .* tolerance=1$"),
    ({"gates": ["idel"]}, ValueError, 'decides, idle. .*Did you mean "idle"'),
    ({"gates": 5}, TypeError, "`gates` must be names .* gates=5 of type int"),
    ({"labels": [0, 1]}, ValueError, r"per image, 6 .* \(2,\)"),
]


def test_what_gives_no_classes_is_folded_by_names_alone():
    model, images = deciding()
    model.compile("sgd", "mse")
    two = keras.Model(model.input, [model.output, model.layers[-2].output])
    linear = keras.Model(model.input, model.layers[-2].output)
    linear.compile("sgd", "mse")
    for other in (two, linear):
        for options in ({}, {"gates": "idle", "labels": [0, 1] * 3}):
            with pytest.raises(ValueError, match="`model` must .*classes"):
                ours.fold_attention(other, images, **options)
        slim, report = ours.fold_attention(other, images, "idle")
        assert [row.is_folded for row in report.rows] == [False, True]
        assert "accuracy" not in str(report) + report.verdict
        assert_close(slim, other)


def test_labels_of_batches_are_used():
    model, images = deciding()
    batches = keras.utils.PyDataset
    batches = type("Batches", (batches,), {"__len__": lambda _: 3})
    batches.__getitem__ = lambda _, i: (
        images[2 * i :][:2],
        np.array([i % 2, 0]),
    )
    _, report = ours.fold_attention(model, batches())
    assert (report.measure, report.before.accuracy) == ("accuracy", 4 / 6)


@pytest.mark.parametrize("options, error, message", WRONG)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        ours.fold_attention(*deciding(), **options)


@pytest.mark.parametrize("attention", ["cbam", "gc", "coordinate"])
@pytest.mark.parametrize("build", ["nested_twice", "wrapped", "siamese"])
def test_what_was_inserted_is_taken_out_again(build, attention):
    model = vary(getattr(checks, build)())
    inserted = ours.insert_attention(model, attention)
    for layer in attention_of(inserted):
        vary(layer)
    plain = ours.remove_attention(inserted)
    names = [[x.name for x in _graph.layers_within(y)] for y in (plain, model)]
    assert names[0] == names[1]
    for values in zip(weights_of(plain), weights_of(model), strict=True):
        np.testing.assert_array_equal(*values)
    checks.assert_predicts_the_same(plain, model, data_for(model))


@pytest.mark.every_backend
def test_half_of_cbam_is_taken_out():
    model = ours.insert_attention(vary(checks.small()), CBAM(2, 3))
    (layer,) = attention_of(model)
    vary(layer.channel_attention)
    # Untrained, the other half is one everywhere.
    rest = ours.remove_attention(model, f"{layer.name}/spatial")
    assert len(rest.weights) == len(model.weights) - 1
    checks.assert_predicts_the_same(rest, model, data_for(model))


def test_folded_network_needs_no_package(tmp_path):
    fold(constant(chain(PLACES)))[0].save(tmp_path / "slim.keras")
    code = (
        "import sys, keras; keras.saving.load_model('slim.keras'); "
        "assert 'cbam_keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
