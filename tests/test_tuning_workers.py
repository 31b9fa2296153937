"""Searches whose trials workers train, several at a time and in any order."""

import contextlib
import json
import random

import pytest
import tuning_checks
from data_checks import arrays

from cbam_keras import study, tuning

pytestmark = pytest.mark.usefixtures("few_digits")


class Workers:
    """In place of processes: trains one of the trials that are proposed.

    As a worker does that has the plan, and knows no more of the trials than
    the folder holds; which one is a matter of luck.
    """

    def __init__(self, patch, count, seed=0):
        self.draw, self.most = random.Random(seed), 0
        patch.setattr(study, "count_workers", lambda *_: count)
        patch.setattr(study, "training_by", self.training_by)

    @contextlib.contextmanager
    def training_by(self, options, queue, make):
        worker = make()
        worker.folder.join()

        def train():
            worker.folder.refresh()
            missing = worker.missing()
            self.most = max(self.most, len(missing))
            worker.train(self.draw.choice(missing))
            queue.folder.refresh()

        yield train


def trials(output):
    found = tuning_checks.search(output, "bayesian", tuning_checks.THREE)
    return [
        (trial.number, trial.values, trial.status, trial.val_accuracy)
        for trial in found.trials
    ]


def alike(hp):
    """Returns one network for values that are the same as written."""
    hp.Float("rate", 0.1, 0.1 + 1e-9, sampling="linear")
    return tuning_checks.network(4)


def test_a_network_that_is_proposed_twice_is_trained_once(tmp_path, quick):
    Workers(quick, 3)
    found = tuning_checks.search(
        tmp_path, "bayesian", hypermodel=alike, max_trials=3
    )
    assert len(found.trials) == 1


def test_trials_do_not_depend_on_which_worker_is_faster(tmp_path, quick):
    workers = Workers(quick, 3)
    first = trials(tmp_path / "first")
    assert workers.most == 3
    Workers(quick, 3, seed=7)
    assert trials(tmp_path / "again") == first
    content = json.loads((tmp_path / "first/results.json").read_text())
    assert len(content["outcomes"]) == len(first)
    assert not (tmp_path / "first/.queue").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("hyperband", {"confirm": 0}),
        pytest.param(
            *("random", {"max_trials": 3, "confirm": 1}),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_processes_train_the_trials_of_this_process(
    tmp_path, algorithm, options
):
    search = tuning.Search(
        tuning_checks.mlp,
        arrays(per_class=20, classes=10, shape=(28, 28, 1)),
        tuning_checks.TWO,
        algorithm=algorithm,
        **options,
    )
    shared = study.run(search, tmp_path / "shared", workers=2)
    alone = study.run(search, tmp_path / "alone")
    for one, other in zip(shared.trials, alone.trials, strict=True):
        assert (one.variant, one.status) == (other.variant, other.status)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-5)
    assert len(shared.confirmation) == len(alone.confirmation)
