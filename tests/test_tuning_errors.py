"""Wrong arguments of a search, reported before any work."""

import keras
import networks
import pytest
import tuning_checks
from keras import layers

from cbam_keras import data, tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


class OwnLoop(keras_tuner.HyperModel):
    def build(self, hp):
        return tuning_checks.mlp(hp)

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **kwargs)


def lambda_model(hp):
    own = layers.Lambda(lambda x: x + 1)
    return keras.Sequential([keras.Input((28, 28, 1)), own, networks.mlp()])


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"algorithm": "genetic"}, ValueError, "`algorithm` must be one of"),
        ({"max_trials": 0}, ValueError, "`max_trials` must be a positive"),
        (
            {"algorithm": "hyperband", "max_trials": 3},
            ValueError,
            "follows from the epochs",
        ),
        ({"max_parameters": 0}, ValueError, "`max_parameters` must be a pos"),
        ({"max_macs": -1}, ValueError, "`max_macs` must be a positive"),
        ({"confirm": -1}, ValueError, "`confirm` must be a number of seeds"),
        ({"keep": 0}, ValueError, "`keep` must be a positive integer"),
        ({"tensorboard": "yes"}, TypeError, "`tensorboard` must be True"),
        ({"output": 3}, TypeError, "`output` must be the path of a folder"),
        ({"hypermodel": 3}, TypeError, "`hypermodel` must be a CBAMHyper"),
        ({"hypermodel": OwnLoop()}, ValueError, "`fit` .* would not be called"),
        (
            {"hypermodel": lambda hp: None},
            TypeError,
            "must return a keras.Model",
        ),
        (
            {"hypermodel": lambda hp: networks.linear(classes=7)},
            ValueError,
            "must take images of shape",
        ),
        (
            {"hypermodel": lambda_model},
            ValueError,
            "can save and load.*register_keras_serializable",
        ),
    ],
)
def test_wrong_arguments_are_reported(tmp_path, options, error, message):
    given = {"hypermodel": tuning_checks.mlp, "max_trials": None, **options}
    output = given.pop("output", tmp_path / "run")
    with pytest.raises(error, match=message):
        tuning_checks.search(output, **given)
    assert not (tmp_path / "run").exists()


def test_tensorboard_needs_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs the TensorFlow backend"):
        tuning_checks.search(tmp_path / "run", tensorboard=True)


def test_data_options_are_for_data_by_name(tmp_path):
    images, output = data.load("mnist5k", batch_size=35), tmp_path / "run"
    options = {"output": output, "data_options": {"seed": 1}}
    with pytest.raises(ValueError, match="data_options={'seed': 1}"):
        tuning.search(tuning_checks.mlp, images, tuning_checks.ONE, **options)
