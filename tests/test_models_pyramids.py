"""Networks as backbones of KerasHub's detectors and segmenters."""

import keras
import pytest
from insertion_checks import Subclassed
from keras import layers

from cbam_keras import insert_attention, models

keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def network(size=64):
    """Returns a network of levels P2 to P4."""
    return models.ResNet(
        (1, 1, 1),
        block="basic",
        widths=(8, 16, 32),
        stem_width=8,
        include_top=False,
        input_shape=(size, size, 3),
        attention="cbam",
    )


LEVELS = {
    "no sizes": (lambda: network(None), {"P2": 8, "P3": 16, "P4": 32}),
    "attention inserted": (
        lambda: insert_attention(
            keras.applications.MobileNetV2(
                (64, 64, 3), alpha=0.35, weights=None, include_top=False
            ),
            "cbam",
            after=r"^block_\d+_add$",
        ),
        {"P2": 48, "P3": 96, "P4": 192, "P5": 1280},
    ),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_follow_the_strides(name):
    build, channels = LEVELS[name]
    found = models.feature_pyramid(build()).pyramid_outputs
    assert {level: found[level].shape[-1] for level in found} == channels
    for level, tensor in found.items():
        assert tensor.shape[1] in (None, 64 / 2 ** int(level[1]))


def test_levels_are_the_last_maps_of_the_stages():
    model = network()
    backbone = models.feature_pyramid(model)
    names = {f"P{stage + 1}": f"stage{stage}_block1_out" for stage in (1, 2, 3)}
    assert backbone.levels == names
    assert {id(v) for v in backbone.weights} <= {id(v) for v in model.weights}
    names = {"P3": "stage2_block1_conv2", "P4": "stage3_block1_out"}
    backbone = models.feature_pyramid(model, names)
    assert backbone.levels == names
    assert list(backbone.pyramid_outputs) == ["P3", "P4"]


def strided(*strides, size=48):
    x = inputs = keras.Input((size, size, 3))
    for stride in strides:
        x = layers.Conv2D(2, 3, stride, padding="same")(x)
    return keras.Model(inputs, x)


BAD = {
    "strides": (lambda: strided(3, 2), None, "powers of two.*1.0, 3.0, 6.0"),
    "none": (lambda: strided(2), None, "one of them 4, 8, 16 or 32"),
    "gap": (lambda: strided(4, 4), None, "with levels P2, P4"),
    "size": (lambda: strided(4, 2, size=100), None, "of the coarsest stride"),
    "unknown layer": (network, {"P3": "stage2_block2_out"}, "Did you mean"),
    "unknown level": (network, {"P7": "stem_conv"}, '"P5"'),
    "other stride": (network, {"P3": "stage3_block1_out"}, '"stage2_block1_o'),
    "subclass": (Subclassed, None, "functional"),
}


@pytest.mark.parametrize("name", BAD)
def test_networks_that_give_no_pyramid_are_refused(name):
    build, levels, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        models.feature_pyramid(build(), levels)
