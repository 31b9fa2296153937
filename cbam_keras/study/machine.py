"""The part of this machine that each of several workers gets."""

import os
import subprocess
from collections.abc import Mapping


def part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> tuple[dict[str, str], list[int]]:
    """Returns the variables and cores that are a worker's part of the machine.

    JAX does not count its threads by a variable, but by the cores of its
    process. There are none for GPUs, and where processes have no cores.
    """
    cores: list[int] = []
    if devices := accelerators(environment):
        part = {}
        if workers > len(devices):
            # The first process on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        alone = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
    else:
        if hasattr(os, "sched_getaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            cores = cores[index % len(cores) :: workers]
        threads = str(len(cores) or max(1, (os.cpu_count() or 1) // workers))
        names = "OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"
        part = {f"{name}_THREADS": threads for name in names}
        alone = {}
    part = {k: v for k, v in part.items() if k not in environment}
    return part | alone, cores


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
