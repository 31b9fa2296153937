"""Writes the results of a benchmark: a JSON file, and tables."""

import os
import pathlib
import platform

import keras

from benchmarks import modes, timing
from cbam_keras import _files, _terminal, study


def write(name, options, record, tables, packages=()):
    """Prints tables, and writes them and a record into the output folder.

    Args:
        name: String, that of the benchmark.
        options: The parsed command line.
        record: Dictionary of what was measured.
        tables: List of strings.
        packages: Modules besides the backend that were measured.
    """
    versions = study.versions()
    versions |= {package.__name__: package.__version__ for package in packages}
    conditions = {
        **vars(options),
        "versions": versions,
        "devices": _devices(),
        "cores": _cores(),
        "threads": _threads(packages),
    }
    folder = _files.output_folder(conditions.pop("output"))
    text = "\n\n".join((_heading(name, conditions), *tables)) + "\n"
    print(text, flush=True)
    stem = f"{name}-{options.mode}"
    record = {"benchmark": name, **conditions, **record}
    _files.write_json(folder / f"{stem}.json", record)
    with _files.replacing(folder / f"{stem}.md") as path:
        path.write_text(text, encoding="utf-8")


def table(rows):
    """Returns rows of text, by their headings, as a Markdown table."""
    sides = _terminal.Table("", rows).sides
    cells = [list(row.values()) for row in rows]
    return _terminal.render(sides, [cells], markdown=True)


def times(rows):
    """Returns what `timing.compared` does as a Markdown table."""
    return table(
        [
            {
                "what": row["what"],
                "kind": row["kind"],
                "ms (10 to 90 %)": timing.milliseconds(row),
                "added ms": timing.digits(1000 * row["added"]),
                "ratio": f"{row['ratio']:.2f}",
            }
            for row in rows
        ]
    )


def _heading(name, record):
    versions = ", ".join(map(" ".join, record["versions"].items()))
    return (
        f"## {name}, {record['mode']}\n\n"
        f"{', '.join(record['devices'])}; {record['cores']} cores. {versions}."
    )


def _devices():
    if not modes.on_gpu():
        return [_processor()]
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return [
            tf.config.experimental.get_device_details(device)["device_name"]
            for device in tf.config.list_physical_devices("GPU")
        ]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(index) for index in range(count)]


def _processor():
    # `platform` knows the family alone on Linux.
    described = pathlib.Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores():
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _threads(packages):
    """Returns how many threads each framework takes; 0 leaves it to it."""
    backend = keras.config.backend()
    threads = {}
    if backend == "tensorflow":
        import tensorflow as tf

        threads[backend] = (
            tf.config.threading.get_intra_op_parallelism_threads()
        )
    if backend == "torch" or any(x.__name__ == "torch" for x in packages):
        import torch

        threads["torch"] = torch.get_num_threads()
    return threads
