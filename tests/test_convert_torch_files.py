"""Reading checkpoints of every format, and refusing code in them."""

import os
import pickle
import re
import sys

import keras
import numpy as np
import pytest
from convert_checks import (
    CHECKPOINT,
    assert_equal_values,
    error_of,
    official_weights,
    tiny_network,
    tiny_weights,
    values,
    write,
)
from layer_checks import to_numpy

from cbam_keras import (
    CBAM,
    VARIANTS,
)
from cbam_keras.convert import load_torch_weights


@pytest.mark.parametrize(
    "rename",
    [
        "module.{}",
        "_orig_mod.{}",
        "_orig_mod.module.{}",
        "module._orig_mod.{}",
        "model.{}",
    ],
)
def test_prefixes_of_wrappers_are_removed(rename):
    weights = tiny_weights()
    model = tiny_network()
    report = load_torch_weights(
        model, {rename.format(name): value for name, value in weights.items()}
    )
    assert set(report.loaded) == set(weights)
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("predictions").bias), weights["fc.bias"]
    )


def test_the_name_of_the_module_may_come_before_all_names():
    weights = {f"cbam.{k}": v for k, v in official_weights().items()}
    layer = CBAM(**VARIANTS["official"])
    assert len(load_torch_weights(layer, weights).loaded) == 9
    report = load_torch_weights(
        tiny_network(), {f"net.{k}": v for k, v in tiny_weights().items()}
    )
    assert not report.missing


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model_state_dict": weights, "loss": np.zeros(())},
        lambda weights: {"model": {"state_dict": weights}},
        lambda weights: {"model": weights, "model_ema": {}},
        lambda weights: (
            weights
            | {
                "bn1.num_batches_tracked": np.array(7),
                "n_averaged": np.array(3),
            }
        ),
    ],
    ids=["state_dict", "model_state_dict", "nested", "ema", "counters"],
)
def test_nested_checkpoints_are_unwrapped(wrap):
    weights = tiny_weights()
    report = load_torch_weights(tiny_network(), wrap(weights))
    assert set(report.loaded) == set(weights)
    assert not report.unused


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    "name, legacy",
    [
        ("weights.pth", False),
        ("weights.pth", True),
        ("model_best.pth.tar", False),
        ("model_best.pth.tar", True),
        ("weights.bin", False),
        ("weights.safetensors", False),
    ],
)
def test_files_of_every_format_are_read(tmp_path, name, legacy):
    weights = tiny_weights()
    path = write(tmp_path / name, weights, legacy)
    from_file, from_arrays = tiny_network(), tiny_network()
    report = load_torch_weights(from_file, path)
    load_torch_weights(from_arrays, weights)
    assert set(report.loaded) == set(weights)
    assert_equal_values(values(from_file), values(from_arrays))


def test_arrays_need_no_pytorch(monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch is the backend")
    monkeypatch.setitem(sys.modules, "torch", None)
    weights = tiny_weights()
    assert set(load_torch_weights(tiny_network(), weights).loaded) == set(
        weights
    )


def test_a_file_names_the_extra_when_pytorch_is_absent(monkeypatch):
    layer = CBAM()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[torch\]"):
        load_torch_weights(layer, CHECKPOINT)


@pytest.mark.needs_torch
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_floats_of_other_widths_are_converted(kind):
    torch = pytest.importorskip("torch", reason="NumPy has no bfloat16")
    weights = {
        name: torch.tensor(value).to(getattr(torch, kind))
        for name, value in tiny_weights().items()
    }
    model = tiny_network()
    load_torch_weights(model, weights)
    np.testing.assert_array_equal(
        to_numpy(model.get_layer("predictions").bias),
        weights["fc.bias"].float().numpy(),
    )


@pytest.mark.parametrize(
    "weight, kind",
    [
        (np.zeros(5, "int64"), "int64"),
        (np.zeros(5, bool), "bool"),
        (np.zeros(5, "complex64"), "complex64"),
        ([0.0] * 5, "list"),
    ],
    ids=["integers", "booleans", "complex", "list"],
)
def test_weights_are_real_numbers(weight, kind):
    message = error_of(tiny_network(), tiny_weights() | {"fc.bias": weight})
    assert (
        "Weights must be dense floating-point tensors. Received: "
        f'"fc.bias" of kind {kind}.'
    ) in message


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda torch: torch.zeros(5).to_sparse(), "sparse float32"),
        (
            lambda torch: torch.quantize_per_tensor(
                torch.zeros(5), 0.1, 0, torch.qint8
            ),
            "qint8",
        ),
        (
            lambda torch: torch.zeros(5, device="meta"),
            "float32 without values (on the meta device)",
        ),
        (lambda torch: torch.zeros(5, dtype=torch.int32), "int32"),
    ],
    ids=["sparse", "quantized", "meta", "integers"],
)
# PyTorch's own deprecation of quantized tensors.
@pytest.mark.filterwarnings("ignore:.*quant")
def test_tensors_are_dense_and_real(make, kind):
    torch = pytest.importorskip("torch", reason="PyTorch makes the tensors")
    weights = tiny_weights() | {"fc.bias": make(torch)}
    assert f'"fc.bias" of kind {kind}.' in error_of(tiny_network(), weights)


@pytest.mark.needs_torch
def test_a_module_is_asked_for_its_state_dict():
    torch = pytest.importorskip("torch", reason="PyTorch makes the module")
    with pytest.raises(TypeError, match=r"Pass source.state_dict\(\)"):
        load_torch_weights(CBAM(), torch.nn.Linear(2, 2))


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    "content, message",
    [
        (None, "`source` must be a file that exists"),
        (b"", "which is empty"),
        (b"<html>Not found</html>", "which is a web page. Download the file"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x08" + bytes(7) + b'{"a": 1}', "damaged, cut short"),
        (pickle.dumps({"a": 1}), "damaged, cut short or of another kind"),
    ],
    ids=["absent", "empty", "a web page", "a pointer", "safetensors", "pickle"],
)
def test_a_file_must_be_a_checkpoint(tmp_path, content, message):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    found = error_of(tiny_network(), path)
    assert message in found
    assert f'source="{path}"' in found


@pytest.mark.needs_torch
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    "name, legacy",
    [("a.pth", False), ("a.pth", True), ("a.safetensors", False)],
    ids=["zip", "legacy", "safetensors"],
)
def test_a_file_cut_short_is_refused(tmp_path, name, legacy, share):
    path = write(tmp_path / name, tiny_weights(), legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged, cut short" in error_of(tiny_network(), path)


@pytest.mark.needs_torch
@pytest.mark.parametrize("offset, value", [(0, 0), (6, 99), (9, 8)])
def test_a_damaged_archive_is_refused(tmp_path, offset, value):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    content = bytearray(CHECKPOINT.read_bytes())
    # The first entry of the table of contents.
    content[content.find(b"PK\x01\x02") + offset] = value
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    # PyTorch reads some of these all the same, and then they do not fit.
    assert f'Received: source="{path}"' in error_of(tiny_network(), path)


class Payload:
    """Runs a command when unpickled by anything that allows it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.needs_torch
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": {"a": torch.zeros(2)}, "code": Payload(marker)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    message = error_of(tiny_network(), path)
    assert re.search(r"asks for `\w+\.system`", message)
    assert "It was not run." in message
    assert not marker.exists()
    # The payload works where it is allowed to.
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.needs_torch
def test_a_pickle_with_code_is_not_run(tmp_path):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    assert "It was not run." in error_of(tiny_network(), path)
    assert not marker.exists()


@pytest.mark.needs_torch
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
# Of a module pickled whole, PyTorch looks for the source.
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_module_is_refused(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pth"
    torch.save(
        torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=not legacy
    )
    message = error_of(tiny_network(), path)
    assert "asks for `torch.nn.modules.linear.Linear`" in message
    assert "module.state_dict()" in message


@pytest.mark.needs_torch
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pt"
    torch.jit.save(
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path
    )
    message = error_of(tiny_network(), path)
    assert "a TorchScript program" in message
    assert "torch.jit.load(path)" in message


@pytest.mark.needs_torch
def test_a_file_of_other_things_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    torch.save([1, 2], tmp_path / "list.pth")
    message = error_of(tiny_network(), tmp_path / "list.pth")
    assert message.endswith("which contains an object of type list")
