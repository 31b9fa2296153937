"""What is said of networks before their training."""

import keras
import numpy as np
import pytest
from keras import layers
from training_checks import NETWORKS, SHORT, SMALL, linear
from tuning_checks import warned

from cbam_keras import training
from cbam_keras.training.networks import check_averages

MESSAGE = "The averages of batch normalization"
silent = pytest.mark.filterwarnings(f"error:{MESSAGE}:UserWarning")


def network(momentum=0.9, **options):
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.BatchNormalization(momentum=momentum / 2),
            layers.BatchNormalization(momentum=momentum, **options),
        ]
    )


@pytest.mark.every_backend
def test_few_steps_are_reported_with_what_is_left_of_the_start():
    # The average starts at 0: of a constant mean of 1 it lacks what is left.
    layer = layers.BatchNormalization(momentum=0.9)
    layer.build((None, 3))
    for _ in range(8):
        layer(keras.ops.ones((2, 3)), training=True)
    left = 1 - float(keras.ops.convert_to_numpy(layer.moving_mean)[0])
    with warned(MESSAGE) as found:
        check_averages(network(), 2, 4)
    assert f" {left:.0%} of their initial values" in found[0]
    assert "after 8 steps with momentum=0.9" in found[0]
    # 0.9 ** 22 is 0.098.
    assert "Train 11 epochs or more" in found[0]


@silent
@pytest.mark.parametrize(
    ("model", "steps", "epochs"),
    [
        (network(), 2, 11),
        (network(0.0), 1, 1),
        (network(0.99, trainable=False), 2, 4),
        (keras.Sequential([keras.Input((4,)), layers.Dense(2)]), 1, 1),
    ],
    ids=["enough_steps", "no_momentum", "frozen", "no_normalization"],
)
def test_nothing_is_said_without_need(model, steps, epochs):
    check_averages(model, steps, epochs)


@silent
def test_averages_of_a_trained_network_are_left_alone():
    model = network()
    for variable in model.non_trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    check_averages(model, 1, 1)


def test_training_reports_it_at_its_start(few_digits, tmp_path):
    networks = {"resnet": NETWORKS["resnet"]}
    with warned("after 2 steps with momentum=0.9"):
        training.train(networks, "mnist5k", SHORT, output=tmp_path / "run")


@silent
def test_a_network_without_batch_normalization_trains_in_silence(
    few_digits, tmp_path
):
    networks = {"linear": NETWORKS["linear"]}
    training.train(networks, "mnist5k", SMALL, output=tmp_path / "run")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others trace otherwise"
)
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_training_step_is_traced_once(one_hot, monkeypatch):
    model, traced, step = linear(), [], keras.Model.train_step

    def counted(self, data):
        traced.append(data)
        return step(self, data)

    monkeypatch.setattr(keras.Model, "train_step", counted)
    training.compile_network(model, SMALL, 2, one_hot=one_hot)
    labels = np.eye(10)[:4] if one_hot else np.arange(4)
    model.fit(np.zeros((4, 28, 28, 1)), labels, batch_size=2, verbose=0)
    assert len(traced) == 1
