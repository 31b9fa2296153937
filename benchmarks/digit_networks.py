"""The networks of `when_it_helps`, and what their gates do."""

import dataclasses
import functools

import keras
import numpy as np

from cbam_keras import comparison, explain, layers, models

ATTENTION = {
    "se": layers.SqueezeExcite,
    "channel": layers.ChannelAttention,
    "spatial": layers.SpatialAttention,
    "cbam": layers.CBAM,
    "spatial first": functools.partial(layers.CBAM, order="spatial_first"),
    "parallel": functools.partial(layers.CBAM, order="parallel"),
}


@keras.saving.register_keras_serializable("benchmarks")
def one_plus_sigmoid(x):
    """The gate of BAM and of Residual Attention Networks."""
    return 1 + keras.ops.sigmoid(x)


# Arguments of the layers for each start. "open" and "authors" are CBAM's.
STARTS = {
    "paper": {},
    "plain identity": {"identity_init": True},
    # Each gate at sigmoid(2) = 0.88, by its last bias.
    "open": {"spatial_use_bias": True},
    # The spatial gate's normalization, from zero as in the authors' code.
    "authors": {"spatial_batch_norm": True},
    "one plus": {"gate_activation": one_plus_sigmoid},
    # Of a network without attention: each block starts as its shortcut.
    "zero gamma": {},
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of a study, and how it is trained."""

    # "none" or a key of `ATTENTION`.
    attention: str = "none"
    reduction_ratio: int = 4
    kernel_size: int = 7
    # A key of `STARTS`, or "identity", as in `comparison.compare`.
    start: str = "paper"
    # Channels of the first stage; the others have two and four times as many.
    width: int = 8
    # Around each digit.
    fragments: int = 12
    # How often each training digit is shown per epoch.
    canvases: int = 10
    epochs: int = 2
    # The best of four for all of none, SE and CBAM (`--rates`).
    learning_rate: float = 0.03

    @classmethod
    def of(cls, row):
        """Returns the arm of a stored result."""
        return cls(*(row[field.name] for field in FIELDS))

    @property
    def name(self):
        """What differs from the defaults."""
        values = [
            f"{field.name}={getattr(self, field.name)}"
            for field in FIELDS[1:]
            if getattr(self, field.name) != field.default
        ]
        return "-".join([self.attention, *values])


FIELDS = dataclasses.fields(Arm)


def build(arm, images):
    """Returns the network of an arm."""
    attention = None
    if arm.attention != "none":
        # By default as in `comparison.compare`.
        orders = ("spatial first", "parallel")
        kind = "cbam" if arm.attention in orders else arm.attention
        options = dict(STARTS.get(arm.start, comparison.start_options(kind)))
        if arm.attention != "spatial":
            options["reduction_ratio"] = arm.reduction_ratio
        if arm.attention not in ("se", "channel"):
            options["kernel_size"] = arm.kernel_size
        attention = functools.partial(ATTENTION[arm.attention], **options)
    inputs = keras.Input(images.image_shape)
    model = models.ResNet(
        (1, 1, 1),
        block="basic",
        widths=(arm.width, 2 * arm.width, 4 * arm.width),
        stem_width=arm.width,
        stem="strided",
        input_tensor=keras.layers.Rescaling(1 / 255)(inputs),
        classes=len(images.class_names),
        attention=attention,
    )
    # The weights that no argument of a layer decides.
    for layer in model.layers:
        if arm.start == "zero gamma" and layer.name.endswith("_bn2"):
            layer.gamma.assign(keras.ops.zeros_like(layer.gamma))
        if not isinstance(layer, layers.CBAM):
            continue
        channel, spatial = layer.channel_attention, layer.spatial_attention
        if arm.start == "authors":
            gamma = spatial.batch_norm.gamma
            gamma.assign(keras.ops.zeros_like(gamma))
        if arm.start == "open":
            # The MLP's counts once for each of both pools.
            channel.excite_bias.assign(keras.ops.ones_like(channel.excite_bias))
            spatial.bias.assign(keras.ops.full_like(spatial.bias, 2))
    return model


def gates(model, images):
    """Returns what each attention layer does on images, from first to last.

    `hidden` is how many hidden units the channel gate has, `dead` how many of
    them are zero for each image and both pools. `channel` is the mean of the
    map, its deviation among channels, and that among images; `spatial` the
    mean and the deviation among positions.
    """
    kinds = (layers.CBAM, layers.ChannelAttention, layers.SpatialAttention)
    attended = [layer for layer in model.layers if isinstance(layer, kinds)]
    if not attended:
        return []
    features = keras.Model(model.inputs, [layer.input for layer in attended])
    inputs = keras.tree.flatten(features.predict(images, verbose=0))
    maps = explain.attention_maps(model, images)
    return [
        _gate(layer, x, *maps[layer.name])
        for layer, x in zip(attended, inputs, strict=True)
    ]


def _gate(layer, x, channel, spatial):
    row = {}
    if channel is not None:
        gate = getattr(layer, "channel_attention", layer)
        pools = [x.mean(axis=(1, 2))]
        if "max" in gate.pool_types:
            pools.append(x.max(axis=(1, 2)))
        kernel, bias = (
            keras.ops.convert_to_numpy(weight)
            for weight in (gate.squeeze_kernel, gate.squeeze_bias)
        )
        fired = (np.concatenate(pools) @ kernel + bias > 0).any(axis=0)
        row["hidden"] = len(fired)
        row["dead"] = int((~fired).sum())
        row["channel"] = [
            float(channel.mean()),
            float(channel.mean(axis=0).std()),
            float(channel.std(axis=0).mean()),
        ]
    if spatial is not None:
        row["spatial"] = [
            float(spatial.mean()),
            float(spatial.std(axis=(1, 2)).mean()),
        ]
    return row
