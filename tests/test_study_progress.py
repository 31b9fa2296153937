"""What is printed while a network trains."""

import re

import pytest
from test_study_fine_tuning import RECIPE, planned

from cbam_keras import study
from cbam_keras.study.running.progress import FirstSteps


class Clock:
    """Seconds that pass by a step of training."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now = 0.0

    def __call__(self):
        return self.now


def train(callback, clock, epochs, steps):
    """Calls a callback as `fit` does, with steps that take time."""
    callback.set_params({"epochs": epochs, "steps": steps, "verbose": 2})
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for step in range(steps or 10):
            clock.now += clock.seconds
            callback.on_train_batch_end(step, {})


@pytest.mark.parametrize(
    ("seconds", "epochs", "steps", "networks", "words"),
    [
        # 20 steps of 30 seconds are 10 minutes, of which 7 steps have passed.
        (30, 2, 10, 1, "about 7 min left for this run"),
        (30, 2, 10, 3, "about 27 min left for all training runs"),
        (2, 1, 10, 1, "less than a minute left for this run"),
        (3600, 4, 10, 2, "about 73 h left for all training runs"),
    ],
)
def test_the_first_steps_say_how_long_all_take(
    capsys, seconds, epochs, steps, networks, words
):
    clock = Clock(seconds)
    callback = FirstSteps(range(epochs), networks, clock)
    train(callback, clock, epochs, steps)
    assert capsys.readouterr().out == f"{words}, by the first steps\n"


@pytest.mark.parametrize(
    ("seconds", "epochs", "steps"),
    [
        pytest.param(0.01, 2, 10, id="short"),
        pytest.param(30, 1, 5, id="few-steps"),
        pytest.param(30, 2, None, id="unknown-length"),
    ],
)
def test_too_few_steps_say_nothing(capsys, seconds, epochs, steps):
    clock = Clock(seconds)
    train(FirstSteps(range(epochs), 3, clock), clock, epochs, steps)
    assert capsys.readouterr().out == ""


def test_only_steps_of_the_last_stage_are_measured(capsys):
    clock = Clock(1)
    callback = FirstSteps(range(2, 4), 1, clock)
    callback.set_params({"epochs": 4, "steps": 100, "verbose": 2})
    for epoch in range(4):
        # All layers take ten times as long as the new ones alone.
        clock.seconds = 1 if epoch < 2 else 10
        callback.on_epoch_begin(epoch)
        for step in range(100):
            clock.now += clock.seconds
            callback.on_train_batch_end(step)
    # 193 of the 200 steps of the stage are left.
    words = "about 33 min left for this run"
    assert capsys.readouterr().out == f"{words}, by the first steps\n"


@pytest.mark.usefixtures("brighter_digits", "eagerly")
def test_epochs_count_through_both_stages(tmp_path, capsys):
    study.run(planned(), tmp_path)
    titles = re.findall(r"Epoch \d+/\d+", capsys.readouterr().out)
    epochs = RECIPE.total_epochs
    assert titles == [f"Epoch {x + 1}/{epochs}" for x in range(epochs)]


def test_the_line_does_not_continue_a_progress_bar(capsys):
    clock = Clock(30)
    callback = FirstSteps(range(1), 1, clock)
    callback.set_params({"epochs": 1, "steps": 10, "verbose": 1})
    callback.on_epoch_begin(0)
    for step in range(10):
        clock.now += clock.seconds
        callback.on_train_batch_end(step)
    words = "about 2 min left for this run"
    assert capsys.readouterr().out == f"\n{words}, by the first steps\n"
