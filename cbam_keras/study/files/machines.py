"""What this machine is: its processor and its GPUs."""

import collections
import os
import pathlib
import platform
import re
import subprocess


def list_gpus() -> list[str]:
    """Returns the names of the GPUs of NVIDIA."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", listed.stdout, re.M)


def describe_machine() -> str:
    """Returns the processor and the GPUs in words."""
    file = pathlib.Path("/proc/cpuinfo")
    # `platform` knows no more than the family on Linux.
    text = file.read_text("utf-8") if file.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.M)
    processor = name[1] if name else platform.processor() or platform.machine()
    gpus = collections.Counter(list_gpus()).items()
    named = [x if count == 1 else f"{count} x {x}" for x, count in gpus]
    return ", ".join([f"{os.cpu_count()} cores of {processor}", *named])
