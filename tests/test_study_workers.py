"""Networks that workers train: killed, refused, and what they may do."""

import concurrent.futures
import json
import os
import pathlib
import pickle
import re
import signal
import sys
import threading
import time
import types
import warnings

import keras
import pretended
import pytest
from data_checks import arrays
from folder_checks import Killed
from keras import layers
from study_checks import (
    GATED,
    NARROW,
    WIDE,
    content_of,
    narrow,
    planned,
    statuses,
)

from _cbam_keras_worker import WorkerDied
from cbam_keras import study, training
from cbam_keras.study import worker
from cbam_keras.study.machine import part_of_machine

# Of NumPy, by Keras; `pytest.warns` reports what it does not expect.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(few_digits, monkeypatch, request):
    """Trains nothing, except where tests start processes."""
    if not request.node.get_closest_marker("slow"):
        pretended.install(monkeypatch)


LOCK = threading.Lock()
POOL = concurrent.futures.ThreadPoolExecutor()
HELD = study.Variant("held", lambda data: narrow(data, LOCK))


@pytest.mark.parametrize(
    ("variant", "options", "error", "message"),
    [
        (NARROW, {"workers": 0}, ValueError, "`workers` must be a positive"),
        (NARROW, {"executor": 2}, TypeError, "a concurrent.futures.Executor"),
        (NARROW, {"executor": POOL}, ValueError, "so `workers` must be 1"),
        (HELD, {}, TypeError, "can be given to other processes"),
    ],
)
def test_workers_that_cannot_be_are_refused(
    variant, options, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        study.run(planned(variant), tmp_path, **{"workers": 2, **options})


def dying(code, output, *variants):
    """Returns how workers ended that run code in place of ours."""
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(record=True) as warned,
        pytest.raises(WorkerDied) as caught,
    ):
        warnings.simplefilter("always")
        patch.setattr("_cbam_keras_worker.CHILD", f"import os, sys\n{code}")
        study.run(planned(*variants), output, workers=2)
    assert content_of(output)["cells"] == []
    texts = [str(w.message) for w in warned] + [str(caught.value)]
    texts = [text for text in texts if "A worker on" in text]
    assert len(texts) == 4
    return texts


def test_workers_that_all_die_end_the_run(tmp_path):
    messages = dying("os.kill(os.getpid(), 9)", tmp_path, NARROW)
    assert "ended by SIGKILL (no message)" in messages[-1]
    # The same call goes on.
    assert study.run(planned(NARROW), tmp_path).runs


def test_workers_do_not_run_files_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    code = "import queue\nsys.exit('ours')"
    messages = dying(code, tmp_path / "run", NARROW)
    assert messages[-1].endswith("(ours)")


def test_of_what_workers_write_the_end_is_kept(tmp_path):
    code = "sys.stderr.write('x' * 10**6 + '\\nthe last line')\nsys.exit(3)"
    message = dying(code, tmp_path, NARROW)[-1]
    assert message.endswith("xx the last line)") and len(message) < 20_000


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="processes have no cores here"
)
def test_each_worker_has_its_share_of_the_cores(tmp_path):
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        pytest.skip("there is one core")
    code = "sys.exit(repr(sorted(os.sched_getaffinity(0))))"
    messages = dying(code, tmp_path, NARROW, GATED)
    shares = [json.loads(text[text.index("(") + 1 : -1]) for text in messages]
    assert all(0 < len(share) < len(mine) for share in shares)
    assert set().union(*shares) <= mine
    # One process may have died before the other worker began.
    parts = [set(part_of_machine(i, 2, {})[1]) for i in range(2)]
    assert {*map(frozenset, shares)} <= {*map(frozenset, parts)}
    assert not parts[0] & parts[1]
    assert os.sched_getaffinity(0) == mine


class Without(concurrent.futures.Executor):
    """Its workers are without the file, or the version, of the study."""

    def __init__(self, change):
        self.change = change

    def submit(self, function, folder, token, *arguments):
        path = pathlib.Path(folder, ".cells", f"{token}.study")
        self.change(path)
        future = concurrent.futures.Future()
        try:
            worker._unpickled(pathlib.Path(folder), token)
            future.set_result(True)
        except ValueError as error:
            future.set_exception(error)
        return future


def change_version(path):
    versions, *others = pickle.loads(path.read_bytes())
    versions["cbam_keras"] = "0.0.1"
    path.write_bytes(pickle.dumps((versions, *others)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pathlib.Path.unlink, "one folder that all workers share"),
        (change_version, "the versions of the process.*cbam_keras 0.0.1"),
    ],
)
def test_a_worker_of_another_folder_or_version_ends_the_run(
    change, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        study.run(planned(NARROW), tmp_path, executor=Without(change))
    assert study.run(planned(NARROW), tmp_path).runs


again_and_again = pytest.mark.filterwarnings("ignore:.*is tried again")


class Failing(concurrent.futures.Executor):
    """Its tasks end in an error."""

    def __init__(self, error):
        self.error, self.calls = error, []

    def submit(self, function, folder, token, backend, call):
        self.calls.append(call)
        future = concurrent.futures.Future()
        future.set_exception(self.error)
        return future


class Here(concurrent.futures.Executor):
    """Trains in this process."""

    def submit(self, function, folder, token, backend, call):
        future = concurrent.futures.Future()
        try:
            _, is_trained = worker._answer({}, pathlib.Path(folder), token)
            future.set_result(is_trained)
        except Killed:
            future.set_exception(WorkerDied("A worker ended by SIGKILL"))
        return future


class Waiting(Here):
    """Another process trains for a while; then workers die; then one lives."""

    def __init__(self):
        self.ends = iter([False] * 6 + [WorkerDied("by SIGKILL")] * 3)

    def submit(self, *arguments):
        end = next(self.ends, None)
        if end is None:
            return super().submit(*arguments)
        future = concurrent.futures.Future()
        if end:
            future.set_exception(end)
        else:
            future.set_result(end)
        return future


@again_and_again
def test_a_network_that_others_train_loses_no_try(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert study.run(planned(NARROW), tmp_path, executor=Waiting()).runs


@again_and_again
@pytest.mark.filterwarnings("ignore:A network is left out")
def test_a_network_whose_workers_die_again_and_again_is_an_error(
    tmp_path, monkeypatch
):
    fit, tries = keras.Model.fit, []

    def killing(model, *arguments, **options):
        if model.layers[0].filters == 4:
            tries.append(model)
            raise Killed
        return fit(model, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", killing)
        both = planned(NARROW, WIDE)
        found = study.run(both, tmp_path, executor=Here())
    assert len(tries) == 4
    assert statuses(found) == ["error", "finished"]
    message = "WorkerDied: 4 processes have died.*A worker ended by SIGKILL"
    assert re.match(message, found.outcomes[0].message)
    # What failed so is tried again.
    assert statuses(study.run(both, tmp_path)) == ["finished"] * 2


class Partly(study.Classification):
    """Measures something that there may be no number of."""

    def evaluate(self, model, data):
        return {"test_accuracy": 0.5, "small_objects": None}


def test_what_has_no_number_is_not_printed(tmp_path, capsys):
    partly = planned(NARROW, task=Partly(arrays(per_class=10)))
    assert study.run(partly, tmp_path, executor=Here()).runs
    printed = capsys.readouterr().out
    assert "narrow, seed 0: " in printed
    assert ", test_accuracy 0.5000\n" in printed


FULL = RuntimeError("can no longer be written to")


@again_and_again
@pytest.mark.parametrize(
    ("error", "message", "calls"),
    [
        # Of a scheduler that is lost.
        (concurrent.futures.CancelledError(), "the same call resumes", [1]),
        (concurrent.futures.BrokenExecutor("ended"), r"tasks \(ended\)", [1]),
        # Of one worker whose disk is full.
        (FULL, "can no longer be written to", [1, 2, 3, 4]),
    ],
)
def test_an_executor_that_fails_ends_the_run(error, message, calls, tmp_path):
    executor = Failing(error)
    with pytest.raises(RuntimeError, match=message):
        study.run(planned(NARROW), tmp_path, executor=executor)
    assert executor.calls == calls
    assert content_of(tmp_path)["cells"] == []
    assert not list(tmp_path.glob(".cells/*.study"))
    assert study.run(planned(NARROW), tmp_path).runs


def test_a_worker_ends_with_the_process_that_runs_the_study(
    tmp_path, monkeypatch
):
    # In place of ending this process.
    monkeypatch.setattr(os, "_exit", sys.exit)
    slept, clock = [], time.monotonic
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(slept))
    given_back = []
    cells = types.SimpleNamespace(give_back=lambda: given_back.append(1))
    watch, lock = worker._Watch({"token": cells}), tmp_path / "token.lock"
    with watch.training(lock), pytest.raises(SystemExit):
        watch.run()
    # Without work, it waits for that of another study.
    assert sum(slept) < 5
    # It is not the network that has killed it.
    assert given_back
    with pytest.raises(SystemExit):
        watch.run()
    assert 50 < sum(slept) < 100


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


@pytest.mark.slow
def test_what_a_killed_worker_trained_is_resumed_by_another(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    script = study.Variant("script", lambda x: narrow(x, attention=[Script()]))
    both = planned(
        *(NARROW, script),
        task=Killing(arrays(per_class=10)),
        seeds=(0, 1),
        recipe=training.Recipe(epochs=2, batch_size=10),
    )
    with pytest.warns(UserWarning, match="is tried again.*ended by SIGKILL"):
        found = study.run(both, tmp_path / "shared", workers=2)
    assert statuses(found) == ["finished"] * 4
    assert "script-seed1: epoch 2, val_accuracy" in capsys.readouterr().out
    alone = study.run(both, tmp_path / "alone")
    # Other threads, so sums in another order.
    for one, other in zip(found.history, alone.history, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    assert not (tmp_path / "shared/.cells").exists()
