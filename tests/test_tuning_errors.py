"""Wrong arguments of a search, reported before any work."""

import keras
import pytest
import training_checks
import tuning_checks
from keras import layers

from cbam_keras import data, tuning
from cbam_keras.training import Recipe

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")

ONE = Recipe(epochs=1, batch_size=70)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"algorithm": "genetic"}, ValueError, "`algorithm` must be one of"),
        ({"max_trials": 0}, ValueError, "`max_trials` must be a positive"),
        ({"max_parameters": 0}, ValueError, "`max_parameters` must be a pos"),
        ({"max_macs": -1}, ValueError, "`max_macs` must be a positive"),
        ({"confirm": -1}, ValueError, "`confirm` must be a number of seeds"),
        ({"confirm": 1.5}, ValueError, "`confirm` must be a number of seeds"),
        ({"confirm": True}, ValueError, "`confirm` must be a number of seeds"),
        ({"keep": 0}, ValueError, "`keep` must be a positive integer"),
        ({"resume": 1}, TypeError, "`resume` must be True or False"),
        ({"overwrite": 1}, TypeError, "`overwrite` must be True or False"),
        ({"tensorboard": "yes"}, TypeError, "`tensorboard` must be True"),
        ({"hypermodel": 3}, TypeError, "`hypermodel` must be a CBAMHyper"),
        ({"hypermodel": keras.Model}, TypeError, "`hypermodel` must be"),
        ({"output": 3}, TypeError, "`output` must be the path of a folder"),
        (
            {"algorithm": "hyperband", "max_trials": 3},
            ValueError,
            "follows from the epochs",
        ),
    ],
)
def test_wrong_arguments_are_reported(tmp_path, options, error, message):
    output = options.pop("output", tmp_path / "run")
    hypermodel = options.pop("hypermodel", tuning_checks.mlp)
    with pytest.raises(error, match=message):
        tuning.search(hypermodel, "mnist5k", ONE, output=output, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorBoard is its"
)
def test_tensorboard_needs_tensorflow(tmp_path):
    with pytest.raises(ValueError, match="needs the TensorFlow backend"):
        tuning_checks.search(tmp_path / "run", tensorboard=True)


def test_data_options_are_for_data_by_name(tmp_path):
    images = data.load("mnist5k", batch_size=35)
    with pytest.raises(ValueError, match="data_options={'seed': 1}"):
        tuning.search(
            tuning_checks.mlp,
            images,
            ONE,
            output=tmp_path / "run",
            data_options={"seed": 1},
        )


def test_a_network_that_does_not_fit_is_reported_before_any_work(tmp_path):
    def build(hp):
        return training_checks.linear(classes=7)

    with pytest.raises(ValueError, match="must take images of shape"):
        tuning_checks.search(tmp_path / "run", hypermodel=build)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "layer",
    [
        layers.Lambda(lambda x: x + 1),
        type("Own", (layers.Activation,), {})("relu"),
    ],
    ids=["lambda", "not_registered"],
)
def test_a_network_that_cannot_be_loaded_is_reported_before_any_work(
    layer, tmp_path
):
    def build(hp):
        return keras.Sequential(
            [keras.Input((28, 28, 1)), layer, tuning_checks.network()]
        )

    with pytest.raises(ValueError, match="can save and load") as reported:
        tuning_checks.search(tmp_path / "run", hypermodel=build)
    assert "register_keras_serializable" in str(reported.value)
    assert not (tmp_path / "run").exists()


def test_a_trial_whose_network_cannot_be_loaded_is_recorded(quick, tmp_path):
    def build(hp):
        inner = tuning_checks.network(hp.Choice("units", [2, 3]))
        if hp.get("units") == 2:
            return inner
        own = layers.Lambda(lambda x: x + 1)
        return keras.Sequential([keras.Input((28, 28, 1)), own, inner])

    results = tuning_checks.search(tmp_path / "run", hypermodel=build)
    reported = {t.values["units"]: t.outcome for t in results.trials}
    assert reported == {2: "finished", 3: "error"}


def test_a_hypermodel_with_a_loop_of_its_own_is_refused(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return tuning_checks.mlp(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, **kwargs)

    with pytest.raises(ValueError, match="`fit` .* would not be called"):
        tuning_checks.search(tmp_path / "run", hypermodel=Own())
    assert not (tmp_path / "run").exists()


def test_a_function_that_builds_no_model_is_reported(tmp_path):
    with pytest.raises(TypeError, match="must return a keras.Model"):
        tuning_checks.search(tmp_path / "run", hypermodel=lambda hp: None)
