"""Networks that workers train: how many, killed, refused."""

import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import types

import keras
import pretended
import pytest
from data_checks import arrays
from keras import layers
from study_checks import (
    GATED,
    NARROW,
    content_of,
    narrow,
    planned,
    statuses,
)

from cbam_keras import _files, study, training
from cbam_keras.study.plans.numerics import read_numerics, set_numerics
from cbam_keras.study.running import workers
from cbam_keras.study.running.workers import part_of_machine, time_left

pytest.importorskip("cloudpickle", reason="gives networks to workers")
# NumPy warns of what Keras does, and `pytest.warns` would report that.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(few_digits, monkeypatch, request):
    """Trains nothing, except where tests start processes."""
    if not request.node.get_closest_marker("slow"):
        pretended.install(monkeypatch)


LOCK = threading.Lock()
POOL = concurrent.futures.ThreadPoolExecutor()
HELD = study.Variant("held", lambda data: narrow(data) if LOCK else None)


@pytest.mark.parametrize(
    ("variant", "options", "error", "message"),
    [
        (NARROW, {"workers": 0}, ValueError, "`workers` must be a positive"),
        (NARROW, {"executor": 2}, TypeError, "a concurrent.futures.Executor"),
        (NARROW, {"executor": POOL}, ValueError, "so `workers` must be 1"),
        (HELD, {}, TypeError, "can be pickled"),
    ],
)
def test_workers_that_cannot_be_are_refused(
    variant, options, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        study.run(planned(variant), tmp_path, **{"workers": 2, **options})


# Processes that end before they train: they run other code than ours.


def dying(code, output, **options):
    """Returns what is said of processes that run code in place of ours."""
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(RuntimeError, match="repeat the call") as caught,
    ):
        patch.setattr(workers, "SCRIPT", f"import os, sys\n{code}")
        patch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.05)
        study.run(planned(NARROW, GATED), output, **options)
    assert content_of(output)["outcomes"] == []
    assert not list(output.glob(".lock-*"))
    return str(caught.value)


def test_tasks_that_die_before_they_train_end_the_run(tmp_path, capsys):
    code = "os.kill(os.getpid(), 9)"
    message = dying(code, tmp_path, executor=POOL)
    assert "stopped by SIGKILL (no message)" in message
    assert "before it trained a network" in capsys.readouterr().out
    # The same call resumes.
    assert study.run(planned(NARROW, GATED), tmp_path).runs


class Ended:
    """A worker, or the task of an executor, that has ended."""

    def __init__(self, status, *lines):
        errors = "\n".join(lines).encode()
        self.end = subprocess.CompletedProcess([], status, stderr=errors)

    def result(self):
        return self.end


START_UP = (
    "WARNING: All log messages before absl::InitializeLog() is called are "
    "written to STDERR",
    "I0000 00:00:1796055110.61 7420 port.cc:153] oneDNN custom operations are "
    "on. To turn them off, set `TF_ENABLE_ONEDNN_OPTS=0`.",
    "2026-11-30 12:00:00.123456: I tensorflow/core/platform/cpu.cc:210] This",
    "To enable the following instructions: AVX2 FMA, rebuild TensorFlow",
    "E0000 00:00:1796056509.0 7420 cuda_platform.cc:52] failed call to cuInit",
)


def test_a_network_that_ends_two_processes_is_given_up(tmp_path, capsys):
    plan = planned(NARROW, GATED)
    queue = study.Queue.of(plan, tmp_path)
    with queue.folder.locked():
        queue.folder.add({})
    started = workers._Workers(queue, 2, None, b"")
    trains = f"{workers.TRAINS}narrow-seed0"
    killed = Ended(
        *(-signal.SIGKILL, f"{workers.TRAINS}gated-seed0", "a warning"),
        *(trains, *START_UP, ""),
    )
    started._check_end(killed)
    started._give_up()
    assert len(queue.missing()) == 2
    # Windows has no signals.
    started._check_end(Ended(2**31, trains, *START_UP, "F0000 no memory"))
    with queue.folder.claim("narrow", queue.study.runs[0]):
        # Another worker tries it.
        started._give_up()
    assert len(queue.missing()) == 2
    started._give_up()
    printed = capsys.readouterr().out
    assert "narrow-seed0: its worker stopped by SIGKILL (no message)" in printed
    assert "oneDNN" not in printed
    ((variant, run),) = queue.missing()
    outcome = queue.folder.outcome("narrow", run)
    assert variant.name == "gated" and outcome.status == "error"
    assert outcome.message.startswith("2 processes that trained it were killed")
    assert "exit status 2147483648 (F0000 no memory)" in outcome.message
    # The same call tries it again.
    assert statuses(study.run(plan, tmp_path)) == ["finished", "finished"]


@pytest.mark.parametrize(
    ("measured", "missing", "processes", "words"),
    [
        ({}, ["a"], 1, ""),
        ({"a": [9]}, [], 1, ""),
        ({"a": [9, 11]}, ["a"] * 6, 1, ", less than a minute left"),
        ({"a": [50, 70]}, ["a"] * 3, 1, ", about 3 min left"),
        # Each variant by its own, those of which none has ended by the mean.
        ({"a": [60], "b": [180]}, ["a", "b"], 1, ", about 4 min left"),
        ({"a": [60, 60], "b": [180]}, ["c"], 1, ", about 2 min left"),
        ({"a": [600]}, ["a"] * 4, 2, ", about 20 min left"),
        # The last one is trained by one process.
        ({"a": [600]}, ["a"], 4, ", about 10 min left"),
        ({"a": [7200]}, ["a"] * 3, 1, ", about 6 h left"),
    ],
)
def test_the_time_left_is_that_of_networks_that_ended(
    measured, missing, processes, words
):
    assert time_left(measured, missing, processes) == words


def test_lines_of_networks_have_the_time_left(tmp_path, capsys, monkeypatch):
    now = itertools.count(0, 300)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    study.run(planned(NARROW, GATED, seeds=(0, 1)), tmp_path)
    titles = re.findall(r"\((\d of 4.*?)\)", capsys.readouterr().out)
    assert titles[0] == "1 of 4"
    assert titles[1:] == [
        f"{number} of 4, about {left} min left"
        for number, left in ((2, 15), (3, 10), (4, 5))
    ]


def test_a_line_of_a_worker_has_the_time_left(tmp_path, capsys, monkeypatch):
    clock = types.SimpleNamespace(time=iter((0, 120, 600)).__next__)
    monkeypatch.setattr(workers, "time", clock)
    plan = planned(NARROW, GATED, seeds=(0, 1))
    queue = study.Queue.of(plan, tmp_path)
    started = workers._Workers(queue, 2, None, b"")
    (first, run), *rest = queue.missing()
    with queue.folder.claim(first.name, run):
        started._print_progress()
    assert capsys.readouterr().out == ""
    with queue.folder.claim(rest[0][0].name, rest[0][1]):
        started._print_progress()
    queue.train_next()
    capsys.readouterr()
    with queue.folder.claim(rest[0][0].name, rest[0][1]):
        started._print_progress()
    # It took 600 seconds, two are trained at a time, and three are left.
    line = r"(?s)^narrow-seed0: .*accuracy .* \(1 of 4, about 15 min left\)$"
    assert re.match(line, capsys.readouterr().out.strip())


# Not of the current folder, and long.
LAST_WORDS = """
import queue
sys.stderr.write('x' * 10**6 + '\\n')
sys.exit(os.environ['TF_NUM_INTEROP_THREADS'])
"""


def test_workers_have_their_share_of_threads_and_last_words(
    tmp_path, monkeypatch
):
    (tmp_path / "queue.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    message = dying(LAST_WORDS, tmp_path / "run", workers=2)
    assert len(message) < 20_000
    end = re.search(r"exit status 1 \(x+ (\d+)\)", message)
    given = os.environ | part_of_machine(0, 2, os.environ)
    assert end[1] == given["TF_NUM_INTEROP_THREADS"]


def test_what_a_worker_is_refused_ends_the_run_at_once(tmp_path, monkeypatch):
    code = (
        "import sys\nprint('of a library\\nImportError: mine', file=sys.stderr)"
        f"\nsys.exit({workers.REFUSED_STATUS})"
    )
    monkeypatch.setattr(workers, "SCRIPT", code)
    with pytest.raises(ValueError, match="^ImportError: mine$"):
        study.run(planned(NARROW), tmp_path, workers=2)


def test_a_worker_that_sees_no_run_is_refused(tmp_path, capsys):
    queue = study.Queue.of(planned(NARROW), tmp_path)
    content = workers._pickle(queue)
    with pytest.raises(SystemExit) as ended:
        workers.main(content)
    assert ended.value.code == workers.REFUSED_STATUS
    assert "one folder that all workers share" in capsys.readouterr().err


def test_a_worker_of_another_version_is_refused(tmp_path, capsys, monkeypatch):
    queue = study.Queue.of(planned(NARROW), tmp_path)
    queue.folder.running.touch()
    content = workers._pickle(queue)
    monkeypatch.setattr(workers, "versions", lambda: {"keras": "2.0"})
    with pytest.raises(SystemExit):
        workers.main(content)
    assert (
        "must have the same versions as the process" in capsys.readouterr().err
    )


# A setting of each backend, and another value than its own.
OF_BACKEND = {
    "jax": {"jax_default_matmul_precision": "float32", "jax_enable_x64": True},
    "tensorflow": {"tensor_float_32": False},
    "torch": {"float32_matmul_precision": "high"},
}[keras.backend.backend()]
OTHER = OF_BACKEND | {
    "floatx": "float64",
    "epsilon": 1e-3,
    "image_data_format": "channels_first",
    "dtype_policy": "mixed_bfloat16",
}


@pytest.fixture
def restored():
    """Restores what tests set, which would change others."""
    before = read_numerics()
    yield
    set_numerics(before)


@pytest.mark.usefixtures("restored")
@pytest.mark.every_backend
def test_workers_get_what_changes_numbers(tmp_path):
    queue = study.Queue.of(planned(NARROW), tmp_path)
    before = read_numerics()
    set_numerics(OTHER)
    content = workers._pickle(queue)
    set_numerics(before)
    workers._read(content)
    found = read_numerics()
    found["dtype_policy"] = found["dtype_policy"].name
    assert {name: found.get(name) for name in OTHER} == OTHER


@pytest.mark.usefixtures("restored")
@pytest.mark.every_backend
@pytest.mark.parametrize("name", OTHER)
def test_a_run_is_resumed_with_the_same_numerics(name, tmp_path):
    study.run(planned(NARROW), tmp_path)
    value = OTHER[name]
    set_numerics({name: value})
    changed = rf"changed: .*{name}.* was .*, is {value!r}"
    with pytest.raises(ValueError, match=changed):
        study.run(planned(NARROW, GATED), tmp_path)


def test_a_run_that_does_not_tell_its_numerics_is_resumed(tmp_path):
    study.run(planned(NARROW), tmp_path)
    written = json.loads((tmp_path / "study.json").read_text())
    # As version 0.6.0 wrote it.
    del written["settings"]["numerics"]
    (tmp_path / "study.json").write_text(json.dumps(written))
    assert study.run(planned(NARROW, GATED), tmp_path).runs
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["settings"]["numerics"]["floatx"] == "float32"


# Executors.


def test_an_executor_that_fails_ends_the_run(tmp_path):
    # Its workers cannot start.
    lost = concurrent.futures.ThreadPoolExecutor(
        initializer=int, initargs=("no number",)
    )
    ended = concurrent.futures.ThreadPoolExecutor()
    ended.shutdown()
    for pool in (lost, ended):
        with pytest.raises(RuntimeError, match="no more tasks .* call resumes"):
            study.run(planned(NARROW), tmp_path, executor=pool)
    assert content_of(tmp_path)["outcomes"] == []


@pytest.mark.slow
def test_workers_of_a_killed_run_end(tmp_path):
    task = study.Classification(arrays())
    recipe = training.Recipe(epochs=10_000)
    queue = study.Queue.of(planned(NARROW, task=task, recipe=recipe), tmp_path)
    started = workers._Workers(queue, 1, None, workers._pickle(queue))
    # The system takes this lock of a run from a process that is killed.
    with _files.locked(queue.folder.running):
        worker = started._start(0)
        while not list(tmp_path.glob("*/state.json")):
            assert not worker.done()
            time.sleep(0.1)
    assert worker.wait(60) == 0
    worker.cancel()


class Killing(study.Classification):
    """Kills the first process that has trained an epoch."""

    def load(self, recipe):
        images = super().load(recipe)
        set_epoch, mark = images.set_epoch, pathlib.Path(os.environ["MARK"])

        def killing(epoch):
            if epoch == 1 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            set_epoch(epoch)

        object.__setattr__(images, "set_epoch", killing)
        return images


@keras.saving.register_keras_serializable("here")
class Script(layers.ReLU):
    """As if a script defined it."""

    __module__ = "__main__"


@keras.saving.register_keras_serializable("here")
class Noise(layers.GaussianNoise):
    """As if a script defined this one."""

    __module__ = "__main__"


@pytest.mark.slow
def test_another_takes_the_place_of_a_killed_worker(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    script = study.Variant("script", lambda x: narrow(x, attention=[Script()]))
    plan = planned(
        script,
        task=Killing(arrays(per_class=10)),
        recipe=training.Recipe(epochs=2, batch_size=10, augment=[Noise(1.0)]),
    )
    resumed = study.run(plan, tmp_path / "resumed", workers=2)
    printed = capsys.readouterr().out
    assert "script-seed0: its worker stopped by SIGKILL (no message)" in printed
    assert re.search(r"script-seed0: .* \(1 of 1\)", printed)
    alone = study.run(plan, tmp_path / "alone")
    found, losses = (
        [row["val_loss"] for row in results.outcomes[0].history]
        for results in (resumed, alone)
    )
    # Other threads, so sums in another order.
    assert found == pytest.approx(losses, abs=1e-5)


# How many processes train, and with how many cores.


def test_workers_have_as_many_threads_each(monkeypatch):
    monkeypatch.setattr(workers, "accelerators", lambda _: [])
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    parts = [workers.part_of_machine(number, 3, {}) for number in range(3)]
    assert {part["OMP_NUM_THREADS"] for part in parts} == {"2"}
