"""Weights of networks from files, and files that do not fit."""

import shutil

import keras
import networks
import numpy as np
import pytest
from keras import layers
from layer_checks import randomize

from cbam_keras import CBAM


def tiny(depths=(1, 1), **options):
    return networks.resnet(depths, **options)


def save(model, path):
    saves = model.save if path.suffix == ".keras" else model.save_weights
    saves(path)


@pytest.mark.parametrize(
    "ending, options, saved",
    [
        (".keras", {"attention": "cbam"}, {}),
        (".weights.h5", {"attention": "cbam"}, {}),
        # A head without weights makes no difference.
        (".keras", {"include_top": False}, {"pooling": "max"}),
    ],
)
def test_weights_are_read_from_a_file(ending, options, saved, tmp_path):
    path = tmp_path / f"network{ending}"
    model = randomize(tiny(**options, **saved))
    # A file may hold the variables of an optimizer too.
    model.compile("adam", loss="mse")
    save(model, path)
    loaded = tiny(**options, weights=path).get_weights()
    for found, expected in zip(loaded, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_checkpoints_of_pytorch_go_to_the_converter(tmp_path):
    path = tmp_path / "network.pth.tar"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="written by PyTorch or safetensors"):
        tiny(weights=path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def other_class(path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.save(path)
    return path


@pytest.mark.parametrize(
    "spoil, message",
    [
        (cut, "is damaged .*not a zip"),
        (other_class, "which holds a Sequential"),
        (
            lambda path: shutil.copy(path, path.with_suffix(".pkl")),
            "ends in one of .keras, .weights.h5, .*, .safetensors",
        ),
        (lambda path: path.with_name("nothing.pth"), "a file that exists"),
    ],
    ids=["cut", "class", "ending", "absent"],
)
def test_bad_weight_files_are_refused(spoil, message, tmp_path):
    path = tmp_path / "network.keras"
    tiny().save(path)
    with pytest.raises(ValueError, match=f"`weights` must .*{message}"):
        tiny(weights=spoil(path))


BOTTLENECK = {"block": "bottleneck"}
# Variants with weights of equal shapes, which compute something else.
UNLIKE = (
    {"spatial_pool_types": ("max", "avg")},
    {"order": "parallel"},
    {"activation": "gelu"},
    {"gate_activation": "hard_sigmoid"},
    {"identity_init": True},
)
LIKE = (
    'of a network like "resnet". Received: weights=.*, which '
    "(does not fit|has).*Build the model with the arguments of"
)
OTHER = "which has other layers: stage"
GATED = {"attention": CBAM}


@pytest.mark.parametrize(
    "ending, saved, built, message",
    [
        (".keras", {}, {"widths": (4, 16)}, LIKE),
        # Keras' loader would ignore what is left over.
        (".keras", GATED, {}, LIKE),
        (".keras", {}, GATED, LIKE),
        (".weights.h5", {}, {"include_top": False}, LIKE),
        (".keras", BOTTLENECK, BOTTLENECK | {"downsample_in": "1x1"}, OTHER),
        *((".keras", GATED, {"attention": CBAM(**x)}, OTHER) for x in UNLIKE),
    ],
)
def test_weights_of_another_network_are_refused(
    ending, saved, built, message, tmp_path
):
    path = tmp_path / f"saved{ending}"
    save(tiny(**saved), path)
    with pytest.raises(ValueError, match=f"(?s:{message})"):
        tiny(**built, weights=path)
