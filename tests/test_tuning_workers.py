"""Searches whose trials workers train, several at a time and in any order."""

import random

import pytest
import tuning_checks
from data_checks import arrays
from own_spaces import Space

from cbam_keras import study, tuning
from cbam_keras.study.running import workers

pytestmark = pytest.mark.usefixtures("few_digits")


class Workers:
    """In place of processes: trains one of the trials that are proposed.

    Which one is a matter of luck.
    """

    def __init__(self, patch, seed=0):
        self.draw, self.most = random.Random(seed), 0
        patch.setattr(workers, "train", self.train)

    def train(self, queue, count, executor):
        while missing := queue.missing():
            self.most = max(self.most, len(missing))
            variant, run = self.draw.choice(missing)
            with queue.folder.claim(variant.name, run):
                queue._train(variant, run)


def trials(output):
    found = tuning_checks.search(
        output, "bayesian", tuning_checks.THREE, workers=3
    )
    return [
        (trial.number, trial.values, trial.status, trial.val_accuracy)
        for trial in found.trials
    ]


def test_trials_do_not_depend_on_which_worker_is_faster(tmp_path, quick):
    pretended = Workers(quick)
    first = trials(tmp_path / "first")
    assert pretended.most == 3
    Workers(quick, seed=7)
    assert trials(tmp_path / "again") == first
    assert len([*(tmp_path / "first").glob("*/state.json")]) == len(first)


@pytest.mark.slow
def test_processes_train_the_trials_of_this_process(tmp_path):
    search = tuning.Search(
        Space(tuning_checks.mlp),
        arrays(per_class=20, classes=10, shape=(28, 28, 1)),
        tuning_checks.TWO,
        max_trials=3,
        confirm=1,
    )
    shared = study.run(search, tmp_path / "shared", workers=2)
    alone = study.run(search, tmp_path / "alone")
    for one, other in zip(shared.trials, alone.trials, strict=True):
        assert (one.variant, one.status) == (other.variant, other.status)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-5)
    assert len(shared.confirmation) == len(alone.confirmation)
