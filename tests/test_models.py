"""What all networks have in common, their pyramid, and preprocessing."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import random_input, randomize, to_numpy

from cbam_keras import models

BUILDERS = [
    value
    for name, value in vars(models).items()
    if name in models.__all__ and name[0].isupper() and name != "ResNet"
]
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])


def tiny(**options):
    """A network of two stages, of two blocks and of one, for 8 x 8 images."""
    defaults = {
        "block": "basic",
        "widths": (4, 8),
        "stem_width": 4,
        "stem": "small",
        "input_shape": (8, 8, 3),
        "classes": 5,
    }
    return models.ResNet((2, 1), **{**defaults, **options})


def tiny_mobilenet(**options):
    return models.MobileNet(
        alpha=0.125, stem="small", input_shape=(16, 16, 3), **options
    )


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_builders_are_called_alike(builder):
    shared = {
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
    found = list(inspect.signature(builder).parameters.values())
    assert {p.name: p.default for p in found[:10]} == shared
    assert [p.name for p in found[:10]] == list(shared)
    assert {p.kind for p in found[:7]} == {
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert {p.kind for p in found[7:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert found[-1].name == "name"
    assert found[-1].default == builder.__name__.lower()


def test_every_network_is_public():
    assert len(BUILDERS) == 9
    assert all(hasattr(models, name) for name in models.__all__)


def test_an_unknown_argument_is_told_with_the_name_of_the_builder():
    with pytest.raises(TypeError, match=r"ResNeXt50\(\) got .*'clases'"):
        models.ResNeXt50(clases=10)


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
    model = randomize(build(include_top=include_top, attention="cbam"))
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


def pixels(shape, dtype):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


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


def test_preprocessing_stands_inside_a_model():
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


def test_pyramid_takes_models():
    with pytest.raises(TypeError, match="must be a keras.Model"):
        models.pyramid(keras.layers.Dense(3))
