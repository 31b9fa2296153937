"""Callbacks of the user: one for each network, and what they may do."""

import keras
import pytest
from networks import mlp
from study_checks import statuses
from training_checks import numbers

from cbam_keras import study, training

pytestmark = [
    pytest.mark.usefixtures("brighter_digits", "quick"),
    pytest.mark.filterwarnings("ignore:A network is left out"),
]
RECIPE = training.Recipe(epochs=2, batch_size=35, frozen_epochs=1)


def frozen(data):
    return mlp(trainable=False)


def run(folder, *callbacks):
    planned = study.Study(
        study.Classification("mnist5k"),
        [study.Variant(name, frozen) for name in ("a", "b")],
        recipe=RECIPE,
    )
    return study.run(planned, folder, callbacks=callbacks)


class Noting(keras.callbacks.Callback):
    epochs = []

    def on_train_begin(self, logs=None):
        self.epochs.append((self, self.params["epochs"]))


def test_each_network_has_one_of_its_own_in_all_its_stages(tmp_path):
    Noting.epochs.clear()
    run(tmp_path, Noting)
    made, epochs = zip(*Noting.epochs, strict=True)
    assert epochs == (1, 3, 1, 3)
    assert made[0] is made[1] is not made[2] is made[3]


def test_an_error_is_that_of_its_network(tmp_path):
    def make():
        made.append(1)
        if len(made) == 1:
            raise KeyError("mine")
        return keras.callbacks.Callback()

    made = []
    results = run(tmp_path, make)
    assert statuses(results) == ["error", "finished"]
    assert results.outcomes[0].message == "KeyError: 'mine'"
    assert statuses(run(tmp_path, make)) == ["finished"] * 2


class Stopping(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


class Spoiling(Stopping):
    def on_train_end(self, logs=None):
        self.model.set_weights([0 * x for x in self.model.get_weights()])


def test_what_is_measured_is_the_network_of_the_last_epoch(tmp_path):
    results = [run(tmp_path / x.__name__, x) for x in (Stopping, Spoiling)]
    assert [outcome.epochs for outcome in results[0].outcomes] == [1, 1]
    assert numbers(results[0]) == numbers(results[1])


def test_callbacks_that_are_made_are_refused(tmp_path):
    with pytest.raises(TypeError, match="functions that make one.*Noting"):
        run(tmp_path / "run", Noting())
    assert not (tmp_path / "run").exists()
