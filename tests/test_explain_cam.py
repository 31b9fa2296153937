"""Grad-CAM against closed forms, finite differences and the authors' code."""

import functools

import keras
import numpy as np
import pytest
from convert_checks import authors_network
from explain_checks import (
    WEIGHTS,
    dense_head,
    images,
    linear_network,
    model_ending_in,
    normalized,
    tiny,
)
from insertion_checks import vary
from keras import layers, ops
from layer_checks import (
    assert_all_close,
    assert_close,
    channels_last,
    stored,
    to_numpy,
)

from cbam_keras import explain


@pytest.mark.parametrize("size", [(7,), (6, 4), (5, 6, 4)])
def test_a_linear_network_of_any_rank_has_its_closed_form(size):
    model, x = linear_network(WEIGHTS, size), images(3, *size, 2)
    heat = explain.grad_cam(model, x, [0, 1, 2])
    assert heat.dtype == "float32"
    expected = normalized(np.einsum("b...c,cb->b...", x, WEIGHTS))
    assert_close(heat, expected, 1e-6)


def test_saturated_probabilities_are_told():
    def step(x):
        return ops.cast(x > 0, "float32") + 0 * x

    with pytest.warns(
        UserWarning, match="maps of 2 images are all zero because"
    ):
        heat = explain.grad_cam(
            model_ending_in(lambda x: step(dense_head()(x))), images(2, 6, 4, 2)
        )
    assert not heat.any()


@pytest.mark.every_backend
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_a_quadratic_network_has_its_closed_form(method):
    model, x = linear_network(WEIGHTS, of=ops.square), images(3, 6, 4, 2)
    heat = explain.grad_cam(model, x, 1, "features", method=method)
    gradient = 2 * x * WEIGHTS[:, 1]
    if method == "grad_cam":
        gradient = gradient.mean(axis=(1, 2), keepdims=True)
    expected = normalized((x * gradient).sum(axis=-1))
    assert_close(heat, expected, 1e-5)


def test_each_image_is_explained_by_the_class_predicted_for_it():
    model, x = linear_network(WEIGHTS), images(8, 6, 4, 2)
    predicted = to_numpy(model(x)).argmax(axis=1)
    assert len(set(predicted.tolist())) > 1
    expected = explain.grad_cam(model, x, predicted)
    np.testing.assert_array_equal(explain.grad_cam(model, x), expected)
    apart = explain.grad_cam(model, x, predicted, batch_size=3)
    assert_close(apart, expected, 1e-6)


@pytest.mark.parametrize("as_list", [True, False], ids=["list", "dictionary"])
def test_other_inputs_are_held(as_list):
    model = tiny()
    # Keras sorts the keys.
    given = {
        "photo": keras.Input((8, 8, 3), name="photo"),
        "age": keras.Input((3,), name="age"),
    }
    shift = layers.Dense(5, name="shift")(given["age"])
    both = keras.Model(given, model(given["photo"]) + shift)
    vary(both)
    x, ages = images(5, 8, 8, 3), images(5, 3, seed=1)
    inputs = [ages, x] if as_list else {"photo": x, "age": ages}
    found = explain.grad_cam(both, inputs, batch_size=2)
    shifts = to_numpy(both.get_layer("shift")(ages))
    classes = (to_numpy(model(x, training=False)) + shifts).argmax(axis=1)
    # Those of the images alone would be others.
    assert len(set(classes)) > 1
    expected = explain.grad_cam(model, x, classes)
    assert_close(found, expected, 1e-5)
    chances = explain.class_probabilities(both, inputs, batch_size=2)
    np.testing.assert_array_equal(chances.argmax(axis=1), classes)
    maps = explain.attention_maps(both, inputs, batch_size=2)
    for name, pair in explain.attention_maps(model, x).items():
        assert_close(maps[name][0], pair[0], 1e-6)


def test_only_features_of_the_images_are_explained():
    inputs, pooled = [keras.Input((6, 4, 2)) for _ in range(2)], []
    for x, name in zip(inputs, ("one", "two"), strict=True):
        features = layers.Conv2D(3, 3, name=name)(x)
        pooled.append(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(inputs, dense_head()(layers.Concatenate()(pooled)))
    given = [images(2, 6, 4, 2), images(2, 6, 4, 2, seed=1)]
    for index, name in enumerate(("one", "two")):
        heat = explain.grad_cam(model, given, 1, image_input=index)
        expected = explain.grad_cam(model, given, 1, name, image_input=index)
        np.testing.assert_array_equal(heat, expected)


def test_where_nothing_speaks_for_a_class_there_is_no_heat():
    x = np.ones((2, 6, 4, 2), "float32")
    x[1] *= -1
    heat = explain.grad_cam(linear_network([[-1.0], [-1.0]]), x, 1)
    np.testing.assert_array_equal(heat[0], 0)
    assert_close(heat[1], 1)


@pytest.mark.needs_torch
@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="compiles for half a minute; closed forms stand in for it",
)
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_the_authors_network_gives_the_maps_of_pytorch(method):
    model = authors_network()
    arrays, _ = stored("official_small_cbam_io")
    expected, _ = stored("official_small_cbam_explained")
    for stage in (2, 4):
        heat = explain.grad_cam(
            model,
            channels_last(arrays["input"]),
            expected["classes"],
            layer=f"stage{stage}_block2_out",
            method=method,
        )
        assert_close(heat, expected[f"layer{stage}/{method}"], 1e-4)


SOFTMAX = dense_head(activation="softmax")


def _computed_again(x):
    with keras.RematScope(mode="full"):
        return dense_head(activation="softmax")(x)


HEADS = {
    "softmax": SOFTMAX,
    "activation": lambda x: layers.Activation("softmax")(dense_head()(x)),
    "operation": lambda x: ops.softmax(dense_head()(x)),
    "reshaped": lambda x: layers.Reshape((5,))(
        layers.Softmax()(layers.Reshape((1, 5))(dense_head()(x)))
    ),
    "model within": lambda x: keras.Sequential([SOFTMAX], name="head")(x),
    "layer as activation": dense_head(activation=layers.Softmax()),
    "computed again for the gradient": _computed_again,
}


@pytest.mark.parametrize("end", HEADS.values(), ids=HEADS)
def test_the_logit_before_the_last_activation_is_explained(end):
    model, x = model_ending_in(end), images(3, 6, 4, 2)
    before = to_numpy(model(x))
    expected = explain.grad_cam(model_ending_in(dense_head()), x, 2)
    heat = explain.grad_cam(model, x, 2)
    assert_close(heat, expected, 1e-6)
    # It is as it was.
    np.testing.assert_array_equal(to_numpy(model(x)), before)


def two_logits(x):
    """Ends a model in a softmax with the probabilities of a sigmoid."""
    logit = layers.Dense(1, name="out")(x)
    return ops.softmax(ops.concatenate([-0.5 * logit, 0.5 * logit], axis=1))


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_logit_is_that_of_two_classes(activation):
    head = layers.Dense(1, activation=activation, name="out")
    single, x = model_ending_in(head), images(8, 6, 4, 2)
    if activation is None:
        single.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    pair = model_ending_in(two_logits)
    predicted = explain.class_probabilities(pair, x).argmax(axis=1)
    assert {*predicted.tolist()} == {0, 1}
    for index in (None, 0, 1, 1 - predicted):
        heat = explain.grad_cam(single, x, index)
        expected = explain.grad_cam(pair, x, index)
        assert_close(heat, expected, 1e-5)
    of_predicted = explain.grad_cam(single, x, predicted)
    explained = explain.grad_cam(single, x)
    np.testing.assert_array_equal(explained, of_predicted)


def mine(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred))


@pytest.mark.parametrize(
    "loss, is_classes",
    [
        (None, False),
        (mine, False),
        (keras.losses.Huber(), False),
        (["mae"], False),
        ({"age": "poisson"}, False),
        ("binary_crossentropy", True),
        (functools.partial(keras.losses.binary_focal_crossentropy), True),
        ([keras.losses.Hinge()], True),
    ],
)
def test_one_unit_is_two_classes_only_where_something_says_so(loss, is_classes):
    weights, x = np.array([1.0, -2.0]), images(8, 6, 4, 2)
    model = linear_network(weights[:, None])
    if loss is not None:
        model.compile(loss=loss)
    rising = x @ weights
    signs = np.sign(rising.mean(axis=(1, 2), keepdims=True))
    assert {*signs.ravel()} == {-1, 1}
    expected = normalized(rising * signs if is_classes else rising)
    heat = explain.grad_cam(model, x)
    assert_close(heat, expected, 1e-5)
    if is_classes:
        explain.class_probabilities(model, x)
        return
    with pytest.raises(ValueError, match="must give classes.*from_logits=True"):
        explain.class_probabilities(model, x)


def test_a_nested_model_has_the_maps_of_the_flat_one():
    flat, x = tiny(), images(2, 8, 8, 3)
    expected = explain.grad_cam(flat, x, 3)
    model = keras.Sequential([keras.Input((8, 8, 3)), flat, layers.Softmax()])
    name = "stage2_block1_out"
    # A name is enough where it is the only one.
    for layer in (None, name, f"{flat.name}/{name}"):
        assert_close(explain.grad_cam(model, x, 3, layer), expected, 1e-5)


@pytest.mark.every_backend
@pytest.mark.half_precision
def test_gradients_too_small_for_half_precision_are_not_lost():
    keras.config.set_dtype_policy("mixed_float16")
    x = images(2, 6, 4, 2)
    # Each of 24 positions gets less than the least number of float16, 6e-8.
    tiny = 5e-7 * WEIGHTS
    heat = explain.grad_cam(linear_network(tiny), x, 0)
    expected = normalized(x @ WEIGHTS[:, 0])
    assert_close(heat, expected, 2e-2)


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="TensorFlow cannot compute it on a CPU, and JAX compiles for long",
)
def test_channels_first_gives_the_same_maps():
    x, last = images(2, 8, 8, 3), tiny()
    moved, expected = np.moveaxis(x, -1, 1), explain.grad_cam(last, x, 1)
    keras.config.set_image_data_format("channels_first")
    first = tiny(input_shape=(3, 8, 8))
    assert_close(explain.grad_cam(first, moved, 1), expected, 1e-5)
    expected = explain.attention_maps(last, x)
    found = explain.attention_maps(first, moved)
    for name, maps in expected.items():
        assert_all_close(found[name], maps, 1e-5)


# Segmentation.


def segmenting(weights=WEIGHTS, activation=None):
    """A network whose logits are squares of the means of 2 x 2, weighed."""
    inputs = keras.Input((6, 4, 2))
    x = layers.Activation("linear", name="features")(inputs)
    x = layers.AveragePooling2D(2, name="coarse")(x)
    x = ops.square(layers.UpSampling2D(2)(x))
    classes = weights.shape[1]
    x = layers.Conv2D(classes, 1, use_bias=False, activation=activation)(x)
    model = keras.Model(inputs, x)
    model.set_weights([weights[None, None]])
    return model


def means(x):
    """Returns the means of 2 x 2 positions, at each of them."""
    x = x.reshape(len(x), 3, 2, 2, 2, *x.shape[3:]).mean(axis=(2, 4))
    return x.repeat(2, axis=1).repeat(2, axis=2)


def heat_of(x, weights, region):
    """Grad-CAM of a class of `segmenting` at its features, by definition."""
    gradient = 2 * means(x) * weights * means(region)[..., None]
    gradient = gradient.mean(axis=(1, 2), keepdims=True)
    return normalized((x * gradient).sum(axis=-1))


@pytest.mark.every_backend
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_without_a_class_it_is_that_predicted_at_each_position(activation):
    model, x = segmenting(activation=activation), images(3, 6, 4, 2)
    predicted = (means(x) ** 2 @ WEIGHTS).argmax(axis=-1)
    heat = explain.grad_cam(model, x, layer="features")
    everywhere = np.ones_like(predicted, bool)
    expected = heat_of(x, WEIGHTS.T[predicted], everywhere)
    assert_close(heat, expected, 1e-5)
    # The coarsest features are explained by default.
    heat = explain.grad_cam(model, x, 1)
    expected = explain.grad_cam(model, x, 1, "coarse")
    np.testing.assert_array_equal(heat, expected)


def test_a_class_is_explained_where_it_is_predicted():
    x, classes = images(3, 6, 4, 2, seed=2), np.array([0, 1, 0])
    predicted = (means(x) ** 2 @ WEIGHTS).argmax(axis=-1)
    region = predicted == classes[:, None, None]
    assert region.any(axis=(1, 2)).all() and not region.all()
    heat = explain.grad_cam(segmenting(), x, classes, "features")
    expected = heat_of(x, WEIGHTS.T[classes][:, None, None], region)
    assert_close(heat, expected, 1e-5)
    # Independent classes are where they are probable; a single value is for
    # two, one of which is everywhere else.
    region, weights = means(x) ** 2 @ WEIGHTS[:, 1] > 0, WEIGHTS[:, 1]
    single, regression = segmenting(weights[:, None]), segmenting()
    regression.compile(loss="mse")
    labels = segmenting()
    labels.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    for model, index, sign, inside in (
        # Values have no class, and are explained everywhere.
        (single, None, 1, np.ones_like(region)),
        (regression, 1, 1, np.ones_like(region)),
        (segmenting(activation="sigmoid"), 1, 1, region),
        (labels, 1, 1, region),
        (single, 1, 1, region),
        (single, 0, -1, ~region),
    ):
        heat = explain.grad_cam(model, x, index, "features")
        assert_close(heat, heat_of(x, sign * weights, inside), 1e-5)
