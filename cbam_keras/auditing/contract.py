"""Checks of what layers of Keras do: configuration, saving, precision."""

import pathlib
import tempfile

import keras
import numpy as np
from keras import ops

from cbam_keras import _inspection
from cbam_keras.auditing.makers import (
    Maker,
    changeable,
    copied,
    forgotten,
)
from cbam_keras.auditing.results import Findings, words
from cbam_keras.auditing.subject import Subject, same


def check_configuration(maker: Maker, subject: Subject, found: Findings):
    """Adds whether `get_config` and `from_config` make an equal layer."""
    problem = maker.problem
    layer = subject.layer
    if problem is None:
        try:
            lacking = forgotten(layer)
            again = Subject(copied(layer), subject.shape)
            values = subject.values(biases=True)
            equal = same(
                again.output(again.x, values), subject.output(subject.x, values)
            )
        except Exception as error:
            problem = error
        else:
            if lacking and not isinstance(layer, keras.Model):
                found.departures.append(
                    f"`get_config` lacks the arguments {', '.join(lacking)}, "
                    "so a loaded layer has their defaults."
                )
            if not equal:
                found.departures.append(
                    "The layer that `from_config(get_config())` returns gives "
                    "other outputs with the same weights."
                )
                return
    if problem is not None:
        found.departures.append(
            "`from_config(get_config())` does not return an equal layer "
            f"({words(problem)})."
        )


def check_saving(subject: Subject, found: Findings) -> None:
    """Adds whether a model with the layer loads and predicts the same."""
    try:
        layer = Subject(copied(subject.layer), subject.shape).layer
    except Exception:
        # Reported by the check of the configuration.
        return
    fresh = Subject(layer, subject.shape)
    for weight, value in zip(
        fresh.weights, fresh.values(biases=True), strict=True
    ):
        weight.assign(value)
    x = fresh._tensor(fresh.x)
    inputs = keras.Input(x.shape[1:])
    before = fresh.to_array(layer(x))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        try:
            keras.Model(inputs, layer(inputs)).save(path)
            model = _loaded(path, layer, found)
        except Exception as error:
            found.departures.append(
                f"A saved model with the layer does not load ({words(error)})."
            )
            return
    if not same(fresh.to_array(model(x)), before):
        found.departures.append(
            "A saved model with the layer gives other outputs once loaded."
        )


def check_unknown_size(make, subject: Subject, found: Findings) -> None:
    """Adds whether a model may leave height and width open."""
    height, width, channels = subject.shape
    shape = (channels, None, None) if subject.first else (None, None, channels)
    try:
        inputs = keras.Input(shape)
        outputs = make(channels)(inputs)
        accepted = tuple(outputs.shape[1:]) == shape
        problem = f"it returns {tuple(outputs.shape)}"
    except Exception as error:
        accepted, problem = False, words(error)
    if not accepted:
        found.departures.append(
            f"Height and width must be known in advance ({problem})."
        )


def check_mixed_precision(make, subject: Subject, found: Findings) -> None:
    """Adds whether the layer computes in half precision under a policy."""
    with _inspection.dtype_policy("mixed_float16"):
        layer = make(subject.shape[-1])
        if layer is subject.layer or layer.compute_dtype != "float16":
            found.unchecked.append(
                "Mixed precision, because the layer fixes its dtype."
            )
            return
        try:
            half = Subject(layer, subject.shape)
            values = half.values(biases=True)
            y = half.call(half._tensor(half.x), values)
        except Exception as error:
            found.departures.append(
                f"The layer fails in mixed precision ({words(error)})."
            )
            return
    dtype = keras.backend.standardize_dtype(y.dtype)
    if dtype != "float16":
        found.departures.append(
            f"With the dtype policy mixed_float16 the output is {dtype}, not "
            "float16."
        )
    if not np.isfinite(half.to_array(y)).all():
        found.departures.append(
            "With the dtype policy mixed_float16 the output is not finite."
        )


def check_data_format(make, subject: Subject, found: Findings) -> None:
    """Adds whether both data formats agree, if the layer takes them."""
    if "data_format" not in changeable(subject.layer):
        return
    other = "channels_last" if subject.first else "channels_first"
    try:
        layer = make(subject.shape[-1], data_format=other)
        values = subject.values(biases=True)
        swapped = Subject(layer, subject.shape).output(subject.x, values)
    except Exception as error:
        text = words(error)
        # TensorFlow's convolutions of this kind need a GPU.
        unable = "NHWC" in str(error) or "OpKernel" in str(error)
        if unable and keras.config.backend() == "tensorflow":
            found.unchecked.append(
                f'data_format="{other}", which TensorFlow needs a GPU for.'
            )
        else:
            found.departures.append(f'data_format="{other}" fails ({text}).')
        return
    if not same(swapped, subject.output(subject.x, values)):
        found.departures.append(
            f'data_format="{other}" gives other outputs than '
            "the same features in the other format."
        )


def check_gradients(subject: Subject, found: Findings) -> None:
    """Adds whether gradients reach the input and each weight."""
    # Not at the top: the package is to be imported without it.
    from cbam_keras.explain import gradient_at

    x = ops.convert_to_numpy(subject._tensor(subject.x))
    arrays = [x, *subject.values(biases=True)]
    ends = np.cumsum([array.size for array in arrays])
    # Of the sign of the input, so that the gates' derivatives add up.
    weighting = np.abs(np.random.default_rng(0).normal(size=x.shape))
    weighting = (weighting * np.sign(x)).astype("float32")

    def run(watch):
        flat = np.concatenate([array.reshape(-1) for array in arrays])
        watched = watch(ops.convert_to_tensor(flat))
        parts = [
            ops.reshape(watched[end - array.size : end], array.shape)
            for array, end in zip(arrays, ends, strict=True)
        ]
        output = subject.call(parts[0], parts[1:])
        return ops.sum(output * ops.convert_to_tensor(weighting)), watched

    _, gradient = gradient_at(run, (int(ends[-1]),))
    gradient = ops.convert_to_numpy(gradient).astype("float64")
    if not np.isfinite(gradient).all():
        found.departures.append("Gradients are not finite.")
        return
    by_input, *by_weights = np.split(gradient, ends[:-1])
    idle = [
        weight.name
        for weight, part in zip(subject.weights, by_weights, strict=True)
        if not np.abs(part).max(initial=0) > 0
    ]
    if idle:
        found.departures.append(
            f"No gradient reaches some weights ({', '.join(idle)}): they are "
            "not used, or the gradient is cut."
        )
    # Of a small shift of all inputs, which both pools follow.
    step = np.float32(1e-2)
    up, down = (
        ops.convert_to_numpy(
            subject.call(ops.convert_to_tensor(x + shift), arrays[1:])
        ).astype("float64")
        for shift in (step, -step)
    )
    expected = ((up - down) * weighting).sum() / (2 * step)
    rounding = 1e-2 * abs(expected) + 5e-4 * np.abs(by_input).sum()
    if abs(by_input.sum() - expected) > rounding:
        found.departures.append(
            "The gradient by the input is not that of the output: it is cut "
            "inside the layer."
        )


def _loaded(path, layer, found):
    """Returns a model, and notes whether it needs `custom_objects`."""
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception:
        classes = {type(part) for part in _inspection.layers_within(layer)}
        ours = {kind.__name__: kind for kind in classes}
        model = keras.saving.load_model(
            path, compile=False, custom_objects=ours
        )
    found.choices.append(
        "Its class is not registered with Keras, so `load_model` needs "
        "`custom_objects`."
    )
    return model
