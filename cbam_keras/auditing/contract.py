"""Whether a layer does what Keras expects: arguments, saving, precision."""

import pathlib
import tempfile

import keras
import numpy as np
from keras import ops

from cbam_keras import _inspection
from cbam_keras.auditing import layer_under_test as tested
from cbam_keras.auditing.layer_under_test import LayerUnderTest, is_ratio
from cbam_keras.auditing.results import Findings, first_line


def check_saving(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether a saved model with the layer loads as an equal one."""
    weights = layer.random_weights(biases=True)
    for weight, value in zip(layer.weights, weights, strict=True):
        weight.assign(value)
    x = layer.to_tensor(layer.x)
    inputs = keras.Input(x.shape[1:])
    classes = map(type, _inspection.layers_within(layer.layer))
    objects = {kind.__name__: kind for kind in classes}
    with (
        findings.errors_as("A saved model with the layer does not load"),
        tempfile.TemporaryDirectory() as folder,
    ):
        missing = tested.missing_arguments(layer.layer)
        if missing:
            names = ", ".join(missing)
            findings.departs(f"`get_config` lacks the arguments {names}.")
        path = pathlib.Path(folder) / "model.keras"
        keras.Model(inputs, layer.layer(inputs)).save(path)
        model = keras.saving.load_model(path, objects, compile=False)
        before, after = (layer.to_array(f(x)) for f in (layer.layer, model))
        if not tested.same(after, before):
            findings.departs("A saved model with the layer loads as another.")


def check_arguments(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds arguments that do nothing, or not what they say."""
    channels, size = layer.shape[-1], findings.facts.get("kernel_size")
    width = findings.facts.get("hidden_units")
    arguments = tested.arguments_of(layer.layer) | layer.factory.arguments
    # Floats such as epsilon and momentum change too little to be seen, and the
    # features have the number of channels anyway.
    numbers = {
        name: value
        for name, value in arguments.items()
        if type(value) is int or (type(value) is float and is_ratio(name))
        if value > 0 and value != channels and "seed" not in name
    }
    # An argument that is the width itself takes the place of the ratio.
    replaced = width is not None and any(
        value == width and not is_ratio(name) and "kernel" not in name
        for name, value in numbers.items()
    )
    for name, value in numbers.items():
        if is_ratio(name) and replaced:
            continue
        others = [value // 2 or 2, 2 * value, value + 1]
        if "kernel" in name:
            others = [value + 2, max(1, value - 2)]
        if not any(_has_effect(layer, {name: x}) for x in others):
            findings.departs(f"The argument `{name}` does nothing.")
        if is_ratio(name) and width is not None:
            fitting = tested.widths(channels, value)
            if width not in fitting.values():
                findings.departs(
                    f"With {name}={value!r} the MLP has a width of {width} for "
                    f"{channels} channels, not {fitting['rounded']}."
                )
        if name == "kernel_size" and size not in (None, value):
            findings.departs(f"With kernel_size={value} the kernel has {size}.")


def _has_effect(layer, change):
    try:
        return not layer.is_same_with(**change)
    except Exception:
        # Other weights, or a value that does not fit these features.
        return True


def check_unknown_size(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether a model may leave height and width open."""
    channels = layer.shape[-1]
    shape: tuple = (None, None, channels)
    if layer.channels_first:
        shape = (channels, None, None)
    with findings.errors_as("Height and width must be known in advance"):
        layer.factory.make(channels)(keras.Input(shape))


def check_mixed_precision(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether the layer computes in half precision under a policy."""
    with (
        findings.errors_as("The layer fails in mixed precision"),
        _inspection.dtype_policy("mixed_float16"),
    ):
        half = LayerUnderTest(layer.factory, layer.shape)
        # The layers of a model keep their dtype when it is copied.
        fixed = isinstance(layer.factory.instance, keras.Model)
        if fixed or half.layer.compute_dtype != "float16":
            return findings.skips("Mixed precision: the layer fixes its dtype.")
        y = half.call(half.to_tensor(half.x), half.random_weights(biases=True))
        dtype = keras.backend.standardize_dtype(y.dtype)
        if dtype != "float16":
            findings.departs(f"With mixed_float16 the output is {dtype}.")
        if not np.isfinite(half.to_array(y)).all():
            findings.departs("With mixed_float16 the output is not finite.")


def check_data_format(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether both data formats agree, if the layer takes them."""
    if "data_format" not in tested.arguments_of(layer.layer):
        return
    other = "channels_last" if layer.channels_first else "channels_first"
    try:
        if not layer.is_same_with(data_format=other):
            findings.departs(f'data_format="{other}" gives other outputs.')
    except Exception as error:
        # TensorFlow's convolutions of this kind need a GPU.
        unable = "NHWC" in str(error) or "OpKernel" in str(error)
        if unable and keras.config.backend() == "tensorflow":
            findings.skips(f'data_format="{other}", which needs a GPU.')
        else:
            line = first_line(error)
            findings.departs(f'data_format="{other}" fails ({line}).')


def check_gradients(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether gradients reach the input and each weight."""
    # Not at the top: the package is to be imported without it.
    from cbam_keras.explain import gradient_at

    x = ops.convert_to_numpy(layer.to_tensor(layer.x))
    arrays = [x, *layer.random_weights(biases=True)]
    weighting = np.random.default_rng(0).normal(size=x.shape).astype("float32")

    def gradient(index):
        def run(watch):
            tensors = [ops.convert_to_tensor(array) for array in arrays]
            tensors[index] = watch(tensors[index])
            output = layer.call(tensors[0], tensors[1:])
            score = ops.sum(output * ops.convert_to_tensor(weighting))
            return score, tensors[index]

        _, value = gradient_at(run, arrays[index].shape)
        return ops.convert_to_numpy(value)

    by_input, *by_weights = map(gradient, range(len(arrays)))
    if not all(np.isfinite(value).all() for value in (by_input, *by_weights)):
        findings.departs("Gradients are not finite.")
    for weight, value in zip(layer.weights, by_weights, strict=True):
        if not value.any():
            findings.departs(f"No gradient reaches the weight {weight.name}.")
