"""Which tests run, in which order; `keras_fixtures.py` has what they need."""

import collections
import os

# Read when TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that run side by side would wait for each other's threads.
    for threads in ("INTRAOP_THREADS", "INTEROP_THREADS"):
        os.environ.setdefault(f"TF_NUM_{threads}", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    # pytest-xdist would start with the files that hold most tests.
    config.option.loadscopereorder = False
    # A process that only hands out tests to others would keep them waiting
    # while it imports Keras.
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("keras_fixtures")


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        put_slow_files_first(items)
    if "exhaustive" not in config.option.markexpr:
        deselect_marked(config, items, "exhaustive")


def put_slow_files_first(items):
    """Sorts files so that no process is left alone with a slow one."""
    slow = collections.Counter(
        item.path for item in items if item.get_closest_marker("slow")
    )
    tests = collections.Counter(item.path for item in items)
    items.sort(
        key=lambda item: (-slow[item.path], -tests[item.path], item.path)
    )


def deselect_marked(config, items, marker):
    chosen = {item for item in items if item.get_closest_marker(marker)}
    config.hook.pytest_deselected(items=[*chosen])
    items[:] = [item for item in items if item not in chosen]
