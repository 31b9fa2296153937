"""Attention layers of a model, and their maps as the model runs."""

import contextlib
import functools
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from cbam_keras._graph.global_state import attributes
from cbam_keras._graph.graph import Tensor, as_input, layers_within, sublayers
from cbam_keras._graph.steps import Fold, Unfold
from cbam_keras.layers import MAPS, AttentionLayer

# The channel and the spatial map of a layer, `None` where it has none.
Maps = tuple[np.ndarray | None, np.ndarray | None]


def gates_by_name(
    model: keras.Model, images: Tensor
) -> dict[AttentionLayer, str]:
    """Returns the attention layers of a model, with a name for each.

    A model that is not built yet is built by running it on some images.
    """
    if not model.built:
        # Layers may create their sublayers only when they are built.
        run_model(model, images)
    paths = gate_paths(model)
    if not paths:
        raise ValueError(
            "`model` must have attention layers of cbam_keras, such as CBAM. "
            f'Received: model "{model.name}" without any. Convert third-party '
            "attention: model, report = cbam_keras.insertion.adopt(model); or "
            "insert attention: cbam_keras.insert_attention(model)"
        )
    names = [layer.name for layer in paths]
    return {
        layer: path if names.count(layer.name) > 1 else layer.name
        for layer, path in paths.items()
    }


def run_model(model: keras.Model, images: Tensor) -> Tensor:
    """Returns the outputs of a model in inference, without gradients."""
    if not keras.tree.is_nested(images):
        images = as_input(model, [images])
    if keras.config.backend() != "torch":
        return model(images, training=False)
    import torch

    with torch.no_grad():
        return model(images, training=False)


def record_maps(
    model: keras.Model, images: Tensor, names: Mapping[AttentionLayer, str]
) -> dict[str, Maps]:
    """Runs a model and returns the maps of its gates, in the order they run.

    Those in `TimeDistributed` layers are `(B, T, ...)`.
    """
    recorded: dict[str, Maps] = {}
    # The numbers of frames of the `TimeDistributed` layers that run now.
    frames: list[int] = []

    def record(layer, call, inputs, *args, **kwargs):
        key = names[layer]
        # A layer may be called several times.
        number = sum(x.partition("#")[0] == key for x in recorded) + 1
        if number > 1:
            key += f"#{number}"
        channel, spatial = (
            x if x is None else x.reshape(-1, *frames, *x.shape[1:])
            for x in _maps(layer, inputs)
        )
        recorded[key] = (channel, spatial)
        return call(inputs, *args, **kwargs)

    def run_at_once(wrapper, call, inputs, training=None, mask=None):
        if mask is not None:
            # Each frame has its own mask, so that Keras runs them one by one.
            return call(inputs, training=training, mask=mask)
        frames.append(inputs.shape[1])
        outputs = wrapper.layer(Fold()(inputs), training=training)
        return Unfold(wrapper, frames.pop())(outputs)

    with contextlib.ExitStack() as stack:
        for layer in layers_within(model):
            replaced = {}
            if layer in names:
                replaced["call"] = functools.partial(record, layer, layer.call)
            elif isinstance(layer, layers.TimeDistributed):
                replaced["call"] = functools.partial(
                    run_at_once, layer, layer.call
                )
            stack.enter_context(attributes(layer, replaced))
        run_model(model, images)
    return recorded


def gate_paths(model, prefix=""):
    """Returns the attention layers inside a layer, each with its own path.

    Layers of one name, in a list of a user's layer, are numbered.
    """
    paths: dict[AttentionLayer, str] = {}
    for layer, path in _paths_within(model, prefix).items():
        name = path
        number = 0
        while name in paths.values():
            number += 1
            name = f"{path}_{number}"
        paths[layer] = name
    return paths


def _paths_within(model, prefix):
    """Returns the attention layers inside a layer, with paths that may repeat.

    The layers of the layer itself come before those inside them.
    """
    paths = {}
    for layer in sublayers(model):
        path = f"{prefix}{layer.name}"
        if isinstance(layer, AttentionLayer):
            # The gates inside a CBAM layer do not count by themselves.
            paths.setdefault(layer, path)
        else:
            paths = {**_paths_within(layer, f"{path}/"), **paths}
    return paths


def _maps(layer, inputs):
    """Returns what a layer's maps tell of channels and of positions."""
    if hasattr(layer, "attention_maps"):
        channel, spatial = layer.attention_maps(inputs)
    else:
        # A map of both is shown by its means.
        gate_map = layer.attention_map(inputs)
        channel, spatial = (
            gate_map if kind in layer._gated else None for kind in MAPS
        )
    is_channels_first = layer.data_format == "channels_first"
    if channel is not None:
        channel = to_float32(channel)
        positions = range(1, channel.ndim - 1)
        if is_channels_first:
            positions = range(2, channel.ndim)
        channel = channel.mean(axis=tuple(positions))
    if spatial is not None:
        axis_of_channels = 1 if is_channels_first else -1
        spatial = to_float32(spatial).mean(axis=axis_of_channels)
    return channel, spatial


def to_float32(tensor: Tensor) -> np.ndarray:
    """Returns a tensor of any float type as a float32 array."""
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
