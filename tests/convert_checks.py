"""Networks, layers and checkpoints to convert, and checks of them."""

import functools

import networks
import numpy as np
import pytest
from layer_checks import REFERENCE, to_numpy

from cbam_keras import CBAM, VARIANTS, load_torch_weights, models
from cbam_keras.convert import matching

CHECKPOINT = REFERENCE / "official_small_cbam.pth.tar"
OFFICIAL = functools.partial(CBAM, **VARIANTS["official"])
TIMM = functools.partial(CBAM, **VARIANTS["timm"])
BN = ("weight", "bias", "running_mean", "running_var")


def slot_values(target):
    """Returns random weights for a built target by its authors' names."""
    slots, rng = matching.make_plan(target, ()).slots, np.random.default_rng(0)
    return {slot.name: rng.random(slot.shape, "float32") for slot in slots}


def small_network():
    """Returns the network of the stored checkpoint."""
    return models.ResNet(
        (2, 2, 2, 2),
        block="basic",
        widths=(16, 32, 64, 128),
        stem="small",
        classes=10,
        classifier_activation=None,
        attention=OFFICIAL,
    )


def authors_network():
    """Returns it with the stored weights; skips if they cannot be read."""
    pytest.importorskip("torch", reason="PyTorch reads the file")
    model = small_network()
    load_torch_weights(model, CHECKPOINT)
    return model


def tiny_network(attention=None, **options):
    """Returns a network of one stage, of the smallest sizes."""
    options = {"widths": (16,), "stem_width": 8, **options}
    return networks.resnet(attention=attention, **options)


def random_weights(shapes, seed):
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.1, 1, shape).astype("float32")
        for name, shape in shapes.items()
    }


def tiny_weights():
    """Returns random weights for `tiny_network()`, by PyTorch's names."""
    shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "layer1.0.downsample.0.weight": (16, 8, 1, 1),
        "fc.weight": (5, 16),
        "fc.bias": (5,),
    }
    norms = ["layer1.0.downsample.1"]
    for number, channels in ((1, 8), (2, 16)):
        shapes[f"layer1.0.conv{number}.weight"] = (16, channels, 3, 3)
        norms.append(f"layer1.0.bn{number}")
    shapes |= {f"bn1.{part}": (8,) for part in BN}
    shapes |= {f"{norm}.{part}": (16,) for norm in norms for part in BN}
    return random_weights(shapes, seed=0)


def attention_weights(prefix="layer1.0.cbam.", channels=16, hidden=1):
    """Returns random weights of the authors' module."""
    shapes = {
        "ChannelGate.mlp.1.weight": (hidden, channels),
        "ChannelGate.mlp.1.bias": (hidden,),
        "ChannelGate.mlp.3.weight": (channels, hidden),
        "ChannelGate.mlp.3.bias": (channels,),
        "SpatialGate.spatial.conv.weight": (1, 2, 7, 7),
        **{f"SpatialGate.spatial.bn.{part}": (1,) for part in BN},
    }
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    return random_weights(shapes, seed=1)


def values(target):
    return [to_numpy(variable) for variable in target.weights]


def assert_equal_values(first, second):
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)


def error_of(target, source, **options):
    """Returns the message of an error after which nothing is loaded."""
    before = values(target)
    with pytest.raises(ValueError) as caught:
        load_torch_weights(target, source, **options)
    assert_equal_values(values(target), before)
    return str(caught.value)


def write(path, weights, legacy=False):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    if path.suffix == ".safetensors":
        safetensors = pytest.importorskip(
            "safetensors.torch", reason="safetensors writes the file"
        )
        safetensors.save_file(tensors, path)
    else:
        torch.save(
            {"state_dict": tensors, "epoch": 1, "best": torch.tensor(1.0)},
            path,
            _use_new_zipfile_serialization=not legacy,
        )
    return path
