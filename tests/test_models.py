"""What networks share: signatures, preprocessing and feature pyramids."""

import inspect

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import assert_close, to_numpy

from cbam_keras import models

MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
POSITIONAL = (
    "include_top weights input_tensor input_shape pooling classes "
    "classifier_activation"
)


def test_builders_have_the_same_arguments():
    builders = [
        getattr(models, name)
        for name in models.__all__
        if name[0].isupper() and name not in ("ResNet", "UNet")
    ]
    assert len(builders) == 11
    for builder in builders:
        found = list(inspect.signature(builder).parameters.values())
        assert [p.name for p in found[:7]] == POSITIONAL.split()
        assert [p.default for p in found[7:10]] == [None, "all", "imagenet"]
        # Only residual blocks have a choice.
        is_residual = builder.__module__.endswith("residual_networks")
        assert (found[10].name == "downsample_in") == is_residual
        assert not is_residual or found[10].default == "3x3"
        # The first seven may be positional in keras.applications, too.
        positional = [p.kind == p.POSITIONAL_OR_KEYWORD for p in found]
        assert positional == [True] * 7 + [False] * (len(found) - 7)
        assert found[-1].name == "name"
        assert found[-1].default == builder.__name__.lower()


def pixels(shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    "dtype, shape, data_format",
    [
        ("uint8", (7, 5, 3), "channels_last"),
        ("float64", (2, 7, 5, 3), "channels_first"),
    ],
    ids=["image", "batch"],
)
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
    expected = models.preprocess_input(images)
    assert_close(model.predict(images, verbose=0), expected, 1e-6)


def tiny(depths=(2, 1), **options):
    return networks.resnet(depths, attention="cbam", **options)


def test_pyramid_gives_the_last_output_of_each_stage():
    # Block 10 as a text would come before block 9.
    model = tiny((10, 1), include_top=False)
    pyramid = models.pyramid(model)
    last = ("stage1_block10_out", "stage2_block1_out")
    assert [id(x) for x in pyramid.output] == [
        id(model.get_layer(name).output) for name in last
    ]
    assert pyramid.inputs[0] is model.inputs[0]


def test_a_network_starts_from_the_source_of_an_input_tensor():
    inputs = keras.Input((8, 8, 3), name="pixels")
    scaled = layers.Rescaling(1 / 255)(inputs)
    assert tiny(input_tensor=scaled, input_shape=None).inputs[0] is inputs
