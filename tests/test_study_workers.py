"""Networks that workers train: how many, killed, refused."""

import concurrent.futures
import functools
import os
import pathlib
import re
import signal
import threading
import time

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
from cbam_keras.study.running import machine, workers
from cbam_keras.study.running.machine import part_of_machine

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
    ("variant", "options", "message"),
    [
        (NARROW, {"workers": 0}, "`workers` must be a positive"),
        (NARROW, {"executor": 2}, "a concurrent.futures.Executor"),
        (NARROW, {"executor": POOL}, "so `workers` must be 1"),
        (HELD, {}, "can be given to other processes"),
    ],
)
def test_workers_that_cannot_be_are_refused(
    variant, options, message, tmp_path
):
    with pytest.raises((ValueError, TypeError), match=message):
        study.run(planned(variant), tmp_path, **{"workers": 2, **options})


# Processes that end before they train: they run other code than ours.


def dying(code, output, **options):
    """Returns what is said of processes that run code in place of ours."""
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(RuntimeError, match="the same call resumes") as caught,
    ):
        patch.setattr(workers, "START", f"import os, sys\n{code}")
        patch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.05)
        study.run(planned(NARROW, GATED), output, **options)
    assert content_of(output)["outcomes"] == []
    assert not list(output.glob(".lock-*"))
    return str(caught.value)


def test_a_task_that_dies_ends_the_run(tmp_path):
    code = "os.kill(os.getpid(), 9)"
    message = dying(code, tmp_path, executor=POOL)
    assert "ended by SIGKILL (no message)" in message
    # The same call resumes.
    assert study.run(planned(NARROW, GATED), tmp_path).runs


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
    monkeypatch.setattr(workers, "START", code)
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
    assert "must have the versions of the process" in capsys.readouterr().err


def test_workers_get_what_is_set_in_keras(tmp_path, monkeypatch):
    given, received = {}, {}
    queue = study.Queue.of(planned(NARROW), tmp_path)
    for name in workers.CONFIGURED:
        given[name] = f"my {name}"
        monkeypatch.setattr(keras.config, name, lambda x=given[name]: x)
    content = workers._pickle(queue)
    for name in workers.CONFIGURED:
        put = functools.partial(received.__setitem__, name)
        monkeypatch.setattr(keras.config, f"set_{name}", put)
    workers._read(content)
    assert received == given and {"dtype_policy", "floatx"} <= {*given}


def test_a_run_is_resumed_under_the_same_policy(tmp_path):
    study.run(planned(NARROW), tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(ValueError, match="dtype_policy.name was 'float32'"):
        study.run(planned(NARROW, GATED), tmp_path)


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
    assert worker.process.wait(60) == 0
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
def test_what_killed_workers_trained_is_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    plan = planned(
        study.Variant("script", lambda x: narrow(x, attention=[Script()])),
        task=Killing(arrays(per_class=10)),
        recipe=training.Recipe(epochs=2, batch_size=10, augment=[Noise(1.0)]),
    )
    with pytest.raises(RuntimeError, match="ended by SIGKILL"):
        study.run(plan, tmp_path / "resumed", workers=2)
    resumed = study.run(plan, tmp_path / "resumed")
    assert statuses(resumed) == ["finished"]
    alone = study.run(plan, tmp_path / "alone")
    losses = [row["val_loss"] for row in alone.history]
    # Other threads, so sums in another order.
    found = [row["val_loss"] for row in resumed.history]
    assert found == pytest.approx(losses, abs=1e-5)


# How many processes train, and with how many cores.


def test_workers_have_as_many_threads_each(monkeypatch):
    monkeypatch.setattr(machine, "accelerators", lambda _: [])
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    parts = [machine.part_of_machine(number, 3, {}) for number in range(3)]
    assert {part["OMP_NUM_THREADS"] for part in parts} == {"2"}
