"""Processes that share the trials of a search."""

import contextlib

import pytest
import tuning_checks

from cbam_keras import study, tuning
from cbam_keras._files import InUse
from cbam_keras.tuning import processes
from cbam_keras.tuning.search import plan

pytestmark = pytest.mark.usefixtures("few_digits", "quick")


class Worker:
    """In place of a process: ends as `endings` says, in order of its starts."""

    endings: dict[str, list[str]] = {}
    started: list[dict] = []
    ended: list[str] = []

    def __init__(self, index, workers, payload, environment):
        self.environment = environment
        self.key = environment.get("KERASTUNER_TUNER_ID", str(index))
        self.started.append(environment)
        left = self.endings.get(self.key, [])
        self.failure = left.pop(0) if left else ""
        self.process = self

    def poll(self):
        # The chief waits for the others.
        return None if self.key == "chief" and not self.failure else 0

    def wait(self):
        return self.failure and f"{self.key} {self.failure}"

    def end(self):
        self.ended.append(self.key)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Returns a function that runs workers that end in certain ways."""

    def run(algorithm="hyperband", **endings):
        monkeypatch.setattr(Worker, "endings", endings)
        monkeypatch.setattr(Worker, "started", [])
        monkeypatch.setattr(Worker, "ended", [])
        search = plan(
            *(tuning_checks.mlp, "mnist5k", tuning_checks.ONE),
            algorithm=algorithm,
            confirm=0,
        )
        data = search.task.load(search.recipe)
        search = search.explored(data, None)
        folder = search.folder(tmp_path / "run", data)
        with folder.opened():
            processes.run_workers(search, folder, 2, False)
        return Worker.started

    monkeypatch.setattr(study, "Worker", Worker)
    monkeypatch.setattr(study, "payload_of", lambda function: b"")
    monkeypatch.setattr(processes, "SECONDS_BETWEEN_LOOKS", 0)
    return run


def test_trials_that_follow_from_others_have_a_chief(run):
    chief, *workers = run()
    names = [own["KERASTUNER_TUNER_ID"] for own in (chief, *workers)]
    assert names == ["chief", "worker-0", "worker-1"]
    assert chief["CUDA_VISIBLE_DEVICES"] == ""
    assert (
        len({own["KERASTUNER_ORACLE_PORT"] for own in (chief, *workers)}) == 1
    )
    # When the workers have ended, so has the search.
    assert sorted(Worker.ended) == sorted(names)


def test_trials_of_a_list_need_no_chief(run):
    assert run("grid") == [{}, {}]


def test_a_worker_that_dies_is_started_again_under_its_name(run):
    with tuning_checks.warned("worker-1 died. It is started again"):
        started = run(**{"worker-1": ["died", "died"]})
    names = [own["KERASTUNER_TUNER_ID"] for own in started]
    assert names.count("worker-1") == 3


@pytest.mark.filterwarnings("ignore:.*It is started again")
@pytest.mark.parametrize(
    "endings", [{"worker-0": ["died"] * 9}, {"chief": ["died"]}]
)
def test_processes_that_die_again_and_again_end_the_search(run, endings):
    with pytest.raises(RuntimeError, match="died.*the same call resumes"):
        run(**endings)
    assert sorted(Worker.ended) == sorted(
        own["KERASTUNER_TUNER_ID"] for own in Worker.started
    )


def test_the_role_of_a_process_is_that_of_keras_tuner(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-chief01")
    assert processes.role() is None
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "node17")
    assert processes.role() == "chief"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    assert processes.role() == "worker"


def test_what_another_process_trains_is_left_to_it(tmp_path, monkeypatch):
    claim, claims = study.StudyFolder.claim, []

    @contextlib.contextmanager
    def claimed(folder, name, seed):
        claims.append(name)
        if claims.count(name) == 1 and len(claims) in (1, 2):
            raise InUse("lock")
        with claim(folder, name, seed):
            yield

    monkeypatch.setattr(study.StudyFolder, "claim", claimed)
    found = tuning_checks.search(tmp_path / "run", "grid", max_trials=3)
    first, second, third, *again = claims
    assert again == [first, second]
    # Numbers are those of the list.
    assert [trial.number for trial in found.trials] == [1, 2, 3]


@pytest.mark.parametrize(
    ("algorithm", "ranges", "known"),
    [
        ("random", False, True),
        ("random", True, False),
        ("grid", True, True),
        ("bayesian", False, False),
    ],
)
def test_whether_trials_are_known_before_the_first(algorithm, ranges, known):
    rate = (lambda hp: hp.Float("rate", 0.1, 1)) if ranges else 0.1
    hypermodel = tuning.CBAMHyperModel(learning_rate=rate)
    search = plan(hypermodel, "mnist5k", None, algorithm=algorithm)
    data = search.task.load(search.recipe)
    assert search.explored(data, None).is_list is known
