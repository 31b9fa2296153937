"""Whether a layer does what Keras expects: arguments, saving, precision."""

import contextlib
import os
import pathlib
import tempfile

import keras
import numpy as np
from keras import ops

from cbam_keras import _inspection
from cbam_keras.auditing import layer_under_test as tested
from cbam_keras.auditing.layer_under_test import LayerUnderTest
from cbam_keras.auditing.results import Findings, first_line


def check_configuration(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether `get_config` and `from_config` make an equal layer."""
    with findings.errors_as("not_copied"):
        missing = tested.missing_arguments(layer.layer)
        equal = layer.equals(tested.copy_of(layer.layer))
        if missing:
            findings.add("missing_arguments", names=", ".join(missing))
        if not equal:
            findings.add("other_copy")


def check_saving(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether a model with the layer loads and predicts the same."""
    try:
        copy = LayerUnderTest(tested.copy_of(layer.layer), layer.shape)
    except Exception:
        # Reported by the check of the configuration.
        return
    weights = copy.random_weights(biases=True)
    for weight, value in zip(copy.weights, weights, strict=True):
        weight.assign(value)
    x = copy.to_tensor(copy.x)
    before = copy.to_array(copy.layer(x))
    inputs = keras.Input(x.shape[1:])
    with (
        findings.errors_as("not_loaded"),
        tempfile.TemporaryDirectory() as folder,
    ):
        path = pathlib.Path(folder) / "model.keras"
        keras.Model(inputs, copy.layer(inputs)).save(path)
        try:
            model = keras.saving.load_model(path, compile=False)
        except Exception:
            classes = map(type, _inspection.layers_within(copy.layer))
            objects = {kind.__name__: kind for kind in classes}
            model = keras.saving.load_model(path, objects, compile=False)
            findings.add("not_registered")
        if not tested.same(copy.to_array(model(x)), before):
            findings.add("other_loaded")


def check_arguments(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds arguments that do nothing, or not what they say."""
    channels, width = layer.shape[-1], findings.facts.get("hidden_units")
    window = findings.facts.get("window")
    arguments = tested.arguments_of(layer.layer) | layer.factory.arguments
    numbers = {
        name: value
        for name, value in arguments.items()
        if type(value) in (int, float) and value > 0 and "seed" not in name
        # The number of channels, which the features have anyway.
        if value != channels
    }
    # An argument that is the width itself takes the place of the ratio.
    replaced = width is not None and any(
        value == width and not tested.is_ratio(name) and "kernel" not in name
        for name, value in numbers.items()
    )
    for name, value in numbers.items():
        is_ratio = tested.is_ratio(name)
        if is_ratio and replaced:
            continue
        others = [value // 2 or 2, 2 * value, value + 1]
        if "kernel" in name:
            others = [value + 2, max(1, value - 2)]
        elif isinstance(value, float):
            # Others, as epsilon and momentum, change too little to be seen.
            others = [2 * value, value / 2] if is_ratio else []
        changes = [{name: other} for other in others]
        if others and not any(_has_effect(layer, one) for one in changes):
            values = {"value": value, "other": others[0]}
            findings.add("idle_argument", name=name, **values)
        if is_ratio and width is not None:
            fitting = tested.widths(channels, value)
            if width not in fitting.values():
                findings.add(
                    "other_width",
                    ratio=f"{name}={value!r}",
                    width=width,
                    channels=channels,
                    expected=fitting["rounded"],
                )
        if name == "kernel_size" and window not in (None, (value, value)):
            findings.add("other_window", value=value, window=window)


def _has_effect(layer, change):
    try:
        return not layer.equals(layer.changed(**change))
    except Exception:
        # Other weights, or a value that does not fit these features.
        return True


def check_unknown_size(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether a model may leave height and width open."""
    channels = layer.shape[-1]
    shape: tuple = (None, None, channels)
    if layer.channels_first:
        shape = (channels, None, None)
    with findings.errors_as("known_size"):
        outputs = layer.factory.make(channels)(keras.Input(shape))
        if tuple(outputs.shape[1:]) != shape:
            findings.add("known_size", error=f"it returns {outputs.shape}")


def check_mixed_precision(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether the layer computes in half precision under a policy."""
    with (
        findings.errors_as("mixed_precision"),
        _inspection.dtype_policy("mixed_float16"),
    ):
        copy = layer.factory.make(layer.shape[-1])
        # The layers of a model keep their dtype when it is copied.
        fixed = isinstance(layer.factory.instance, keras.Model)
        if fixed or copy.compute_dtype != "float16":
            return findings.add("fixed_dtype")
        with _quiet_kernels():
            half = LayerUnderTest(copy, layer.shape)
            weights = half.random_weights(biases=True)
            y = half.call(half.to_tensor(half.x), weights)
        dtype = keras.backend.standardize_dtype(y.dtype)
        if dtype != "float16":
            findings.add("mixed_dtype", dtype=dtype)
        if not np.isfinite(half.to_array(y)).all():
            findings.add("not_finite", kinds="the dtype policy mixed_float16")


@contextlib.contextmanager
def _quiet_kernels():
    """Discards lines such as "oneDNN supports DT_HALF only on ..."."""
    try:
        # TensorFlow writes them past Python's `sys.stderr`.
        stderr = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def check_data_format(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether both data formats agree, if the layer takes them."""
    if "data_format" not in tested.arguments_of(layer.layer):
        return
    other = "channels_last" if layer.channels_first else "channels_first"
    try:
        if not layer.equals(layer.changed(data_format=other)):
            findings.add("data_formats_differ", other=other)
    except Exception as error:
        # TensorFlow's convolutions of this kind need a GPU.
        unable = "NHWC" in str(error) or "OpKernel" in str(error)
        if unable and keras.config.backend() == "tensorflow":
            findings.add("needs_gpu", other=other)
        else:
            line = first_line(error)
            findings.add("data_format_fails", other=other, error=line)


def check_gradients(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds whether gradients reach the input and each weight."""
    # Not at the top: the package is to be imported without it.
    from cbam_keras.explain import gradient_at

    x = ops.convert_to_numpy(layer.to_tensor(layer.x))
    arrays = [x, *layer.random_weights(biases=True)]
    # Of the sign of the input, so that the gates' derivatives add up.
    weighting = np.abs(np.random.default_rng(0).normal(size=x.shape))
    weighting = (weighting * np.sign(x)).astype("float32")

    def gradient(index):
        def run(watch):
            tensors = [ops.convert_to_tensor(array) for array in arrays]
            tensors[index] = watch(tensors[index])
            output = layer.call(tensors[0], tensors[1:])
            score = ops.sum(output * ops.convert_to_tensor(weighting))
            return score, tensors[index]

        _, value = gradient_at(run, arrays[index].shape)
        return ops.convert_to_numpy(value).astype("float64")

    def weighted_output(shift):
        shifted = ops.convert_to_tensor(x + np.float32(shift))
        output = ops.convert_to_numpy(layer.call(shifted, arrays[1:]))
        return (output.astype("float64") * weighting).sum()

    by_input, *by_weights = map(gradient, range(len(arrays)))
    if not all(np.isfinite(value).all() for value in (by_input, *by_weights)):
        return findings.add("infinite_gradients")
    pairs = zip(layer.weights, by_weights, strict=True)
    idle = [weight.name for weight, value in pairs if not value.any()]
    if idle:
        findings.add("no_gradient", names=", ".join(idle))
    # Both pools follow such a shift. A long one may cross a kink, such as that
    # of a ReLU, and a short one suffers from rounding.
    steps = np.array([1e-2, 1e-3])
    up, down = (
        np.array([weighted_output(sign * step) for step in steps])
        for sign in (1, -1)
    )
    expected = (up - down) / (2 * steps)
    rounding = 1e-2 * np.abs(expected) + 5e-4 * np.abs(by_input).sum()
    if all(np.abs(by_input.sum() - expected) > rounding):
        findings.add("cut_gradient")
