"""Which tests run, in which order; `keras_fixtures.py` has what they need."""

import collections
import json
import os
import pathlib

# Read when TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that run side by side would wait for each other's threads.
    for threads in ("INTRAOP_THREADS", "INTEROP_THREADS"):
        os.environ.setdefault(f"TF_NUM_{threads}", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# The seconds of each file in an earlier run of the default tests.
SECONDS = pathlib.Path(__file__).with_name("seconds.json")


def pytest_addoption(parser):
    parser.addoption(
        "--record-seconds",
        action="store_true",
        help="write the seconds of each file to tests/seconds.json, by which "
        "files are sorted where several processes run them",
    )


def pytest_configure(config):
    # pytest-xdist runs the tests in other processes, and reports here.
    is_worker = hasattr(config, "workerinput")
    if config.getoption("record_seconds") and not is_worker:
        config.pluginmanager.register(Recorder())
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
    tests = collections.Counter(item.path for item in items)
    recorded = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}

    def seconds(path):
        # A file that was not recorded has tests of a quarter of a second.
        return recorded.get(path.name, tests[path] / 4)

    items.sort(key=lambda item: (-seconds(item.path), item.path))


class Recorder:
    """Plugin that records the seconds of each file, with its fixtures."""

    def __init__(self):
        self.seconds = collections.Counter()

    def pytest_runtest_logreport(self, report):
        name = pathlib.PurePath(report.nodeid.partition("::")[0]).name
        self.seconds[name] += report.duration

    def pytest_sessionfinish(self):
        rounded = {name: round(x, 1) for name, x in self.seconds.items()}
        in_order = sorted(rounded.items(), key=lambda each: -each[1])
        SECONDS.write_text(json.dumps(dict(in_order), indent=1) + "\n")


def deselect_marked(config, items, marker):
    chosen = {item for item in items if item.get_closest_marker(marker)}
    config.hook.pytest_deselected(items=[*chosen])
    items[:] = [item for item in items if item not in chosen]
