"""Preprocessing of images, against its formula."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import to_numpy

from cbam_keras import models

MEAN = np.array([0.485, 0.456, 0.406])


DEVIATION = np.array([0.229, 0.224, 0.225])


def pixels(shape, dtype):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (2, 7, 5, 3)], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_preprocessing_equals_the_formula(dtype, shape, data_format):
    images = pixels(shape, dtype)
    expected = (images / 255.0 - MEAN) / DEVIATION
    if data_format == "channels_first":
        images, expected = (
            np.moveaxis(array, -1, -3) for array in (images, expected)
        )
    array = models.preprocess_input(images, data_format)
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    # float32 keeps 7 digits of numbers up to 2.6.
    np.testing.assert_allclose(array, expected, atol=1e-6)
    tensor = models.preprocess_input(
        ops.convert_to_tensor(images, dtype="float32"), data_format
    )
    assert ops.is_tensor(tensor)
    np.testing.assert_allclose(to_numpy(tensor), expected, atol=1e-6)


def test_preprocessing_leaves_its_input():
    images = pixels((2, 7, 5, 3), "float32")
    before = images.copy()
    models.preprocess_input(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.every_backend
def test_preprocessing_takes_uint8_tensors():
    images = pixels((7, 5, 3), "uint8")
    np.testing.assert_allclose(
        to_numpy(models.preprocess_input(ops.convert_to_tensor(images))),
        models.preprocess_input(images),
        atol=1e-6,
    )


def test_preprocessing_follows_the_global_data_format():
    images = pixels((3, 7, 5), "uint8")
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(
        models.preprocess_input(images),
        models.preprocess_input(images, "channels_first"),
    )


@pytest.mark.every_backend
def test_preprocessing_works_inside_a_model():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(inputs, models.preprocess_input(inputs))
    images = pixels((2, 7, 5, 3), "uint8")
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        models.preprocess_input(images),
        atol=1e-6,
    )


def test_preprocessing_runs_in_tf_data():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data gives tensors of TensorFlow alone")
    import tensorflow as tf

    images = pixels((4, 7, 5, 3), "uint8")
    batches = tf.data.Dataset.from_tensor_slices(images).map(
        models.preprocess_input
    )
    np.testing.assert_allclose(
        np.stack(list(batches.as_numpy_iterator())),
        models.preprocess_input(images),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "shape, data_format",
    [
        ((7, 5, 4), None),
        ((2, 7, 5, 1), None),
        ((3, 7, 5), None),
        ((7, 5, 3), "channels_first"),
        ((7, 3), None),
        ((1, 2, 7, 5, 3), None),
    ],
    ids=str,
)
def test_preprocessing_needs_three_channels(shape, data_format):
    with pytest.raises(ValueError, match="`images` must be one RGB image or"):
        models.preprocess_input(np.zeros(shape), data_format)


def test_preprocessing_needs_a_known_data_format():
    with pytest.raises(ValueError, match="`data_format` must be one of"):
        models.preprocess_input(np.zeros((7, 5, 3)), "last")


def test_preprocessing_needs_an_array():
    with pytest.raises(TypeError, match="`images` must be an array"):
        models.preprocess_input([[[0, 0, 0]]])
