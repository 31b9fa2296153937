"""Reading PyTorch checkpoints without executing code in them."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.convert import legacy

# Tensors of PyTorch or arrays, by their names.
Tensors = dict[str, Any]
# Keys of state dicts in training scripts, averaged weights last.
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
# Parts of names added by DataParallel, torch.compile and averaged models.
WRAPPERS = {"module", "_orig_mod"}
# Counters of PyTorch's batch normalization and of averaged models.
COUNTERS = {"num_batches_tracked", "n_averaged"}


def read(source: str | os.PathLike | Mapping) -> Tensors:
    """Returns the tensors of a checkpoint by their names, unwrapped.

    `source` is the path of a file, or a mapping of names to tensors, possibly
    nested in another one, as training scripts save it.
    """
    content: object = source
    if isinstance(source, (str, os.PathLike)):
        content = _read_file(os.fspath(source))
    elif not isinstance(source, Mapping):
        raise TypeError(
            "`source` must be the path of a checkpoint or a mapping of names "
            "to tensors, such as module.state_dict(). Received: source of "
            f"type {type(source).__name__}"
        )
    received = describe_source(source)
    return _clean(_state_dict(content, received), received)


def describe_source(source: str | os.PathLike | Mapping) -> str:
    """Returns the description of a source for messages."""
    if isinstance(source, Mapping):
        return f"source=<a mapping of {len(source)} entries>"
    return f'source="{os.fspath(source)}"'


def to_numpy(value: Any) -> np.ndarray:
    """Returns a tensor as a new float32 or float64 array."""
    wide = "float64" if str(value.dtype).endswith("float64") else "float32"
    if not isinstance(value, np.ndarray):
        # NumPy has no bfloat16.
        value = value.detach().cpu()
        value = (value if wide == "float64" else value.float()).numpy()
    # JAX would share the memory of an array that is not copied.
    return np.array(value, wide)


def _read_file(path: str) -> object:
    """Returns the content of a file of any of the formats."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise _damaged(path)
    # The content decides, since PyTorch's files have many extensions:
    # safetensors begins with the length of its header, then the header in JSON.
    if start[8:9] != b"{":
        return _read_torch(path, start)
    # The NumPy reader of safetensors does not support bfloat16.
    _checks.require("torch", extra="torch")
    safetensors = _checks.require("safetensors.torch", extra="torch")
    try:
        return safetensors.load_file(path, device="cpu")
    except Exception as error:
        raise _damaged(path) from error


def _read_torch(path: str, start: bytes) -> object:
    """Returns the content of a file of PyTorch, by PyTorch if installed."""
    try:
        torch = _checks.require("torch", extra="torch")
    except ImportError:
        if not start.startswith(legacy.FIRST_BYTES):
            raise
        torch = None
    try:
        with warnings.catch_warnings():
            # They are about how the file was written: users cannot act on them.
            warnings.simplefilter("ignore")
            if torch is None:
                return legacy.load_legacy(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise many kinds of errors.
    except Exception as error:
        if torch is None and "GLOBAL torch." in str(error):
            # PyTorch itself may know that this class is harmless.
            _checks.require("torch", extra="torch")
        raise _damaged(path) from error


def _damaged(path: str) -> ValueError:
    """Returns the error for a file that cannot be read, or must not be."""
    return ValueError(
        "`source` must be a complete checkpoint of tensors and plain values, "
        f'written by PyTorch or safetensors. Received: source="{path}", which '
        "is damaged, cut short or of another kind, or asks for Python objects "
        "or code, which were not run. Download the file again, or, if you "
        "trust it, load it with torch.load(path, weights_only=False) and pass "
        "its state dict (of a module: module.state_dict())."
    )


def _state_dict(content, received):
    """Returns the innermost mapping that holds the tensors."""
    kind = f"an object of type {type(content).__name__}"
    while isinstance(content, Mapping):
        inner = [x for x in HOLDERS if isinstance(content.get(x), Mapping)]
        # Tensors of PyTorch, which may not be installed, can be detached.
        if not inner and any(
            isinstance(x, np.ndarray) or hasattr(x, "detach")
            for x in content.values()
        ):
            return content
        keys = [_checks.quoted(key) for key in content]
        kind = f"a mapping with the keys {_checks.first_few(keys)}"
        if not inner:
            break
        content = content[inner[0]]
    raise ValueError(
        "`source` must contain a state dict: PyTorch tensors or NumPy arrays "
        'by name, at the top level or under "state_dict" or "model". '
        f"Received: {received}, which contains {kind}"
    )


def _clean(state_dict, received):
    """Removes counters, and the parts of names that wrappers add."""
    names = {}
    for name in state_dict:
        parts = [part for part in str(name).split(".") if part not in WRAPPERS]
        if parts and parts[-1] not in COUNTERS:
            names[name] = ".".join(parts)
    clean = {name: state_dict[key] for key, name in names.items()}
    if len(clean) < len(names):
        raise ValueError(
            f"`source` must contain one network. Received: {received}, where "
            "names differ only by the prefixes of wrappers "
            '("module.", "_orig_mod.")'
        )
    return clean
