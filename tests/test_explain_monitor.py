"""What the monitor logs, against NumPy; when it warns; where data come from."""

import csv

import keras
import numpy as np
import pytest
from explain_checks import images
from insertion_checks import head, vary
from keras import layers
from layer_checks import assert_all_close, weights_of

from cbam_keras import (
    BAM,
    CBAM,
    AttentionMonitor,
    GlobalContext,
    SimAM,
    SpatialAttention,
    explain,
)

X, Y = images(40, 8, 8, 3), np.arange(40) % 5
SMALL = X[:, :2, :3, :1].repeat(4, -1)


def parts():
    gate = CBAM(1, 3, name="gate")
    pool = layers.GlobalAveragePooling2D()
    return [layers.Conv2D(4, 3), gate, pool, layers.Dense(5)]


def network():
    return keras.Sequential([keras.Input((8, 8, 3)), *parts()])


def begin(monitor, model=None):
    """Calls the monitor as `fit` does when training begins."""
    monitor.set_model(model or network())
    monitor.on_train_begin()
    return monitor


def watch(model, monitor):
    """Calls the monitor as `fit` does; returns the logs of an epoch."""
    logs = {}
    begin(monitor, model).on_epoch_end(0, logs)
    return logs


def numbers(values):
    """Returns what is logged of a map in (0, 1), by its definition."""
    return {
        "mean": values.mean(dtype="float64"),
        "spread": values.std(dtype="float64"),
        "saturation": ((values <= 0.01) | (values >= 0.99)).mean(),
    }


@pytest.mark.every_backend
def test_fit_trains_as_without_it_and_gets_the_numbers(tmp_path):
    plain, watched = vary(network()), vary(network())
    for model in (plain, watched):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3), loss=loss)
    options = {"verbose": 0, "epochs": 2, "shuffle": False}
    expected = plain.fit(X, Y, **options).history
    path = tmp_path / "log.csv"
    callbacks = [AttentionMonitor(X[:10]), keras.callbacks.CSVLogger(path)]
    history = watched.fit(X, Y, callbacks=callbacks, **options).history
    assert history["loss"] == expected["loss"]
    assert_all_close(weights_of(watched), weights_of(plain), 0)
    # Those of the last epoch are those of the trained model.
    channel, spatial = explain.attention_maps(watched, X[:10])["gate"]
    expected = {
        f"gate/{kind}_{key}": number
        for kind, values in (("channel", channel), ("spatial", spatial))
        for key, number in numbers(values).items()
    }
    assert set(history) - {"loss"} == set(expected)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 2
    for key, number in expected.items():
        assert len(history[key]) == 2
        assert history[key][-1] == pytest.approx(number, abs=1e-5)
        # The callback that follows it in the list has them too.
        assert float(rows[1][key]) == pytest.approx(history[key][-1])


def one_gate(layer, logits):
    """A model whose gate has these logits at its positions."""
    inputs = keras.Input((2, 3, 4))
    outputs = layers.GlobalAveragePooling2D()(layer(inputs))
    for variable in layer.weights:
        variable.assign(np.zeros(variable.shape))
        if variable.name == "bias":
            variable.assign([logits])
    return keras.Model(inputs, outputs)


RANGES = {
    "twice": ({"identity_init": True}, 8.0, 1.0),
    "from -1": ({"gate_activation": "tanh"}, -8.0, 1.0),
    "no upper end": ({"gate_activation": "softplus"}, 8.0, 0.0),
}


def test_a_map_of_channels_and_positions_is_logged_as_two():
    inputs = keras.Input((8, 8, 3))
    gates = [BAM(1, name="bam"), GlobalContext(1, name="gc"), SimAM(name="sam")]
    model = keras.Model(inputs, head(keras.Sequential(gates)(inputs)))
    logs = watch(model, AttentionMonitor(X))
    assert 1 < logs["bam/channel_mean"] < 2
    assert logs["bam/spatial_mean"] == pytest.approx(
        logs["bam/channel_mean"], abs=1e-5
    )
    # The weights of positions, relative to their mean.
    assert logs["gc/spatial_mean"] == pytest.approx(1, abs=1e-5)
    assert "gc/channel_mean" not in logs
    assert 0.5 < logs["sam/channel_mean"] < 1


@pytest.mark.parametrize("options, logit, share", RANGES.values(), ids=RANGES)
def test_saturation_goes_by_the_range_of_the_activation(options, logit, share):
    gate = SpatialAttention(3, use_bias=True, name="gate", **options)
    logs = watch(one_gate(gate, logit), AttentionMonitor(SMALL))
    assert logs["gate/spatial_saturation"] == share
    assert logs["gate/spatial_spread"] == pytest.approx(0, abs=1e-6)


def test_models_of_several_inputs_are_watched():
    left, right = (keras.Input((8, 8, 3), name=n) for n in ("left", "right"))
    x = CBAM(1, 3, name="gate")(layers.Add()([left, right]))
    model = keras.Model({"left": left, "right": right}, head(x))
    monitor = AttentionMonitor({"left": X, "right": X + 1})
    logs = watch(model, monitor)
    np.testing.assert_array_equal(monitor.batch["right"], X[:32] + 1)
    assert 0 < logs["gate/channel_mean"] < 1


class Lazy(keras.Model):
    """Makes its layers when it is built."""

    def build(self, input_shape):
        self.network = keras.Sequential(parts())

    def call(self, inputs):
        return self.network(inputs)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "build", [Lazy, lambda: keras.Sequential(parts())], ids=["own", "sequence"]
)
def test_models_without_known_inputs_are_watched(build):
    model = build()
    model.compile("sgd", "mse")
    fit = {"x": X, "y": np.eye(5)[Y], "verbose": 0}
    history = model.fit(**fit, callbacks=[AttentionMonitor(X)]).history
    channel, _ = explain.attention_maps(model, X[:32])["gate"]
    assert history["gate/channel_mean"] == [pytest.approx(channel.mean())]
    with pytest.raises(ValueError, match="finite"):
        begin(AttentionMonitor(X * np.nan), build())


BAD = {
    "channels": (X[..., :1], ValueError, r"\(B, 8, 8, 3\).*\(32, 8, 8, 1\)"),
    "nothing": (None, ValueError, r"Use AttentionMonitor\(images=\.\.\.\)"),
}


@pytest.mark.parametrize("given, error, message", BAD.values(), ids=BAD)
def test_images_are_checked_before_training(given, error, message):
    with pytest.raises(error, match=message):
        begin(AttentionMonitor(given))
