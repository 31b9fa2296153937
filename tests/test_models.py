"""What networks share: signatures, preprocessing and feature pyramids."""

import inspect

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import random_input, randomize, to_numpy

from cbam_keras import models

SHARED = {
    "include_top": True,
    "weights": None,
    "input_tensor": None,
    "input_shape": None,
    "pooling": None,
    "classes": 1000,
    "classifier_activation": "softmax",
    "attention": None,
    "stem": "imagenet",
    "downsample_in": "3x3",
}
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])


def test_builders_have_the_same_arguments():
    builders = [
        getattr(models, name)
        for name in models.__all__
        if name[0].isupper() and name != "ResNet"
    ]
    assert len(builders) == 9
    for builder in builders:
        found = list(inspect.signature(builder).parameters.values())
        assert [(p.name, p.default) for p in found[:10]] == [*SHARED.items()]
        # As in keras.applications, the first seven may be positional.
        positional = [p.kind == p.POSITIONAL_OR_KEYWORD for p in found]
        assert positional == [True] * 7 + [False] * (len(found) - 7)
        assert found[-1].name == "name"
        assert found[-1].default == builder.__name__.lower()


def test_an_unknown_argument_is_named_with_the_builder():
    with pytest.raises(TypeError, match=r"ResNeXt50\(\) got .*'clases'"):
        models.ResNeXt50(clases=10)


def pixels(shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (2, 7, 5, 3)], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_preprocessing_equals_the_formula(dtype, shape, data_format):
    images = pixels(shape, dtype)
    expected = (images / 255.0 - MEAN) / DEVIATION
    if data_format == "channels_first":
        images, expected = (
            np.moveaxis(array, -1, -3) for array in (images, expected)
        )
    before = images.copy()
    array = models.preprocess_input(images, data_format)
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    # float32 keeps 7 digits of numbers up to 2.6.
    np.testing.assert_allclose(array, expected, atol=1e-6)
    np.testing.assert_array_equal(images, before)
    tensor = models.preprocess_input(ops.convert_to_tensor(images), data_format)
    assert ops.is_tensor(tensor)
    np.testing.assert_allclose(to_numpy(tensor), expected, atol=1e-6)
    keras.config.set_image_data_format(data_format)
    np.testing.assert_array_equal(models.preprocess_input(images), array)


def test_preprocessing_works_inside_a_model():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(inputs, models.preprocess_input(inputs))
    images = pixels((2, 7, 5, 3))
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        models.preprocess_input(images),
        atol=1e-6,
    )


def test_preprocessing_runs_in_tf_data():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data gives tensors of TensorFlow alone")
    import tensorflow as tf

    images = pixels((4, 7, 5, 3))
    batches = tf.data.Dataset.from_tensor_slices(images).map(
        models.preprocess_input
    )
    np.testing.assert_allclose(
        np.stack(list(batches.as_numpy_iterator())),
        models.preprocess_input(images),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "images, data_format, error, message",
    [
        (np.zeros((7, 5, 4)), None, ValueError, "`images` must be one RGB"),
        (
            np.zeros((7, 5, 3)),
            "channels_first",
            ValueError,
            "`images` must be one RGB image or a batch, with 3 .* axis -3",
        ),
        (np.zeros((7, 3)), None, ValueError, "`images` must be one RGB"),
        (np.zeros((7, 5, 3)), "last", ValueError, "`data_format` must be one"),
        ([[[0, 0, 0]]], None, TypeError, "`images` must be an array"),
    ],
    ids=["channels", "axis", "rank", "format", "list"],
)
def test_preprocessing_refuses_what_is_no_image(
    images, data_format, error, message
):
    with pytest.raises(error, match=message):
        models.preprocess_input(images, data_format)


def tiny(depths=(2, 1), **options):
    return networks.resnet(depths, attention="cbam", **options)


def tiny_mobilenet(**options):
    return models.MobileNet(
        alpha=0.125, stem="small", input_shape=(16, 16, 3), **options
    )


@pytest.mark.parametrize(
    "build, names",
    [
        (tiny, ["stage1_block2_out", "stage2_block1_out"]),
        (
            tiny_mobilenet,
            [
                "stage1_block1_out",
                "stage2_block2_out",
                "stage3_block2_out",
                "stage4_block6_out",
                "stage5_block2_out",
            ],
        ),
        # As text, block 10 would come before block 9.
        (
            lambda: tiny((10, 1), include_top=False),
            ["stage1_block10_out", "stage2_block1_out"],
        ),
    ],
    ids=["resnet", "mobilenet", "ten blocks"],
)
def test_pyramid_gives_the_last_output_of_each_stage(build, names):
    model = build()
    found = models.pyramid(model).output
    assert [id(x) for x in found] == [
        id(model.get_layer(name).output) for name in names
    ]


def test_pyramid_predicts_with_the_weights_of_the_model():
    model = tiny()
    pyramid = models.pyramid(model)
    randomize(model)
    x = random_input((2, 8, 8, 3))
    large, small = pyramid.predict(x, verbose=0)
    assert large.shape == (2, 8, 8, 4)
    head = model.get_layer("predictions")
    np.testing.assert_allclose(
        model.predict(x, verbose=0),
        to_numpy(head(small.mean(axis=(1, 2)))),
        atol=1e-5,
    )


def test_pyramid_of_a_copy_with_other_layers_between():
    copy = keras.models.clone_model(
        tiny(),
        call_function=lambda layer, *args, **kwargs: layers.ReLU()(
            layer(*args, **kwargs)
        ),
    )
    shapes = models.pyramid(copy).output_shape
    assert shapes == [(None, 8, 8, 4), (None, 4, 4, 8)]


def test_pyramid_starts_from_the_source_of_an_input_tensor():
    inputs = keras.Input((8, 8, 3), name="pixels")
    scaled = layers.Rescaling(1 / 255)(inputs)
    pyramid = models.pyramid(tiny(input_tensor=scaled, input_shape=None))
    assert pyramid.inputs[0] is inputs


def test_pyramid_needs_a_model_with_stages():
    nested = keras.Sequential([tiny(), layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must have layers named"):
        models.pyramid(nested)
    with pytest.raises(TypeError, match="must be a keras.Model"):
        models.pyramid(layers.Dense(3))
