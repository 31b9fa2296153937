"""Reads files in PyTorch's format from before version 1.6, without PyTorch.

`EfficientNetLite0(weights="imagenet")` needs it: the package with its weights,
the extra `pretrained`, holds such a file, and TensorFlow and JAX read it.

Such a file is a sequence of pickles: a magic number, the protocol, the sizes of
types, the content, whose tensors refer to storages, and the keys of the
storages. The values of each storage follow. The pickles may name only what a
state dict consists of.
"""

import os
import pickle
from collections.abc import Callable

import numpy as np

# The magic number, with which such a file begins.
FIRST_BYTES = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def _tensor(storage, offset, shape, strides, *rest):
    """Returns a view of a storage; offset and strides count values."""
    # NumPy refuses views that exceed the storage.
    width = storage.itemsize
    steps = [width * stride for stride in strides]
    return np.ndarray(shape, storage.dtype, storage, width * offset, steps)


# Pickles may name only what a state dict consists of.
PICKLED_NAMES: dict[str, Callable | np.dtype] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.LongStorage": np.dtype("<i8"),
}


# Python's unpickler in C allocates as much memory as a file asks for. This one
# in Python does not.
class _Unpickler(pickle._Unpickler):
    """Reads one pickle of the file, without running any code in it."""

    # The storages that tensors refer to, by their keys.
    storages: dict[str, np.ndarray]
    # How many bytes of storages the file can still hold.
    bytes_left: int
    # Attributes of objects, such as the metadata of a state dict, are dropped.
    dispatch = pickle._Unpickler.dispatch | {
        pickle.BUILD[0]: lambda self: self.stack.pop()
    }

    def find_class(self, module, name):
        if f"{module}.{name}" not in PICKLED_NAMES:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return PICKLED_NAMES[f"{module}.{name}"]

    def persistent_load(self, pid):
        kind, dtype, key, _, size, view = pid
        if (kind, view) != ("storage", None) or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("no storage")
        if key not in self.storages:
            self.bytes_left -= size * dtype.itemsize
            if self.bytes_left < 0:
                raise pickle.UnpicklingError(f"storage {key}")
            self.storages[key] = np.empty(size, dtype)
        return self.storages[key]


def load_legacy(path: str) -> object:
    """Returns the content, with arrays for tensors.

    Damaged files raise errors of many classes.
    """
    with open(path, "rb") as file:
        for _ in ("magic number", "protocol", "sizes of types"):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        unpickler.storages = {}
        unpickler.bytes_left = os.path.getsize(path)
        content = unpickler.load()
        for key in _Unpickler(file).load():
            values = unpickler.storages.pop(key)
            size = int.from_bytes(file.read(8), "little")
            if (
                size != values.size
                or file.readinto(values.data) < values.nbytes
            ):
                raise EOFError(f"storage {key}")
    if unpickler.storages:
        raise EOFError("storages without values")
    return content
