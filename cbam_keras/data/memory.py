"""Whether batches of images fit into memory, asked before they are made."""

import contextlib
import math
import os
import pathlib

# So many batches are in memory: the one under training, its copy on the device,
# and those that are decoded ahead.
BATCHES = 4
# These files hold the limits of control groups, versions 2 and 1.
LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def check_memory(
    image_shape: tuple[int, ...], batch_size: int, kept: int = 0
) -> None:
    """Raises if batches, float32, and `kept` bytes exceed the memory."""
    needed = kept + BATCHES * batch_size * math.prod(image_shape) * 4
    memory = machine_memory()
    if needed > memory:
        raise ValueError(
            "`image_size` must be such that a few batches fit into memory, "
            f"{memory / 2**30:,.1f} GiB here. Received: batches of "
            f"{batch_size} images {image_shape}, which take about "
            f"{needed / 2**30:,.1f} GiB. Choose a smaller image_size or "
            "batch_size"
        )


def machine_memory() -> float:
    """Returns how many bytes this process may use, infinity if not known."""
    found = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in LIMITS:
        # It may be absent, or hold "max".
        with contextlib.suppress(OSError, ValueError):
            found.append(int(pathlib.Path(path).read_text()))
    return min(found)
