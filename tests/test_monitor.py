"""What the monitor logs, against NumPy; when it warns; where data come from."""

import csv
import math

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from keras import layers

from cbam_keras import (
    CBAM,
    AttentionMonitor,
    ChannelAttention,
    SpatialAttention,
    explain,
)

pytestmark = pytest.mark.every_backend
X, Y = images(40, 8, 8, 3), np.arange(40) % 5


def compiled(model=None):
    model = model or tiny()
    model.compile(
        keras.optimizers.SGD(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, monitor, x=X, y=Y, **options):
    return model.fit(x, y, verbose=0, callbacks=[monitor], **options).history


def numbers(values, low=0.0, high=1.0):
    """Returns what is logged of a map, by its definition."""
    entropies = []
    for row in values.reshape(len(values), -1).astype("float64"):
        shares = row / row.sum()
        entropies.append(
            -sum(p * math.log(p) for p in shares if p) / math.log(len(shares))
        )
    near = 0.01 * (high - low)
    at_end = (values <= low + near) | (values >= high - near)
    return {
        "mean": values.mean(dtype="float64"),
        "spread": values.std(dtype="float64"),
        "entropy": np.mean(entropies),
        "saturation": at_end.mean(),
    }


def test_the_numbers_of_the_last_epoch_are_those_of_the_trained_model():
    model = compiled()
    history = fit(model, AttentionMonitor(X[:10]), epochs=2)
    maps = explain.attention_maps(model, X[:10])
    expected = {
        f"{name}/{gate}_{key}": number
        for name, pair in maps.items()
        for gate, values in zip(("channel", "spatial"), pair, strict=True)
        for key, number in numbers(values).items()
    }
    assert len(expected) == 2 * 2 * 4
    assert set(history) - {"loss"} == set(expected)
    for key, number in expected.items():
        assert len(history[key]) == 2
        assert history[key][-1] == pytest.approx(number, abs=1e-5)


def one_gate(layer, logits):
    """A model whose gate has these logits at its positions or channels."""
    inputs = keras.Input((2, 3, 4))
    outputs = layers.GlobalAveragePooling2D()(layer(inputs))
    model = keras.Model(inputs, layers.Dense(5)(outputs))
    for variable in layer.weights:
        variable.assign(np.zeros(variable.shape))
        if variable.name in ("excite_bias", "bias"):
            # Of the channel gate added twice, for both pools.
            half = 2 if variable.name == "excite_bias" else 1
            variable.assign(np.full(variable.shape, 0) + logits / half)
        variable.trainable = False
    layer.trainable = False
    return compiled(model)


def test_saturation_counts_both_ends():
    logits = np.array([-8.0, 8.0, 4.0, 0.0])
    gate = ChannelAttention(2, name="gate")
    history = fit(
        one_gate(gate, logits),
        AttentionMonitor(),
        X[:, :2, :3, :1].repeat(4, -1),
    )
    assert history["gate/channel_saturation"] == [0.5]
    expected = numbers(1 / (1 + np.exp(-logits))[None])
    for key, number in expected.items():
        assert history[f"gate/channel_{key}"][0] == pytest.approx(
            number, abs=1e-6
        )
    assert not any("spatial" in key for key in history)


RANGES = {
    "twice": ({"identity_init": True}, 8.0, 1.0),
    "not of half": ({"identity_init": True}, 0.0, 0.0),
    "tanh, low": ({"gate_activation": "tanh"}, -8.0, 1.0),
    "tanh, middle": ({"gate_activation": "tanh"}, 0.0, 0.0),
    "no upper end": ({"gate_activation": "softplus"}, 8.0, 0.0),
    "a lower end": ({"gate_activation": "softplus"}, -8.0, 1.0),
    "no end": ({"gate_activation": "linear"}, 8.0, 0.0),
}


@pytest.mark.parametrize("options, logit, share", RANGES.values(), ids=RANGES)
def test_saturation_goes_by_the_range_of_the_activation(options, logit, share):
    gate = SpatialAttention(3, use_bias=True, name="gate", **options)
    model = one_gate(gate, logit)
    history = fit(model, AttentionMonitor(), X[:, :2, :3, :1].repeat(4, -1))
    assert history["gate/spatial_saturation"] == [share]
    # All alike.
    assert history["gate/spatial_entropy"] == [pytest.approx(1)]
    assert history["gate/spatial_spread"] == [pytest.approx(0, abs=1e-6)]


def test_a_single_position_is_attended_to_evenly():
    inputs = keras.Input((1, 1, 4))
    x = layers.Flatten()(SpatialAttention(3, name="gate")(inputs))
    model = compiled(keras.Model(inputs, layers.Dense(5)(x)))
    history = fit(model, AttentionMonitor(), X[:, :1, :1, :1].repeat(4, -1))
    assert history["gate/spatial_entropy"] == [1.0]


# Of NumPy, when Keras converts tensors of PyTorch.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_constant_gate_is_reported_once_after_some_epochs():
    model = one_gate(SpatialAttention(3, use_bias=True, name="gate"), 0.0)
    x = X[:, :2, :3, :1].repeat(4, -1)
    fit(model, AttentionMonitor(patience=3), x, epochs=2)
    with pytest.warns(
        UserWarning,
        match='spatial gate of layer "gate" has been constant for 3 epochs: '
        "0.5 everywhere",
    ) as caught:
        fit(model, AttentionMonitor(patience=3), x, epochs=5)
    assert len([w for w in caught if "gate" in str(w.message)]) == 1


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_saturated_gate_is_reported():
    logits = np.array([-9.0, 9.0, -8.0, 8.0])
    model = one_gate(ChannelAttention(2, name="gate"), logits)
    with pytest.warns(
        UserWarning,
        match='channel gate of layer "gate" has been saturated for 2 epochs: '
        "100% of its values",
    ):
        fit(
            model,
            AttentionMonitor(patience=2),
            X[:, :2, :3, :1].repeat(4, -1),
            epochs=2,
        )


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return self.x[part], self.y[part]


def _loader(x, y):
    torch = pytest.importorskip("torch", reason="for a DataLoader")
    both = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(both, batch_size=8)


def _dataset(x, y):
    tf = pytest.importorskip("tensorflow", reason="for a tf.data.Dataset")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def _endless(x, y):
    while True:
        yield x[:8], y[:8]


# Each with the images that are looked at: other ones than those trained on
# where there are such.
TRAIN, TEST = (X[8:], Y[8:]), (X[:8], Y[:8])
SOURCES = {
    "arrays": (lambda: {"x": TRAIN[0], "y": TRAIN[1]}, X[8:40]),
    "validation": (
        lambda: {"x": TRAIN[0], "y": TRAIN[1], "validation_data": TEST},
        X[:8],
    ),
    "split": (
        lambda: {"x": X, "y": Y, "validation_split": 0.25},
        X[30:],
    ),
    "batches": (lambda: {"x": Batches(*TRAIN), "y": None}, X[8:16]),
    "batches for validation": (
        lambda: {
            "x": _endless(*TRAIN),
            "y": None,
            "steps_per_epoch": 2,
            "validation_data": Batches(*TEST),
        },
        X[:8],
    ),
    "tf.data": (lambda: {"x": _dataset(*TRAIN), "y": None}, X[8:16]),
    "DataLoader": (lambda: {"x": _loader(*TRAIN), "y": None}, X[8:16]),
}


# Keras warns of datasets that it does not shuffle.
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed")
@pytest.mark.parametrize("source, seen", SOURCES.values(), ids=SOURCES)
def test_images_are_those_of_fit(source, seen):
    model = compiled()
    history = fit(model, AttentionMonitor(), **source())
    _, spatial = explain.attention_maps(model, seen)["stage1_block1_attention"]
    assert history["stage1_block1_attention/spatial_mean"][0] == pytest.approx(
        spatial.mean(dtype="float64"), abs=1e-5
    )


# Keras, of a generator that it does not shuffle.
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed")
def test_data_that_would_be_used_up_must_come_with_images():
    model = compiled()
    with pytest.raises(
        ValueError, match="`images` must be given.*Received: images=None"
    ):
        fit(model, AttentionMonitor(), _endless(X, Y), None, steps_per_epoch=2)
    history = fit(
        model,
        AttentionMonitor(Batches(X, Y)),
        _endless(X, Y),
        None,
        steps_per_epoch=2,
    )
    assert "stage1_block1_attention/spatial_mean" in history


BAD = {
    "channels": (X[..., :1], ValueError, r"\(B, 8, 8, 3\).*\(32, 8, 8, 1\)"),
    "one image": (X[0], ValueError, r"images\[None\]"),
    "none": (X[:0], ValueError, "not be empty"),
    "not finite": (X * np.nan, ValueError, "finite"),
    "a name": ("x", TypeError, "array of numbers"),
    "a number": (3, ValueError, "must be of shape"),
}


@pytest.mark.parametrize("given, error, message", BAD.values(), ids=BAD)
def test_images_are_checked_before_training(given, error, message):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        fit(model, AttentionMonitor(given))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "given",
    [list(X[:4]), X[:4].tolist(), (X[:4], Y[:4])],
    ids=["list of images", "numbers", "with labels"],
)
def test_images_come_in_several_forms(given):
    model = compiled()
    history = fit(model, AttentionMonitor(given))
    _, spatial = explain.attention_maps(model, X[:4])["stage1_block1_attention"]
    assert history["stage1_block1_attention/spatial_mean"][0] == pytest.approx(
        spatial.mean(dtype="float64"), abs=1e-5
    )


def test_models_of_several_inputs_are_looked_at():
    left, right = (
        keras.Input((8, 8, 3), name="left"),
        keras.Input((8, 8, 3), name="right"),
    )
    x = CBAM(1, 3, name="gate")(layers.Add()([left, right]))
    x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    model = compiled(keras.Model({"left": left, "right": right}, x))
    history = fit(model, AttentionMonitor(), {"left": X, "right": X})
    assert "gate/channel_mean" in history


def test_what_follows_in_the_list_writes_the_numbers(tmp_path):
    path = tmp_path / "log.csv"
    compiled().fit(
        X,
        Y,
        verbose=0,
        epochs=2,
        callbacks=[AttentionMonitor(), keras.callbacks.CSVLogger(path)],
    )
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 2
    assert 0 < float(rows[1]["stage2_block1_attention/channel_mean"]) < 1


def test_training_goes_as_without_the_monitor():
    plain, watched = compiled(), compiled()
    expected = plain.fit(X, Y, verbose=0, epochs=2, shuffle=False).history
    history = fit(watched, AttentionMonitor(), epochs=2, shuffle=False)
    assert history["loss"] == expected["loss"]
    for one, other in zip(plain.variables, watched.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )


def test_a_model_without_attention_has_nothing_to_watch():
    with pytest.raises(ValueError, match="must have attention layers"):
        fit(compiled(tiny(None)), AttentionMonitor())


@pytest.mark.parametrize("patience", [0, -1, 2.5, True, None])
def test_patience_is_a_positive_integer(patience):
    with pytest.raises(ValueError, match="`patience` must be a positive"):
        AttentionMonitor(patience=patience)
