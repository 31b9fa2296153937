"""What cannot be explained is reported before anything is computed."""

import re

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from insertion_checks import conv, head, several_inputs_and_outputs
from keras import layers, ops

from cbam_keras import explain

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


def raises(error, text):
    """Expects an error with the parts of a text, in their order."""
    parts = map(re.escape, text.split(" ... "))
    return pytest.raises(error, match="(?s)" + ".*".join(parts))


IMAGES = [
    (X[:0], ValueError, "not be empty ... images.shape=(0, 8, 8, 3)"),
    (X.astype(str), TypeError, "array of numbers ... <U"),
    (X[0], ValueError, "(B, 8, 8, 3) ... (8, 8, 3) ... [None]"),
    (X[..., 0], ValueError, "(B, 8, 8, 3) ... [..., None]"),
    (X[:, :7], ValueError, "(2, 7, 8, 3) ... image.resize"),
    (np.moveaxis(X, -1, 1), ValueError, "np.transpose(images, (0, 2, 3, 1))"),
    ("cat.jpg", TypeError, "array of numbers ... load_img"),
    (X > 0, TypeError, "numbers ... bool"),
    (X + 1j, TypeError, "numbers ... complex64"),
    ([X[0], X[0, :4]], TypeError, "numbers ... list"),
    (iter([X]), TypeError, "numbers ... next(iter(dataset))"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("given", "error", "text"), IMAGES)
def test_images_that_no_model_takes_are_refused(model, given, error, text):
    with raises(error, text):
        explain.grad_cam(model, given)


def _rescaling(scale=1 / 255, **options):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale, **options)(inputs)
    return keras.Model(inputs, head(conv(4, "conv")(x)), name="scaling")


def _sequential(*parts):
    return keras.Sequential([keras.Input((8, 8, 3)), *parts])


@pytest.mark.parametrize(
    "model",
    [
        _rescaling(1 / 127.5, offset=-1),
        _sequential(_rescaling()),
        _sequential(
            keras.Sequential([layers.RandomFlip("horizontal")]), _rescaling()
        ),
    ],
    ids=["around 0", "nested", "after augmentation"],
)
# Of NumPy, when Keras converts tensors of PyTorch.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_range_of_models_that_scale_is_checked(model):
    function = explain.class_probabilities
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    function(model, bytes_)
    function(model, bytes_.astype("float32"))
    for wrong in (bytes_ - 127.0, 255.0 * bytes_):
        with raises(ValueError, "[0, 255] ... scales itself"):
            function(model, wrong)
    with pytest.warns(UserWarning, match="division by 255"):
        function(model, bytes_ / 255)


def test_other_models_take_any_range(model):
    explain.grad_cam(model, X * 1000)


ARGUMENTS = [
    ({"class_index": 5}, "from 0 to 4 ... 5 classes ... class_index=5"),
    ({"class_index": -1}, "from 0 to 4"),
    ({"class_index": [1, 2, 3]}, "one per image ... 2 here"),
    ({"class_index": "cat"}, "integer ... 'cat'"),
    ({"class_index": 1.5}, "integer"),
    ({"class_index": True}, "integer"),
    (
        {"layer": "stage2_block1_con1"},
        "'stage2_block1_con1' ... stage2_block1_out ... Did you mean "
        '"stage2_block1_conv1"',
    ),
    (
        {"layer": "predictions"},
        "feature map with positions ... (None, 5) ... stage2_block1_out",
    ),
    (
        {"layer": layers.Conv2D(4, 3, name="elsewhere")},
        'layer of the model ... "elsewhere"',
    ),
    ({"method": "gradcam"}, "\"grad_cam\" ... 'gradcam' ... Did you mean"),
    ({"batch_size": 0}, "positive ... batch_size=0"),
    ({"output": "prediction"}, "\"predictions\" ... 'prediction'"),
    ({"output": 1}, "below 1 ... output=1"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("arguments", "text"), ARGUMENTS)
def test_arguments_out_of_range_are_refused(model, arguments, text):
    with raises(ValueError, text):
        explain.grad_cam(model, X, **arguments)


def test_functions_must_return_a_score_per_image(model):
    with raises(ValueError, "of shape (B,) ... a function that returns (2, 5)"):
        explain.grad_cam(model, X, lambda y: y)
    # Of all images, where there is one in the batch.
    with raises(ValueError, "returns (2,) ... `batch_size` that holds all"):
        explain.grad_cam(
            model, X, lambda y: ops.stack([y[0, 0]] * 2), batch_size=1
        )


def _functional(body, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, body(inputs))


def _two_paths(x):
    return [
        head(conv(4, "main")(x)),
        head(conv(4, "aside")(x), "other"),
    ]


def _same_names(x):
    for name in ("first", "second"):
        x = keras.Sequential([conv(3, "conv")], name=name)(x)
    return head(x)


class Transposed(layers.Layer):
    def call(self, inputs):
        return ops.transpose(inputs, (0, 2, 3, 1))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


MODELS = {
    "no positions": (
        lambda: _functional(lambda x: layers.Dense(3)(layers.Flatten()(x))),
        {},
        "feature map with positions ... (None, 192) ... convolutional",
    ),
    "axes that cannot be followed": (
        lambda: _functional(
            lambda x: head(conv(4, "conv")(Transposed()(x))), (3, 8, 8)
        ),
        {"images": np.moveaxis(X, -1, 1)},
        "layers.Permute",
    ),
    "no classes": (
        lambda: _functional(conv(4, "conv")),
        {},
        "(B, classes) ... (None, 8, 8, 4) ... a function of the output",
    ),
    "several outputs": (
        lambda: _functional(_two_paths),
        {},
        "which output ... output=None ... predictions, other",
    ),
    "another path": (
        lambda: _functional(_two_paths),
        {"layer": "aside", "output": 0},
        "lead to the output ... 'aside'",
    ),
    "ambiguous": (
        lambda: _functional(_same_names),
        {"layer": "conv"},
        'one layer ... "first/conv", "second/conv"',
    ),
    "several inputs": (several_inputs_and_outputs, {}, "one input ... with 3"),
    "subclassed": (Subclassed, {}, "functional ... Subclassed"),
    "not built": (
        lambda: keras.Sequential([layers.Conv2D(3, 3)]),
        {},
        "shape of its input ... keras.Input",
    ),
}


@pytest.mark.parametrize("build, given, text", MODELS.values(), ids=MODELS)
def test_models_that_cannot_be_explained_are_refused(build, given, text):
    with raises(ValueError, text):
        explain.grad_cam(build(), **{"images": X, **given})


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "function",
    [explain.grad_cam, explain.class_probabilities, explain.attention_maps],
)
def test_each_function_checks_model_and_images(model, function):
    with raises(TypeError, "keras.Model ... Received"):
        function("model.keras", X)
    with raises(ValueError, "(B, 8, 8, 3) ... (8, 8, 3)"):
        function(model, X[0])


def test_layers_of_another_type_and_models_without_attention_are_refused(model):
    with raises(TypeError, "name of a layer ... layer=3"):
        explain.grad_cam(model, X, layer=3)
    with raises(
        ValueError, 'attention layers ... "plain" ... insert_attention'
    ):
        explain.attention_maps(tiny(None, name="plain"), X)
