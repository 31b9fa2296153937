"""What cannot be explained is reported before anything is computed."""

import re
from unittest import mock

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from insertion_checks import (
    conv,
    head,
    several_inputs_and_outputs,
    wrapped_subclassed,
)
from keras import layers, ops

from cbam_keras import explain

X = images(2, 8, 8, 3)


@pytest.fixture(scope="module")
def model():
    """A network that must not be computed before arguments are checked."""
    model = tiny()
    for part in (model, model.get_layer("stem_conv")):
        part.call = mock.Mock(side_effect=AssertionError("computed"))
    return model


def raises(error, text):
    """Expects an error with the parts of a text, in their order."""
    parts = map(re.escape, text.split(" ... "))
    return pytest.raises(error, match="(?s)" + ".*".join(parts))


REFUSED = [
    ({"images": X[:0]}, "not be empty ... images.shape=(0, 8, 8, 3)"),
    ({"images": X * np.nan}, "must be finite numbers ... 384 that are NaN"),
    ({"images": X[0]}, "(B, 8, 8, 3) ... (8, 8, 3). Give ... images[None]"),
    ({"class_index": 5}, "from 0 to 4 ... class_index=5"),
    ({"class_index": [1, 2, 3]}, "one per image (2 here)"),
    ({"class_index": 1.5}, "integer ... 1.5"),
    (
        {"layer": "predictions"},
        "feature map ... 'predictions' ... (None, 5) ... stage2_block1_out",
    ),
    (
        {"layer": layers.Conv2D(4, 3, name="elsewhere")},
        "layer of the model ... 'elsewhere'",
    ),
    ({"images": ["a/cat.jpg"]}, "array of numbers ... list of dtype <U9"),
    ({"layer": 3}, "name of a layer ... layer=3"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_wrong_arguments_are_refused(model, arguments, text):
    with raises((ValueError, TypeError), text):
        explain.grad_cam(model, **{"images": X, **arguments})


@pytest.mark.parametrize("scale, offset", [(1 / 255, 0), (1 / 127.5, -1)])
# NumPy warns when Keras converts tensors of PyTorch.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_range_of_models_that_scale_is_checked(scale, offset):
    inputs = keras.Input((8, 8, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal")])(inputs)
    within = keras.Sequential([layers.Rescaling(scale, offset)])
    model = keras.Model(inputs, head(conv(4, "conv")(within(x))))
    function = explain.class_probabilities
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    function(model, bytes_)
    function(model, bytes_.astype("float32"))
    for wrong in (bytes_ - 127.0, 255.0 * bytes_):
        with raises(ValueError, "[0, 255] ... scales itself"):
            function(model, wrong)
    with pytest.warns(UserWarning, match="rescale them before"):
        function(model, bytes_ / 255)


def _functional(body, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, body(inputs))


def _two_paths(x):
    x = conv(4, "main")(x)
    return [head(x), head(x, "other")]


def _same_names(x):
    for name in ("first", "second"):
        x = keras.Sequential([conv(3, "conv")], name=name)(x)
    return head(x)


class Transposed(layers.Layer):
    def call(self, inputs):
        return ops.transpose(inputs, (0, 2, 3, 1))


def _transposed(x):
    return head(conv(4, "conv")(Transposed()(x)))


def _scored(model):
    """Returns a model that gives a video one value per class."""
    scores = ops.mean(model.output, axis=1)
    return keras.Model(model.input, scores)


FLAT = layers.Flatten()
VIDEOS = {"images": X[:, None].repeat(7, 1)}
MODELS = {
    "no positions": (
        lambda: _functional(lambda x: layers.Dense(3)(FLAT(x))),
        {},
        "feature map with several positions ... (None, 192)",
    ),
    "axes that cannot be followed": (
        lambda: _functional(_transposed, (3, 8, 8)),
        {"images": np.moveaxis(X, -1, 1)},
        "layers.Permute",
    ),
    "no classes": (
        lambda: _functional(lambda x: layers.Reshape((64, 3))(x)),
        {},
        "(B, classes) ... (None, 64, 3)",
    ),
    "several outputs": (
        lambda: _functional(_two_paths),
        {},
        "one output ... with 2 ... get_layer(name).output)",
    ),
    "ambiguous": (
        lambda: _functional(_same_names),
        {"layer": "conv"},
        'one layer ... "first/conv", "second/conv"',
    ),
    "several images": (
        several_inputs_and_outputs,
        {},
        "`image_input` must name ... ['age', 'depth', 'photo']",
    ),
    "one of several inputs": (
        several_inputs_and_outputs,
        {"image_input": "photo"},
        "a list of the 3 inputs ... ['age', 'depth', 'photo'] ... ndarray",
    ),
    "an input of another shape": (
        several_inputs_and_outputs,
        {"image_input": "photo", "images": [X, X, X]},
        'Input "age" ... (B, 4) ... (2, 8, 8, 3)',
    ),
    "inputs of other lengths": (
        several_inputs_and_outputs,
        {"image_input": "photo", "images": [X[:1, 0, :4, 0], X[..., :1], X]},
        "one number of samples ... [1, 2]",
    ),
    "no graph": (
        keras.Model,
        {},
        "functional ... type Model ... keras.Model(inputs, model.call(inputs))",
    ),
    "wrapped": (
        lambda: _scored(wrapped_subclassed()),
        VIDEOS,
        'feature map ... "frames" wraps model "own" ... inner model first',
    ),
}


@pytest.mark.parametrize("build, given, text", MODELS.values(), ids=MODELS)
def test_models_that_cannot_be_explained_are_refused(build, given, text):
    with raises(ValueError, text):
        explain.grad_cam(build(), **{"images": X, **given})


def test_classes_of_segmentation_that_do_not_fit_are_refused():
    model = _functional(conv(4, "conv"))
    with raises(ValueError, "from 0 to 3 ... class_index=4"):
        explain.grad_cam(model, X, class_index=4)
    with raises(ValueError, "a value per class ... (None, 8, 8, 4)"):
        explain.class_probabilities(model, X)


def test_a_model_without_our_attention_has_that_of_others_or_none():
    text = '"plain" without any ... insertion.adopt ... insert_attention'
    with raises(ValueError, text):
        explain.attention_maps(tiny(None, name="plain"), X)
