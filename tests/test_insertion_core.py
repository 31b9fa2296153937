"""Gates rewritten as layers of Keras, and loaded where ours are missing."""

from functools import partial

import keras
import numpy as np
import pytest
from insertion_checks import data_for, predictions, subclassed
from keras import layers
from layer_checks import LAYERS, randomize, to_numpy, weights_of
from tuning_checks import warned

from cbam_keras import BAM, CBAM, SCSE, VARIANTS, SqueezeExcite
from cbam_keras import layers as ours
from cbam_keras.insertion import adopt, to_core

BACKEND = keras.backend.backend()

every_backend = pytest.mark.every_backend

POOLS = ("lp", "lse", "max", "avg")
GATES = {
    **{layer.__name__: layer for layer in LAYERS},
    "CBAM-normalized": partial(CBAM, **VARIANTS["recommended"]),
    "CBAM-linear": partial(CBAM, **VARIANTS["linear_perceptron"]),
    "CBAM-gates": partial(CBAM, combine="gates", identity_init=True),
    "CBAM-pools": partial(
        CBAM, channel_pool_types=POOLS, spatial_pool_types=(*POOLS, "conv")
    ),
    "CBAM-parallel": partial(CBAM, order="parallel", identity_init=True),
    "CBAM-spatial-first": partial(CBAM, order="spatial_first"),
    "SE-hard": partial(
        SqueezeExcite,
        activation="swish",
        gate_activation="hard_sigmoid",
        identity_init=True,
    ),
    "Spatial-dilated": partial(ours.SpatialAttention, 3, dilation_rate=2),
    "GlobalContext-multiply": partial(ours.GlobalContext, fusion="multiply"),
    "BAM-multiply": partial(BAM, combine="multiply"),
    "SCSE-add": partial(SCSE, combine="add", identity_init=True),
}


def features(gate, shape=(7, 5, 16), **options):
    """Returns a network whose last layer is a gate, with random weights."""
    inputs = keras.Input(shape)
    x = layers.Dense(inputs.shape[-1], name="dense", **options)(inputs)
    return randomize(keras.Model(inputs, gate(x)))


def check(model, tolerance=3e-6):
    """Rewrites a network, checks the new one and returns it."""
    before = weights_of(model)
    core = to_core(model)
    for layer in core._flatten_layers():
        assert "cbam_keras" not in type(layer).__module__
        assert not isinstance(layer, layers.Lambda)
    x = data_for(model)
    for y, expected in zip(
        predictions(core, x), predictions(model, x), strict=True
    ):
        assert y.dtype == expected.dtype
        scale = np.abs(expected.astype("float32")).max()
        assert expected.std() > 0.01 * scale
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * scale)
    sizes = [
        [sorted(tuple(w.shape) for w in group) for group in groups]
        for groups in (
            (x.trainable_weights, x.non_trainable_weights)
            for x in (core, model)
        )
    ]
    assert sizes[0] == sizes[1]
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    return core


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_of_keras_compute_what_a_gate_does(layer):
    check(features(layer()))


@pytest.mark.parametrize("name", GATES)
def test_arguments_and_the_data_format_are_kept(name):
    check(features(GATES[name](data_format="channels_first")))


@pytest.mark.parametrize("shape", [(7, 16), (4, 3, 5, 16)], ids=["1d", "3d"])
@pytest.mark.parametrize("layer", LAYERS)
def test_signals_and_volumes(layer, shape):
    if len(shape) + 1 not in layer._ranks:
        pytest.skip("the gate does not take this rank")
    check(features(layer(), shape))


def test_images_of_any_size():
    names = [name for name in GATES if name != "CoordinateAttention"]
    inputs = keras.Input((None, None, 16))
    outputs = [GATES[name]()(inputs) for name in names]
    model = randomize(keras.Model(inputs, layers.Concatenate()(outputs)))
    # Outputs are compared with the largest of all gates.
    check(model, tolerance=1e-5)


def test_a_rewritten_network_trains_as_before():
    inputs = keras.Input((6, 6, 8))
    gates = [
        CBAM(4, 3, spatial_batch_norm=True, kernel_regularizer="l2"),
        BAM(4, kernel_constraint="max_norm"),
    ]
    x = layers.Add()([gate(inputs) for gate in gates])
    model = randomize(keras.Model(inputs, x))
    core = check(model)
    x = data_for(model, 8)
    for network in (model, core):
        network.compile("sgd", loss="mse", run_eagerly=BACKEND != "jax")
        network.fit(x, x[::-1] / 4, epochs=2, verbose=0, shuffle=False)
    losses = [
        network.evaluate(x, x, verbose=0, batch_size=8)
        for network in (model, core)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_layers_keep_their_names_states_and_places():
    inputs = keras.Input((8, 8, 3), name="image")
    gate, frozen = CBAM(2, 3, name="gate"), BAM(2, name="bam")
    x = layers.Conv2D(4, 3, name="conv", strides=2)(inputs)
    # One gate at two resolutions.
    x = gate(layers.MaxPooling2D(name="pool")(gate(x)))
    body = keras.Model(inputs, frozen(x), name="body")
    model = keras.Model(inputs, layers.ReLU(name="out")(body(inputs)))
    frozen.trainable = False
    core = check(randomize(model))
    body = core.get_layer("body")
    assert body.get_layer("conv").strides == (2, 2)
    assert tuple(body.get_layer("gate").output.shape) == (None, 3, 3, 4)
    assert not body.get_layer("bam_squeeze").trainable
    assert not body.get_layer("bam_channel_norm").trainable
    assert body.get_layer("gate_spatial_conv").trainable
    # Names are free again.
    check(keras.Sequential([keras.Input((8, 8, 3)), core, CBAM(name="gate")]))


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", "float64"][: 1 + (BACKEND != "jax")]
)
def test_precision_stays(dtype):
    gates = [CBAM(4, 3, **VARIANTS["timm"], dtype=dtype), BAM(4, dtype=dtype)]
    tolerance = 2e-3 if dtype == "mixed_float16" else 1e-6
    core = check(features(keras.Sequential(gates), dtype=dtype), tolerance)
    dense = core.get_layer("sequential").get_layer("bam_squeeze")
    assert dense.compute_dtype == dtype.replace("mixed_float16", "float32")


def test_a_network_without_attention_is_copied():
    model = subclassed()
    with warned("still needs these classes.*Subclassed"):
        core = to_core(model)
    x = data_for(core)
    np.testing.assert_array_equal(predictions(core, x), predictions(model, x))


# `adopt` recognizes no gates of pools other than "avg" and "max".
AGAIN = "CBAM-normalized", "SE-hard", "SCSE-add"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[pytest.mark.exhaustive] * (x not in AGAIN))
        for x in sorted({*GATES} - {"CBAM-pools"})
    ],
)
def test_adopting_a_rewritten_gate_gives_its_weights_back(name):
    model = features(GATES[name](name="gate"))
    adopted, _ = adopt(to_core(model))
    before, after = (x.get_layer("gate") for x in (model, adopted))
    assert type(before) is type(after)
    for x, y in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(x), to_numpy(y))
