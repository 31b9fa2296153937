"""The attention gate, against PyTorch, and in a U-Net."""

import functools

import keras
import layer_checks as checks
import numpy as np
import pytest
from keras import ops
from layer_checks import assert_close, random_input, to_numpy
from test_models_unet import encoder

import cbam_keras
from cbam_keras import explain, insertion, models
from cbam_keras.layers import Attention, AttentionGate

STORED = checks.stored("attention_gate")[0]
# Of the gating signal and the skip: phi is reduced, kept and enlarged.
SIZES = {1: ((7,), (9,)), 2: ((3, 4), (7, 10)), 3: ((1, 2, 3), (5, 4, 7))}


def case(rank):
    """Returns a layer with random weights, its inputs, and a cotangent."""
    low, high = SIZES[rank]
    shapes = (2, *low, 5), (2, *high, 4), (2, *high, 4)
    maps = [random_input(shape, seed=i) for i, shape in enumerate(shapes)]
    return checks.built(AttentionGate(3), list(shapes[:2])), *maps


@pytest.mark.needs_torch
@pytest.mark.parametrize("rank", SIZES)
def test_the_stored_arrays_are_pytorchs(rank):
    from torch_reference import attention_gate

    for mode, values in attention_gate(*case(rank)).items():
        assert_close(values, STORED[f"{rank}/{mode}"], 1e-5)


@pytest.mark.parametrize("mode", ["test", "train"])
@pytest.mark.parametrize(
    "rank", [1, pytest.param(2, marks=pytest.mark.every_backend), 3]
)
def test_it_computes_what_pytorch_does(rank, mode):
    layer, gating, skip, upstream = case(rank)
    values = checks.tensors([gating, skip, *layer.trainable_variables])
    upstream, *rest = checks.tensors([upstream, *layer.non_trainable_variables])
    options = {"training": mode == "train", "return_attention_maps": True}

    def run(values):
        state = values[2:], rest
        outputs, _ = layer.stateless_call(*state, *values[:2], **options)
        return ops.sum(outputs[0] * upstream), outputs

    gradients = functools.partial(checks.differentiate, run)
    outputs, gradients = checks.compiled(gradients, checks.FAST)(values)
    found = [to_numpy(x).ravel() for x in (*outputs, *gradients)]
    assert_close(np.concatenate(found), STORED[f"{rank}/{mode}"], 1e-4, 1e-4)
    moved = [np.moveaxis(x, -1, 1) for x in (gating, skip)]
    first = AttentionGate(3, data_format="channels_first")
    first.build([x.shape for x in moved])
    first.set_weights(layer.get_weights())
    for x, y in zip(first(*moved, **options), outputs, strict=True):
        assert_close(np.moveaxis(to_numpy(x), 1, -1), y, 1e-5)


def unet(shape=(None, None, 2), gate="gate", **options):
    network = encoder(len(shape) - 1, shape)
    options["decoder_widths"] = (6, 4)
    return models.UNet(network, 2, skip_attention=gate, **options)


def test_a_unet_with_gates_is_saved_explained_counted_and_kept(tmp_path):
    model, x = unet(attention="se"), random_input((3, 13, 10, 2))
    model.save(tmp_path / "unet.keras")
    loaded = keras.saving.load_model(tmp_path / "unet.keras")
    fixed, expected = unet((13, 10, 2), attention="se"), to_numpy(model(x))
    fixed.set_weights(model.get_weights())
    for other in (loaded, fixed):
        assert_close(other.predict(x, verbose=0), expected, 1e-5)
    first, second = (f"decoder_stage{x}_skip_attention" for x in (1, 2))
    maps = explain.attention_maps(loaded, x)
    assert maps[first][1].shape == (3, 7, 5)
    assert maps[second][0] is None and maps[second][1].shape == (3, 13, 10)
    # The kernel and psi where theta is, phi below, and the last convolution.
    macs = {x.name: x.macs for x in cbam_keras.profile_model(fixed).rows}
    assert macs[first] == 6 * (4 * 4 * 2 + 2) + 12 * 5 * 2 + 35 * 4 * 4
    with pytest.raises(ValueError, match=f'gate "{first}": .*gating signal'):
        insertion.remove_attention(fixed)
    # The encoder has none, and the gates' own stay as they are.
    assert cbam_keras.freeze_batch_norm(model) == 4


@pytest.mark.parametrize("shape", [(None, 2), (None, None, None, 2)])
def test_signals_and_volumes_of_unknown_sizes_and_stages(shape):
    x = random_input((2, *(9, 7, 6)[: len(shape) - 1], 2))
    model = unet(shape, Attention("gate", {"hidden_channels": 1}, stages="1"))
    assert model.predict(x, verbose=0).shape == x.shape
    gates = [x.name for x in model.layers if isinstance(x, AttentionGate)]
    assert gates == ["decoder_stage1_skip_attention"]
