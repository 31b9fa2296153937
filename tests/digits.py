"""Made-up digits in place of the 5,000 that a package brings.

Tests replace the function that reads those: by `replace` for the rest of a
process, or by the fixtures `few_digits` and `grey_digits`.
"""

import numpy as np

from cbam_keras import data
from cbam_keras.data import digits as embedded

# 82 images for training, 11 for validation and 23 for testing: the last batch
# is incomplete, and does not divide by two outside of training.
UNEVEN = (15, 20, 11, *[10] * 7)


def replace(digits, setattr_=setattr):
    """Makes `digits()`, images `(N, 28, 28)` and labels, the embedded ones."""
    for module in (embedded, data):
        setattr_(module, "load_digits", digits)


def few():
    """Returns ten digits of each class: noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 28, 28)).astype("uint8")
    return images, np.repeat(np.arange(10), 10).astype("int32")


def grey():
    """Returns 20 digits of each class, of one grey each, in no order.

    The grey tells from which digit a pixel is.
    """
    labels = np.repeat(np.arange(10), 20).astype("int32")
    labels = np.random.default_rng(5).permutation(labels)
    greys = np.arange(1, len(labels) + 1, dtype="uint8")
    return np.tile(greys[:, None, None], (1, 28, 28)), labels


def brighter_by_class():
    """Returns unevenly many digits, brighter from class to class."""
    labels = np.repeat(np.arange(10), UNEVEN).astype("int32")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 156, (len(labels), 28, 28))
    return (images + 10 * labels[:, None, None]).astype("uint8"), labels
