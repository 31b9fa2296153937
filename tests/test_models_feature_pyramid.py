"""The model of the feature maps of each stage."""

import functools

import keras
import networks
import numpy as np
import pytest
from keras import layers
from layer_checks import random_input, randomize, to_numpy

from cbam_keras import models

# Two stages, of two blocks and of one.
tiny = functools.partial(networks.resnet, (2, 1), attention="cbam")


def tiny_mobilenet(**options):
    return models.MobileNet(
        alpha=0.125, stem="small", input_shape=(16, 16, 3), **options
    )


@pytest.mark.every_backend
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
    ],
    ids=["resnet", "mobilenet"],
)
@pytest.mark.parametrize("include_top", [True, False])
def test_pyramid_gives_the_last_output_of_each_stage(build, names, include_top):
    model = randomize(build(include_top=include_top))
    pyramid = models.pyramid(model)
    x = random_input((2, *model.input_shape[1:]))
    found = pyramid.predict(x, verbose=0)
    assert isinstance(found, list)
    expected = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    assert len(found) == len(names)
    for one, other in zip(found, expected.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pyramid_shares_the_weights():
    model = tiny()
    pyramid = models.pyramid(model)
    model.get_layer("stem_conv").kernel.assign(np.zeros((3, 3, 3, 4)))
    assert not to_numpy(pyramid.get_layer("stem_conv").kernel).any()


def test_pyramid_orders_blocks_by_number():
    # As text, block 10 would come before block 9.
    model = models.ResNet(
        (10, 1),
        block="basic",
        widths=(4, 8),
        stem_width=4,
        stem="small",
        input_shape=(8, 8, 3),
    )
    first = models.pyramid(model).output[0]
    assert first is model.get_layer("stage1_block10_out").output


def test_pyramid_of_a_copy_with_other_layers_between():
    model = tiny()
    copy = keras.models.clone_model(
        model,
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
    assert len(pyramid.predict(random_input((2, 8, 8, 3)), verbose=0)) == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
        lambda: keras.Sequential([tiny(), layers.Dense(2)]),
    ],
    ids=["other layers", "network inside"],
)
def test_pyramid_needs_stages(build):
    with pytest.raises(ValueError, match="`model` must have layers named"):
        models.pyramid(build())


def test_pyramid_takes_models():
    with pytest.raises(TypeError, match="must be a keras.Model"):
        models.pyramid(keras.layers.Dense(3))
