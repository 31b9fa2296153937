"""Images are refused in one wording, whoever takes them."""

import re

import numpy as np
import pytest
from explain_checks import images, tiny

from cbam_keras import AttentionMonitor, explain, plotting

X = images(2, 8, 8, 3)


def monitor(x):
    model = tiny()
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    model.fit(X, np.arange(2), callbacks=[AttentionMonitor(x)], verbose=0)


TAKERS = {
    "grad_cam": lambda x: explain.grad_cam(tiny(), x),
    "attention_maps": lambda x: explain.attention_maps(tiny(), x),
    "plot_grad_cam": lambda x: plotting.plot_grad_cam(x, {}),
    "plot_attention_maps": lambda x: plotting.plot_attention_maps(x, {}),
    "monitor": monitor,
}
WRONG = {
    "strings": (
        X.astype(str),
        TypeError,
        "`images` must be an array of numbers. Received: ndarray of dtype <U",
    ),
    "empty": (
        X[:0],
        ValueError,
        "`images` must not be empty. Received: images.shape=(0, 8, 8, 3)",
    ),
    "not_finite": (
        np.where(np.arange(X.size).reshape(X.shape) < 3, np.nan, X),
        ValueError,
        "`images` must be finite numbers. Received: 3 that are NaN or infinite",
    ),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(
    ("given", "error", "message"), WRONG.values(), ids=WRONG
)
def test_wrong_images_have_one_message(take, given, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        take(given)
