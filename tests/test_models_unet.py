"""U-Net on any encoder, against one written by hand."""

import functools

import keras
import numpy as np
import pytest
from insertion_checks import conv, vary
from keras import layers
from layer_checks import random_input, to_numpy
from networks import resnet, without_values

from cbam_keras import CBAM, SqueezeExcite, explain, insert_attention, models


def encoder(rank=2, shape=None, padding="same", **pool):
    """A network of three resolutions, with a classifier."""
    inputs = x = keras.Input(shape or (None,) * rank + (2,))
    for level, filters in enumerate((3, 4, 5), 1):
        if level > 1:
            x = getattr(layers, f"MaxPooling{rank}D")(2, padding=padding)(x)
        x = getattr(layers, f"Conv{rank}D")(
            filters, 3, padding="same", activation="relu", name=f"level{level}"
        )(x)
    x = getattr(layers, f"GlobalAveragePooling{rank}D")()(x)
    return keras.Model(inputs, layers.Dense(7, name="classifier")(x))


def by_hand(size, padding):
    """The U-Net of `encoder` for images of one size, of stock layers."""
    x = inputs = keras.Input((*size, 2))
    skips = []
    for level, filters in enumerate((3, 4, 5), 1):
        if level > 1:
            x = layers.MaxPooling2D(2, padding=padding)(x)
        x = conv(filters, f"level{level}", activation="relu")(x)
        skips.append(x)
    for stage, (skip, width) in enumerate([(skips[1], 6), (skips[0], 4)], 1):
        name = f"decoder_stage{stage}"
        x = layers.UpSampling2D(2)(x)
        # One row or column too many, or too few.
        borders = [x.shape[axis] - skip.shape[axis] for axis in (1, 2)]
        x = layers.Cropping2D([(0, max(0, n)) for n in borders])(x)
        x = layers.ZeroPadding2D([(0, max(0, -n)) for n in borders])(x)
        skip = SqueezeExcite(2, name=f"{name}_skip_attention")(skip)
        x = layers.Concatenate()([x, skip])
        for number in (1, 2):
            x = conv(width, f"{name}_conv{number}", use_bias=False)(x)
            x = layers.BatchNormalization(
                epsilon=1e-5, name=f"{name}_bn{number}"
            )(x)
            x = layers.ReLU()(x)
        x = CBAM(2, kernel_size=3, name=f"{name}_attention")(x)
    x = conv(3, "logits", size=1)(x)
    return keras.Model(inputs, layers.Softmax()(x))


OPTIONS = {
    "classes": 3,
    "attention": functools.partial(CBAM, 2, kernel_size=3),
    "skip_attention": functools.partial(SqueezeExcite, 2),
    "decoder_widths": (6, 4),
}


@pytest.mark.parametrize(
    "size, padding",
    [
        ((8, 12), "same"),
        pytest.param((5, 6), "valid", marks=pytest.mark.exhaustive),
        ((7, 9), "same"),
        ((7, 9), "valid"),
    ],
)
def test_it_is_the_network_written_by_hand(size, padding):
    reference = vary(by_hand(size, padding))
    x = random_input((2, *size, 2))
    expected = to_numpy(reference(x))
    # Sizes may be unknown until the model is called.
    for shape in ((*size, 2), (None, None, 2)):
        model = models.UNet(encoder(shape=shape, padding=padding), **OPTIONS)
        assert model.output_shape == (None, *shape[:2], 3)
        for layer in reference.layers:
            if layer.weights:
                weights = layer.get_weights()
                model.get_layer(layer.name).set_weights(weights)
        assert len(model.weights) == len(reference.weights)
        for found in (to_numpy(model(x)), model.predict(x, verbose=0)):
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("size", [(13,), (6, 7), (6, 7, 5)])
def test_signals_and_volumes_in_both_data_formats(size, data_format):
    if "first" in data_format and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolutions on a CPU")
    x, rank = random_input((2, *size, 2)), len(size)
    model = vary(models.UNet(encoder(rank), **OPTIONS))
    expected = model.predict(x, verbose=0)
    assert expected.shape == (2, *size, 3)
    shape = (*size, 2)
    if data_format == "channels_first":
        keras.config.set_image_data_format(data_format)
        x, shape = np.moveaxis(x, -1, 1), (2, *size)
    fixed = models.UNet(encoder(rank, shape), **OPTIONS)
    assert fixed.output_shape == (None, *size, 3)
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(to_numpy(fixed(x)), expected, atol=1e-5)


CONVNEXT = "convnext_tiny_downsampling_layernorm_"


@pytest.mark.parametrize(
    "name, skips",
    [
        ("MobileNetV2", [f"block_{i}_expand_relu" for i in (13, 6, 3, 1)]),
        ("InceptionV3", ["mixed7", "mixed2", "activation_4", "activation_2"]),
        ("ConvNeXtTiny", [f"{CONVNEXT}{i}" for i in (2, 1, 0)]),
        ("VGG16", ["block4_conv3", "block3_conv3", "block2_conv2"]),
    ],
)
def test_skips_are_the_last_outputs_of_keras_applications(name, skips):
    keras.utils.clear_session()
    with without_values():
        network = getattr(keras.applications, name)(
            weights=None, input_shape=(75, 75, 3), include_top=False
        )
        model = models.UNet(network, 2)
    assert model.output_shape == (None, 75, 75, 2)
    skipped = [
        model.get_layer(f"decoder_stage{stage}_up").input[1]
        for stage in range(1, len(skips) + 1)
    ]
    assert [x._keras_history.operation.name for x in skipped] == skips


def test_layers_have_stable_names():
    network = resnet(
        (1, 1), stem="imagenet", input_shape=(16, 16, 3), include_top=False
    )
    model = models.UNet(network, 2, attention="cbam", skip_attention="se")
    block = "up conv1 bn1 relu1 conv2 bn2 relu2 attention".split()
    expected = [f"decoder_stage{i}_{part}" for i in (1, 2, 3) for part in block]
    # The last block leads from the first stride to the size of the images.
    for stage in ("decoder_stage1", "decoder_stage2"):
        expected += [f"{stage}_skip_attention", f"{stage}_concat"]
    added = {x.name for x in model.layers} - {x.name for x in network.layers}
    assert added == {*expected, "logits", "predictions"}
    convs = [model.get_layer(f"decoder_stage{i}_conv2") for i in (1, 2, 3)]
    assert [layer.filters for layer in convs] == [64, 32, 16]


def test_it_shares_the_layers_of_the_encoder():
    network = encoder()
    model = models.UNet(network, 2)
    assert network.get_layer("level1") in model.layers
    assert network.get_layer("classifier") not in model.layers
    network.trainable = False
    decoder = [x for x in model.layers if x not in network.layers]
    expected = sum((x.trainable_weights for x in decoder), [])
    assert [id(x) for x in model.trainable_weights] == [*map(id, expected)]
    # The encoder is as it was.
    assert network.get_layer("level2").output.shape[-1] == 4


# Keras 3.10 loads the one input of some models as a list of one.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
@pytest.mark.half_precision
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_it_is_saved_looked_into_and_takes_more_attention(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = vary(models.UNet(encoder(), **OPTIONS))
    assert model.outputs[0].dtype == "float32"
    x = random_input((2, 7, 6, 2))
    model.save(tmp_path / "unet.keras")
    loaded = keras.saving.load_model(tmp_path / "unet.keras")
    expected = to_numpy(model(x))
    np.testing.assert_array_equal(to_numpy(loaded(x)), expected)
    more = insert_attention(loaded, "cbam", after=r"level\d")
    assert len(more.layers) == len(model.layers) + 3
    np.testing.assert_array_equal(to_numpy(more(x)), expected)
    maps = explain.attention_maps(more, x)
    assert maps["decoder_stage2_attention"][1].shape == (2, 7, 6)
    assert maps["decoder_stage1_skip_attention"][0].shape == (2, 4)


@pytest.mark.parametrize("shape", [(64, 64, 3), (32, 40, 1)])
def test_without_an_encoder_the_error_shows_a_call_that_works(shape):
    with pytest.raises(
        TypeError, match="needs an `encoder`.*Received"
    ) as raised:
        models.UNet(attention="cbam", input_shape=shape, classes=2)
    call = str(raised.value).partition("Write ")[2]
    with without_values():
        model = eval(call, {"models": models})
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, *shape[:2], 2)
    assert isinstance(model.get_layer("decoder_stage1_attention"), CBAM)


def test_other_mistakes_without_an_encoder_have_the_same_answer():
    with pytest.raises(TypeError, match="Received: no arguments. Write"):
        models.UNet()
    # A class has no text that could be copied into the call.
    with pytest.raises(TypeError, match=r"Write [^<]*classes=3\)$"):
        models.UNet(attention=CBAM, classes=3)
    # A misspelled argument is the first thing to mend.
    with pytest.raises(TypeError, match='Did you mean "attention"'):
        models.UNet(attension="se")
