"""The workers that this machine has room for, and the part that each gets."""

import importlib.util
import os
import subprocess
from collections.abc import Mapping

import keras

from cbam_keras import _checks

# More workers rarely end sooner, and each takes memory.
MOST_WORKERS = 4
# With more multiply-accumulates in a step, a second core saves a third of the
# time of one process. With a tenth of them it saves nothing.
MACS_OF_SMALL_STEP = 1e9
# Two workers start in the time that so many multiply-accumulates take, and a
# training of no step at all, with its files and its test, in a twentieth of it.
MACS_OF_STARTS = 1e11
MACS_OF_TRAINING = 5e9


def most_workers(networks: int) -> int:
    """Returns how many processes this machine has room for, without a GPU."""
    has_gpu = accelerators(os.environ) or not _computes_on_cpu()
    if has_gpu or not importlib.util.find_spec("cloudpickle"):
        return 1
    return max(1, min(networks, _count_cores(), MOST_WORKERS))


def _computes_on_cpu():
    """Returns whether the backend has neither a GPU nor a TPU."""
    if keras.backend.backend() == "torch":
        return keras.ops.zeros(()).device.type == "cpu"
    devices = keras.distribution.list_devices()
    return all(x.lower().startswith("cpu") for x in devices)


def _count_cores():
    """Returns how many cores this process may use, also in a container."""
    return _checks.require("joblib", extra="plot").cpu_count()


def part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables by which a worker gets its part of the machine."""
    if devices := accelerators(environment):
        part = {}
        if workers > len(devices):
            # The first process on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        alone = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
    else:
        # All have as many: the last digits depend on it.
        threads = str(max(1, _count_cores() // workers))
        names = "OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"
        part = {f"{name}_THREADS": threads for name in names}
        alone = {}
    part = {k: v for k, v in part.items() if k not in environment}
    return part | alone


def accelerators(environment: Mapping[str, str]) -> list[str]:
    """Returns the GPUs that may be used, as CUDA names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line[:4] == "GPU "]
    return [str(index) for index in range(len(lines))]
