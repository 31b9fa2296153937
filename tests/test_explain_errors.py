"""What cannot be explained is reported before anything is computed."""

import re

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from insertion_checks import conv, head, several_inputs_and_outputs
from keras import layers

from cbam_keras import explain

FUNCTIONS = [
    explain.grad_cam,
    explain.class_probabilities,
    explain.attention_maps,
]
X = images(2, 8, 8, 3)


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture
def untouched(model, monkeypatch):
    """Fails a test in which the model runs."""

    def call(*args, **kwargs):
        raise AssertionError("computed before it was checked")

    monkeypatch.setattr(model, "call", call)


def raises(error, *parts):
    """Expects an error with these parts, in their order."""
    return pytest.raises(
        error, match="(?s)" + ".*".join(re.escape(part) for part in parts)
    )


IMAGES = {
    "one image": (X[0], ValueError, ["(B, 8, 8, 3)", "(8, 8, 3)", "[None]"]),
    "grey": (X[..., 0], ValueError, ["(B, 8, 8, 3)", "[..., None]"]),
    "other size": (
        images(2, 9, 8, 3),
        ValueError,
        ["(2, 9, 8, 3)", "image.resize"],
    ),
    "channels first": (
        np.moveaxis(X, -1, 1),
        ValueError,
        ["np.transpose(images, (0, 2, 3, 1))"],
    ),
    "none": (X[:0], ValueError, ["not be empty", "(0, 8, 8, 3)"]),
    "text": ("cat.jpg", TypeError, ["array of numbers", "load_img"]),
    "strings": (np.full((2, 8, 8, 3), "a"), TypeError, ["numbers", "<U1"]),
    "booleans": (X > 0, TypeError, ["numbers", "bool"]),
    "complex": (X + 1j, TypeError, ["numbers", "complex64"]),
    "ragged": ([X[0], X[0, :4]], TypeError, ["numbers", "list"]),
    "a dataset": (iter([X]), TypeError, ["numbers", "next(iter(dataset))"]),
    "not a number": (
        np.where(X > 2, np.nan, X),
        ValueError,
        ["finite", "NaN"],
    ),
    "infinite": (np.where(X > 2, np.inf, X), ValueError, ["finite"]),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("given, error, parts", IMAGES.values(), ids=IMAGES)
def test_images_that_no_model_takes(model, function, given, error, parts):
    with raises(error, *parts):
        function(model, given)


def _rescaling(scale=1 / 255, **options):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale, **options)(inputs)
    return keras.Model(inputs, head(conv(4, "conv")(x)), name="scaling")


@pytest.mark.parametrize(
    "model",
    [
        _rescaling(),
        _rescaling(1 / 127.5, offset=-1),
        keras.Sequential([keras.Input((8, 8, 3)), _rescaling()]),
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.Sequential([layers.RandomFlip("horizontal")]),
                _rescaling(),
            ]
        ),
    ],
    ids=["to 1", "around 0", "within", "after augmentation"],
)
# Of NumPy, when Keras converts tensors of PyTorch.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("function", FUNCTIONS[:2])
def test_the_range_of_models_that_scale_is_checked(model, function):
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    function(model, bytes_)
    function(model, bytes_.astype("float32"))
    for wrong in (bytes_ - 127.0, 255.0 * bytes_):
        with raises(ValueError, "[0, 255]", "scales itself"):
            function(model, wrong)
    with pytest.warns(UserWarning, match="division by 255"):
        function(model, bytes_ / 255)


@pytest.mark.parametrize("function", FUNCTIONS[:2])
def test_other_models_take_any_range(model, function):
    function(model, X * 1000)


ARGUMENTS = {
    "class too large": (
        {"class_index": 5},
        ValueError,
        ["from 0 to 4", "5 classes", "class_index=5"],
    ),
    "class below 0": ({"class_index": -1}, ValueError, ["from 0 to 4"]),
    "one of several": ({"class_index": [1, 7]}, ValueError, ["[1, 7]"]),
    "too many classes": (
        {"class_index": [1, 2, 3]},
        ValueError,
        ["one per image", "2 here"],
    ),
    "a name": ({"class_index": "cat"}, ValueError, ["integer", "'cat'"]),
    "a fraction": ({"class_index": 1.5}, ValueError, ["integer"]),
    "a flag": ({"class_index": True}, ValueError, ["integer"]),
    "no such layer": (
        {"layer": "stage2_block1_con1"},
        ValueError,
        [
            "'stage2_block1_con1'",
            "stage2_block1_out",
            'Did you mean "stage2_block1_conv1"',
        ],
    ),
    "another case": (
        {"layer": "Stage2_Block1_Out"},
        ValueError,
        ['Did you mean "stage2_block1_out"'],
    ),
    "a layer without positions": (
        {"layer": "predictions"},
        ValueError,
        ["feature map with positions", "(None, 5)", "stage2_block1_out"],
    ),
    "a layer from elsewhere": (
        {"layer": layers.Conv2D(4, 3, name="elsewhere")},
        ValueError,
        ["layer of the model", '"elsewhere"'],
    ),
    "no layer": ({"layer": 3}, TypeError, ["name of a layer", "layer=3"]),
    "no such method": (
        {"method": "gradcam"},
        ValueError,
        ['"grad_cam"', "'gradcam'", "Did you mean"],
    ),
    "no batch": ({"batch_size": 0}, ValueError, ["positive", "batch_size=0"]),
    "no such output": (
        {"output": "prediction"},
        ValueError,
        ['"predictions"', "'prediction'"],
    ),
    "output too large": ({"output": 1}, ValueError, ["below 1", "output=1"]),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "arguments, error, parts", ARGUMENTS.values(), ids=ARGUMENTS
)
def test_arguments_out_of_range(model, arguments, error, parts):
    with raises(error, *parts):
        explain.grad_cam(model, X, **arguments)


def _dense():
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(3)(inputs))


def _flattened():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs)))


def _map_out():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, conv(4, "conv")(inputs), name="body")


def _two_paths():
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "main")(inputs)
    return keras.Model(
        inputs, [head(x), head(conv(4, "aside")(inputs), "other")]
    )


def _same_names():
    def body(name):
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, conv(3, "conv")(inputs), name=name)

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, head(body("second")(body("first")(inputs))))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


MODELS = {
    "no positions": (
        _flattened,
        X,
        {},
        ["feature map with positions", "(None, 192)", "convolutional"],
    ),
    "vectors": (
        _dense,
        images(2, 8),
        {},
        ["feature map with positions", "(None, 3)"],
    ),
    "no classes": (_map_out, X, {}, ["(B, classes)", "(None, 8, 8, 4)"]),
    "several outputs": (
        _two_paths,
        X,
        {},
        ["which output", "output=None", "predictions, other"],
    ),
    "another path": (
        _two_paths,
        X,
        {"layer": "aside", "output": 0},
        ["lead to the output", "'aside'"],
    ),
    "ambiguous": (
        _same_names,
        X,
        {"layer": "conv"},
        ["one layer", '"first/conv", "second/conv"'],
    ),
    "several inputs": (
        several_inputs_and_outputs,
        X,
        {},
        ["one input", "with 3"],
    ),
    "subclassed": (Subclassed, X, {}, ["functional", "Subclassed"]),
    "not built": (
        lambda: keras.Sequential([layers.Conv2D(3, 3)]),
        X,
        {},
        ["shape of its input", "keras.Input"],
    ),
}


@pytest.mark.parametrize(
    "build, x, arguments, parts", MODELS.values(), ids=MODELS
)
def test_models_that_cannot_be_explained(build, x, arguments, parts):
    with raises(ValueError, *parts):
        explain.grad_cam(build(), x, **arguments)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_model(function):
    with raises(TypeError, "keras.Model", "Received"):
        function("model.keras", X)


def test_a_model_without_attention():
    with raises(ValueError, "attention layers", '"plain"', "insert_attention"):
        explain.attention_maps(tiny(None, name="plain"), X)


HEAT = np.ones((2, 4, 5))
BOXES = np.array([[0, 0, 4, 5], [1, 1, 2, 2]])
GAMES = {
    "one map": (HEAT[0], BOXES, ["(B, H, W)", "(4, 5)"]),
    "below 0": (-HEAT, BOXES, ["not negative", "-1.0"]),
    "not finite": (HEAT * np.nan, BOXES, ["finite"]),
    "too few boxes": (HEAT, BOXES[:1], ["(2, 4)", "(1, 4)"]),
    "empty box": (HEAT, BOXES[:, [2, 1, 0, 3]], ["y_min", "4 x 5"]),
    "outside": (HEAT, BOXES + 1, ["within", "[1, 1, 5, 6]"]),
}


@pytest.mark.parametrize("heat, boxes, parts", GAMES.values(), ids=GAMES)
def test_boxes_that_do_not_belong_to_the_maps(heat, boxes, parts):
    with raises(ValueError, *parts):
        explain.pointing_game(heat, boxes)
