"""Processes that share the trials of a search."""

import pathlib

import pytest
import tuning_checks

from cbam_keras import study, tuning
from cbam_keras.tuning import tuner, workers
from cbam_keras.tuning.search import Search

pytestmark = pytest.mark.usefixtures("few_digits", "quick")


class Worker:
    """In place of a process: ends as `endings` says, in order of its starts."""

    endings: dict[str, list[str]] = {}
    started: list[dict] = []
    ended: list[str] = []

    def __init__(self, index, workers, payload, environment):
        self.key = environment["KERASTUNER_TUNER_ID"]
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
def run(monkeypatch):
    """Returns a function that runs workers that end in certain ways."""

    def run(**endings):
        monkeypatch.setattr(Worker, "endings", endings)
        monkeypatch.setattr(Worker, "started", [])
        monkeypatch.setattr(Worker, "ended", [])
        workers.run_workers(tuning.search, pathlib.Path("run"), 2)
        return Worker.started

    monkeypatch.setattr(study, "Worker", Worker)
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0)
    return run


def test_trials_that_follow_from_others_have_a_chief(run):
    chief, *others = run()
    names = [own["KERASTUNER_TUNER_ID"] for own in (chief, *others)]
    assert names == ["chief", "worker-0", "worker-1"]
    assert chief["CUDA_VISIBLE_DEVICES"] == ""
    ports = {own["KERASTUNER_ORACLE_PORT"] for own in (chief, *others)}
    assert len(ports) == 1
    # When the workers have ended, so has the search.
    assert sorted(Worker.ended) == sorted(names)


def test_a_worker_that_dies_is_started_again_under_its_name(run):
    with tuning_checks.warned(r"worker-1 died\. It is started again"):
        started = run(**{"worker-1": ["died", "died"]})
    names = [own["KERASTUNER_TUNER_ID"] for own in started]
    assert names.count("worker-1") == 3


@pytest.mark.filterwarnings("ignore:.*It is started again")
@pytest.mark.parametrize(
    "endings", [{"worker-0": ["died"] * 20}, {"chief": ["died"]}]
)
def test_processes_that_die_again_and_again_end_the_search(run, endings):
    with pytest.raises(RuntimeError, match="died.*the same call resumes"):
        run(**endings)
    assert sorted(Worker.ended) == sorted(
        own["KERASTUNER_TUNER_ID"] for own in Worker.started
    )


@pytest.mark.parametrize(
    ("variables", "results"),
    [
        ({}, True),
        ({"KERASTUNER_TUNER_ID": "chief"}, True),
        ({"KERASTUNER_TUNER_ID": "worker-1"}, False),
        # A chief that was started by --workers.
        ({"KERASTUNER_TUNER_ID": "chief", "CBAM_KERAS_WORKER": "1"}, False),
    ],
)
def test_the_results_are_written_by_one_process(
    monkeypatch, tmp_path, variables, results
):
    if variables:
        variables["KERASTUNER_ORACLE_IP"] = "node17"
    monkeypatch.setattr(tuner.Tuner, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(tuner.Tuner, "search", lambda *_, **__: None)
    given = tuning_checks.mlp, "mnist5k", tuning_checks.ONE
    search = Search(study.arguments_of(tuning.search, *given))
    folder = study.StudyFolder(tmp_path / "run", search.study, search.data)
    with folder.opened():
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert tuner.run(search, folder, tuning.search, 1, False) is results
        assert ("searched" in folder.content) is results
