"""Preprocessing of images for published checkpoints."""

from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks


@_checks.named
def preprocess_input(images: Any, data_format: str | None = None) -> Any:
    """Preprocesses images as PyTorch networks trained on ImageNet expect.

    `(images / 255 - mean) / deviation`, for checkpoints of the authors' code
    and of torchvision.

    The mean (0.485, 0.456, 0.406) and the deviation (0.229, 0.224, 0.225) are
    those of red, green and blue in ImageNet.

    Args:
        images: Array or tensor, one RGB image or a batch, in `[0, 255]`, of any
            number type. It is not modified. Tensors may be symbolic, or come
            from `tf.data` with the TensorFlow backend.
        data_format: String, `"channels_last"`, `"channels_first"`, or `None`
            for `keras.config.image_data_format()`. The shape is `(H, W, 3)` or
            `(B, H, W, 3)`, or `(3, H, W)` or `(B, 3, H, W)`. Defaults to
            `None`.

    Returns:
        float32 of the same shape: a NumPy array for a NumPy array, a tensor
        for a tensor.

    Raises:
        ValueError: If the images are not of rank 3 or 4, or do not have 3
            channels.

    Example:
        >>> white = np.full((2, 32, 32, 3), 255, "uint8")
        >>> print(preprocess_input(white)[0, 0, 0])
        [2.2489083 2.4285715 2.64     ]
    """
    data_format = _checks.data_format(data_format)
    shape = tuple(images.shape)
    axis = -1 if data_format == "channels_last" else -3
    if len(shape) not in (3, 4) or shape[axis] != 3:
        raise ValueError(
            "`images` must be one RGB image or a batch, with 3 channels on "
            f'axis {axis} for data_format="{data_format}". Received: images '
            f"of shape {shape}"
        )
    if isinstance(images, np.ndarray):
        images = images.astype("float32")
    else:
        # A backend returns the same tensor where it need not cast, and the
        # function below changes it in place: hence the copy.
        images = ops.copy(ops.cast(images, "float32"))
    return keras.applications.imagenet_utils.preprocess_input(
        images, data_format, mode="torch"
    )
