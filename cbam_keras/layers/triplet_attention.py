"""`TripletAttention`, a spatial gate over each pair of axes."""

import keras
from keras import ops

from cbam_keras import _checks
from cbam_keras.layers.attention_layer import TrainableAttention
from cbam_keras.layers.pools import pool

# Each plane, in PyTorch's letters, and the order that puts what it pools last.
PLANES = {"cw": (0, 3, 2, 1), "hc": (0, 1, 3, 2), "hw": (0, 1, 2, 3)}


@keras.saving.register_keras_serializable(package="cbam_keras")
class TripletAttention(TrainableAttention):
    """Scales each value by the mean of three gates, one per pair of axes.

    Each gate is that of `SpatialAttention` over a plane of two axes.

    It has the maximum and mean over the third axis, a convolution without bias,
    batch normalization (epsilon 1e-5) and a sigmoid. The planes are channels
    and columns, rows and channels, rows and columns:

    `output = x * (gate_cw(x) + gate_hc(x) + gate_hw(x)) / 3`.

    Args:
        kernel_size: Odd positive integer, the side of the convolutions. It may
            exceed the sizes of a plane. Defaults to `7`.
        batch_norm_momentum: See `SpatialAttention`. Defaults to `0.99`.
        gate_activation, identity_init, **kwargs: See `ChannelAttention`.

    Call arguments:
        See `ChannelAttention`.

    Input shape:
        `(B, H, W, C)` or `(B, C, H, W)`; two spatial axes of any or unknown
        size. `C` must be known.

    Output shape:
        The input shape, also of `attention_map(inputs)`, the mean of the gates.

    Example:
        >>> tuple(TripletAttention()(np.ones((2, 7, 5, 32))).shape)
        (2, 7, 5, 32)

    Reference:
        Misra, Nalamada, Arasanipalai and Hou, 2021
        (https://arxiv.org/abs/2010.03045).
    """

    _ranks = (4,)

    def __init__(
        self,
        kernel_size=7,
        *,
        batch_norm_momentum=0.99,
        gate_activation="sigmoid",
        identity_init=False,
        **kwargs,
    ):
        super().__init__(gate_activation, identity_init, **kwargs)
        self._store(_checks.odd_integer, kernel_size=kernel_size)
        self._store(_checks.momentum, batch_norm_momentum=batch_norm_momentum)

    def build(self, input_shape):
        self._check_input_shape(input_shape, any_count=True)
        shape = (self.kernel_size, self.kernel_size, 2, 1)
        self.kernels, self.batch_norms = {}, {}
        for plane in PLANES:
            self.kernels[plane] = self._add_parameter(f"{plane}_kernel", shape)
            self.batch_norms[plane] = self._add_batch_norm(plane, 1, last=True)

    def _map(self, x, training, mask):
        if mask is not None:
            mask = ops.broadcast_to(mask, ops.shape(x))
        gates = []
        for plane, order in PLANES.items():
            y, unmasked = ops.transpose(x, order), None
            if mask is not None:
                unmasked = ops.transpose(mask, order)
            pooled = [
                pool(y, kind, 3, x.dtype, keepdims=True, mask=unmasked)
                for kind in ("max", "avg")
            ]
            # Where all is masked, pools are 0: padding to the convolution.
            maps = ops.concatenate(pooled, axis=3)
            logits = self._convolve(maps, self.kernels[plane])
            unmasked = None if mask is None else ops.any(unmasked, axis=3)
            batch_norm = self.batch_norms[plane]
            logits = self._normalize(logits, batch_norm, training, unmasked)
            gates.append(ops.transpose(self._gate(logits), order))
        return sum(gates[1:], start=gates[0]) / 3.0
