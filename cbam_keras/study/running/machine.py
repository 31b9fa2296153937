"""The part of this machine that each worker gets."""

from collections.abc import Mapping

from cbam_keras import _checks
from cbam_keras.study.files.machines import list_gpus


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
        # All have as many threads: the last digits depend on it.
        cores = _checks.require("joblib", extra="plot").cpu_count()
        threads = str(max(1, cores // workers))
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
    return [str(index) for index in range(len(list_gpus()))]
