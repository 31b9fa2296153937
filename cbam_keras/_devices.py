"""Training on several devices, each with its part of every batch."""

import atexit
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Mapping

import keras

from cbam_keras import _checks, _inspection, _terminal


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One of several processes that train a network together under JAX.

    For `train(distribute=)`. Every process makes the same call, except for
    its own `process`, with the same output folder, to which process 0 writes.

    Args:
        address: String, `"host:port"`, where the others reach process 0. The
            port must be free there.
        processes: Positive integer, the number of processes.
        process: Integer from 0 to `processes - 1`, the number of this one.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Distribution("10.0.0.1:29400", processes=2, process=1).process
        1
    """

    address: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r".+:\d+", str(self.address)):
            raise ValueError(
                "`address` must be host:port, as node17:29400. Received: "
                f"address={self.address!r}"
            )
        _checks.positive_integer("processes", self.processes)
        if _checks.seed("process", self.process) >= self.processes:
            raise ValueError(
                "`process` must be an integer from 0 to `processes` - 1. "
                f"Received: {self}"
            )


class Devices:
    """The devices that train a network; by default one device of one process.

    `index` is the number of this process, and `count` the number of devices
    of all `processes`.
    """

    index = 0
    processes = 1
    count = 1

    @property
    def writes(self):
        """Whether this process writes files and prints."""
        return self.index == 0

    def scope(self):
        """Context in which networks are built and trained on the devices."""
        return _terminal.no_retracing()

    def fitting(self, model):
        """Context in which a model is prepared for `fit`."""
        return contextlib.nullcontext()

    def save_scope(self):
        """Context for saving during `fit`, which one process does alone."""
        return contextlib.nullcontext()

    def wait(self):
        """Returns when every process has called this."""

    def share(self, images):
        """Returns this process' part of `ImageData`, in batches that divide."""
        if self.count == 1:
            return images
        if images.batch_size % self.count:
            raise ValueError(
                f"`batch_size` must be a multiple of the {self.count} devices "
                f"of each batch. Received: batch_size={images.batch_size}"
            )
        shared = images.sharded(self.index, self.processes, self.count)
        # Keras divides a loss by the number of all examples, including those
        # of weight 0 that fill up the last batch.
        weighted = {}
        for split in ("validation", "test"):
            size = images.sizes[split]
            factor = -(-size // self.count) * self.count / size
            if factor != 1:
                weighted[split] = _Weighted(getattr(shared, split), factor)
        return dataclasses.replace(shared, **weighted)


SINGLE_DEVICE = Devices()


class _Weighted(keras.utils.PyDataset):
    """Batches with their sample weights multiplied by a factor."""

    def __init__(self, batches, factor):
        super().__init__()
        self.batches, self.factor = batches, factor

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, labels, weights = self.batches[index]
        return images, labels, weights * self.factor


class _Mirrored(Devices):
    """The devices of this machine under TensorFlow."""

    def __init__(self, names):
        self.names = names
        self.count = len(names)
        self.normalizing = []

    def scope(self):
        tf = _checks.require("tensorflow", extra="tensorflow")
        return tf.distribute.MirroredStrategy(self.names).scope()

    def fitting(self, model):
        # Otherwise each device has statistics of its own part of each batch,
        # and only those of the first device are saved.
        self.normalizing = [
            layer
            for layer in _inspection.layers_within(model)
            if isinstance(layer, keras.layers.BatchNormalization)
            and not layer.synchronized
        ]
        return self._synchronized(True)

    def save_scope(self):
        # Other backends do not load a layer that is saved as synchronized.
        return self._synchronized(False)

    @contextlib.contextmanager
    def _synchronized(self, value):
        for layer in self.normalizing:
            layer.synchronized = value
        try:
            yield
        finally:
            for layer in self.normalizing:
                layer.synchronized = not value


class _Parallel(Devices):
    """All devices of all processes under JAX."""

    def __init__(self, jax):
        self.index = jax.process_index()
        self.processes = jax.process_count()
        self.count = jax.device_count()

    @contextlib.contextmanager
    def scope(self):
        parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
        with parallel.scope():
            if self.processes == 1:
                yield
                return
            _Connection.is_complete = False
            self.wait()
            yield
            self.wait()
            _Connection.is_complete = True

    @contextlib.contextmanager
    def save_scope(self):
        # Keras creates variables when it saves a model, for example, and
        # with a distribution each needs all processes.
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def wait(self):
        if self.processes > 1:
            _wait_for_processes()


def find_devices(distribute: bool | Distribution) -> Devices:
    """Returns the devices to train on, connected to the other processes."""
    connect(distribute)
    if not distribute:
        return SINGLE_DEVICE
    if keras.backend.backend() == "jax":
        jax = _checks.require("jax", extra="jax")
        return SINGLE_DEVICE if jax.device_count() == 1 else _Parallel(jax)
    tf = _checks.require("tensorflow", extra="tensorflow")
    # There are several with GPUs, or when the processor is split.
    find = tf.config.list_logical_devices
    names = [device.name for device in find("GPU") or find("CPU")]
    return SINGLE_DEVICE if len(names) == 1 else _Mirrored(names)


class _Connection:
    """The one connection of this process to the others under JAX."""

    distribution: Distribution | None = None
    # Whether every process has reached the end of what they began together.
    is_complete = True


def connect(distribute: bool | Distribution) -> None:
    """Connects this process to the others, before it computes anything."""
    backend = keras.backend.backend()
    several = None
    if not isinstance(distribute, bool) and distribute.processes > 1:
        several = distribute
    known = ("jax",) if several else ("jax", "tensorflow")
    if distribute and backend not in known:
        raise ValueError(
            "`distribute` needs the backend JAX, or TensorFlow for the devices "
            f"of one machine (distribute=True). Received: {distribute=}, "
            f"{backend=}. Set KERAS_BACKEND=jax"
        )
    if several is None or several == _Connection.distribution:
        return
    jax = _checks.require("jax", extra="jax")
    # GPUs have collectives of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would keep SIGTERM from ending the process.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    atexit.register(_leave)
    jax.distributed.initialize(
        several.address, several.processes, several.process
    )
    _Connection.is_complete = False
    # The first computation makes the processes meet again, within two
    # minutes, which is too short where one has more to load.
    _wait_for_processes()
    _Connection.distribution = several


def _wait_for_processes():
    multihost = _checks.require("jax.experimental.multihost_utils", extra="jax")
    multihost.sync_global_devices("cbam_keras")


def _leave():
    if not _Connection.is_complete:
        sys.stdout.flush()
        sys.stderr.flush()
        # JAX's own exit would wait for processes that may be gone.
        os._exit(1)


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
            # Else the first on a device would take all of its memory.
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
