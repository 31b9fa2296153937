"""Small networks, recipes and data for the tests of training."""

import networks
import pytest
from networks import linear

from cbam_keras.training import Recipe

KEYS = ("loss", "accuracy", "val_loss", "val_accuracy")
# 70 training images, so five steps per epoch, the last one incomplete.
SMALL = Recipe(epochs=3, batch_size=16)
SHORT = Recipe(epochs=1, batch_size=35)


def resnet(attention="cbam", **options):
    """Returns a network with batch normalization and attention."""
    return networks.resnet(
        input_shape=(28, 28, 1), classes=10, attention=attention, **options
    )


NETWORKS = {"linear": linear, "resnet": resnet}


def numbers(results):
    """Returns what a resumed run must repeat: all but the seconds."""
    rows = [*results.history, *(run.metrics for run in results.runs)]
    return [row[key] for row in rows for key in row if key != "seconds"]


def close(results, atol=1e-6):
    return [
        pytest.approx(value, abs=atol) if isinstance(value, float) else value
        for value in numbers(results)
    ]
