"""Reading PyTorch checkpoints without executing code in them."""

import os
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.convert import legacy

# Keys under which training scripts save the state dict. Averaged weights come
# after the plain ones.
HOLDERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "state_dict_ema",
    "model_ema",
)
# Content of files whose download failed.
PLACEHOLDERS = {
    b"version https://git-lfs": "a pointer of Git LFS. Get the file itself "
    "with: git lfs pull",
    b"<!doctype html": "a web page. Download the file itself",
    b"<html": "a web page. Download the file itself",
}
# Attributes that hold the network in a larger module, or the attention in a
# block.
HOLDING = {
    "attention",
    "backbone",
    "base_model",
    "cbam",
    "encoder",
    "model",
    "net",
    "network",
    "resnet",
    "se",
}
# Parts of names added by DataParallel, torch.compile and averaged models.
WRAPPERS = {"module", "_orig_mod"}
# Counters of PyTorch's batch normalization and of averaged models.
COUNTERS = {"num_batches_tracked", "n_averaged"}


def read(source: Any) -> dict[str, Any]:
    """Returns the tensors of a checkpoint by their names.

    Args:
        source: Path of a file that PyTorch or safetensors wrote, or a mapping
            of names to tensors, possibly nested in another one, as training
            scripts save it.

    Returns:
        Dictionary of names, without the prefixes of wrappers, to unchanged
        tensors or arrays. Counters are left out.

    Raises:
        ValueError: If the file does not exist or has no state dict.
        TypeError: If `source` is neither a path nor a mapping.
        ImportError: If a file needs PyTorch or safetensors: any but those that
            PyTorch wrote before version 1.6.
    """
    if isinstance(source, (str, os.PathLike)):
        content = _read_file(os.fspath(source))
    else:
        content = source
        if not isinstance(source, Mapping):
            hint = (
                ". Pass source.state_dict() instead"
                if hasattr(source, "state_dict")
                else ""
            )
            raise TypeError(
                "`source` must be the path of a checkpoint or a mapping of "
                "names to tensors. Received: source of type "
                f"{type(source).__name__}{hint}"
            )
    return _clean(_state_dict(content, described(source)), described(source))


def described(source: Any) -> str:
    """Returns the description of a source for messages."""
    if isinstance(source, Mapping):
        return f"source=<a mapping of {len(source)} entries>"
    return f'source="{os.fspath(source)}"'


def to_numpy(name: str, value: Any) -> np.ndarray:
    """Returns the values of a tensor as a new float32 or float64 array.

    Args:
        name: String, the name of the tensor, for messages.
        value: NumPy array or PyTorch tensor.

    Raises:
        ValueError: If the tensor is not a dense tensor of real numbers.
    """
    kind = type(value).__name__
    plain = False
    if isinstance(value, np.ndarray):
        # For NumPy, the small floats of other libraries are structured types
        # with these names.
        kind = value.dtype.name
        plain = kind.startswith(("float", "bfloat"))
    elif is_tensor(value):
        kind = str(value.dtype).removeprefix("torch.")
        if value.is_meta:
            kind += " without values (on the meta device)"
        elif value.layout is not sys.modules["torch"].strided:
            kind = f"sparse {kind}"
        else:
            plain = value.dtype.is_floating_point
    if not plain:
        raise ValueError(
            "Weights must be dense floating-point tensors. Received: "
            f'"{name}" of kind {kind}. Convert it in PyTorch first, with '
            ".dequantize(), .to_dense() or .float()."
        )
    wide = "float64" if kind == "float64" else "float32"
    if not isinstance(value, np.ndarray):
        # NumPy has no bfloat16.
        value = value.detach().to("cpu", getattr(sys.modules["torch"], wide))
        value = value.numpy()
    # Always a copy: JAX would share memory with the caller's array.
    return np.array(value, wide)


def _read_file(path: str) -> Any:
    if not os.path.isfile(path):
        folder = ", which is a folder" if os.path.isdir(path) else ""
        raise ValueError(
            f"`source` must be a file that exists. Received: "
            f'source="{path}"{folder}'
        )
    with open(path, "rb") as file:
        start = file.read(64)
    head = start[:9]
    for mark, kind in PLACEHOLDERS.items():
        if start.lstrip().lower().startswith(mark):
            raise ValueError(
                "`source` must be a checkpoint that PyTorch or safetensors "
                f'wrote. Received: source="{path}", which is {kind}'
            )
    if not head:
        raise ValueError(
            "`source` must be a checkpoint that PyTorch or safetensors "
            f'wrote. Received: source="{path}", which is empty'
        )
    # By content, since PyTorch's files have many endings: safetensors begins
    # with the length of its header, then the header in JSON.
    if head[8:] == b"{":
        return _read_safetensors(path)
    return _read_torch(path, start)


def _read_safetensors(path: str) -> Any:
    # Its NumPy reader does not support bfloat16.
    _checks.require("torch", extra="torch")
    safetensors = _checks.require("safetensors.torch", extra="torch")
    try:
        return safetensors.load_file(path, device="cpu")
    except Exception as error:
        raise _damaged(path) from error


def _read_torch(path: str, start: bytes) -> Any:
    try:
        torch = _checks.require("torch", extra="torch")
    except ImportError:
        if not start.startswith(legacy.START):
            raise
        torch = None
    if _is_torchscript(path):
        raise ValueError(
            "`source` must contain only tensors. Received: "
            f'source="{path}", a TorchScript program. If you trust it, load '
            "it with torch.jit.load(path) and pass its state_dict()."
        )
    try:
        with warnings.catch_warnings():
            # About how the file was written: the user cannot act on them.
            warnings.simplefilter("ignore")
            if torch is None:
                return legacy.load(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise many kinds of errors.
    except Exception as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if torch is None and refused and refused[1].startswith("torch."):
            # PyTorch may know it to be harmless.
            _checks.require("torch", extra="torch")
        if refused is None:
            raise _damaged(path) from error
        raise ValueError(
            "`source` must contain only tensors and plain values. Received: "
            f'source="{path}", which asks for `{refused[1]}`: a Python '
            "object such as a whole pickled module, or code. It was not run. "
            "If you trust the file, load it with torch.load(path, "
            "weights_only=False) and pass the state dict (of a module: "
            "module.state_dict())."
        ) from error


def _is_torchscript(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # Not a zip file, or a damaged one, which PyTorch will refuse.
    except Exception:
        return False
    return any(name.endswith("/constants.pkl") for name in names)


def _damaged(path: str) -> ValueError:
    return ValueError(
        "`source` must be a complete checkpoint that PyTorch or safetensors "
        f'wrote. Received: source="{path}", which is damaged, cut short or '
        "of another kind. Download the file again, or load it yourself and "
        "pass its state dict."
    )


def _state_dict(content: Any, received: str) -> Mapping[str, Any]:
    """Returns the innermost mapping that holds the tensors."""
    if isinstance(content, Mapping):
        for holder in HOLDERS:
            if isinstance(content.get(holder), Mapping):
                return _state_dict(content[holder], received)
        if any(is_tensor(value) for value in content.values()):
            return content
        keys = ", ".join(
            f"{_checks.quoted(key)} ({type(value).__name__})"
            for key, value in list(content.items())[:5]
        )
        found = f"a mapping with the keys {keys}" if keys else "nothing"
    else:
        found = f"an object of type {type(content).__name__}"
    raise ValueError(
        "`source` must contain a state dict: PyTorch tensors or NumPy arrays "
        'by name, at the top level or under "state_dict" or "model". '
        f"Received: {received}, which contains {found}"
    )


def is_tensor(value: Any) -> bool:
    """Returns whether `value` is a NumPy array or a PyTorch tensor."""
    # PyTorch is imported wherever one of its tensors exists.
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (
        torch is not None and isinstance(value, torch.Tensor)
    )


def _clean(state_dict: Mapping[str, Any], received: str) -> dict[str, Any]:
    """Removes counters, and the parts of names that wrappers add."""
    names = {}
    for name in state_dict:
        parts = [part for part in str(name).split(".") if part not in WRAPPERS]
        if parts and parts[-1] not in COUNTERS:
            names[name] = ".".join(parts)
    while names:
        first = {name.split(".")[0] for name in names.values()}
        if len(first) > 1 or not first <= HOLDING:
            break
        names = {key: name.split(".", 1)[-1] for key, name in names.items()}
    clean = {name: state_dict[key] for key, name in names.items()}
    if len(clean) < len(names):
        raise ValueError(
            "`source` must contain one network. Received: "
            f"{received}, where names differ only by the prefixes of wrappers "
            '("module.", "_orig_mod.")'
        )
    return clean
