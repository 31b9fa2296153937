"""What gates are worth: against networks without them, and by hand."""

from unittest import mock

import insertion_checks as checks
import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from keras import layers
from layer_checks import randomize, to_numpy

from cbam_keras import CBAM, insert_attention
from cbam_keras.explain import gate_importance
from cbam_keras.explain.importance import Change
from cbam_keras.layers import KINDS, Attention

LABELS = np.array([0, 1, 2, 3, 4, 0, 1])
# Means of float32 differ by more than this if one of them does.
SAME = {"rel": 0, "abs": 1e-12}
# Of seven images, by Agresti and Min.
NOTHING = Change(0, 1.96 / 9, 0, 0)


def importance(model, batch_size=3):
    x = images(7, *model.input_shape[1:])
    return gate_importance(model, x, LABELS, batch_size=batch_size)


def _softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expected(model, x=None):
    """Returns accuracy and mean probability by the logits of the model."""
    x = images(7, *model.input_shape[1:]) if x is None else x
    batches = (x[start : start + 3] for start in (0, 3, 6))
    logits = [to_numpy(model(batch, training=False)) for batch in batches]
    logits = np.concatenate(logits).astype("float32").astype("float64")
    right = logits.argmax(axis=1) == LABELS
    return right.mean(), _softmax(logits)[np.arange(7), LABELS].mean()


def of(result, change=NOTHING):
    """Returns accuracy and probability after a change."""
    accuracy = result.accuracy + change.accuracy
    return accuracy, result.probability + change.probability


def shared(gate):
    """Returns a network that calls a gate twice."""
    first, second = (checks.conv(4, f"conv{x}") for x in (1, 2))
    return checks.network(lambda x: gate(second(gate(first(x)))))


PAIRS = {
    **{kind: (checks.small, kind) for kind in KINDS},
    "spatial_first": (checks.small, CBAM(2, 3, order="spatial_first")),
    "parallel": (checks.small, CBAM(2, 3, order="parallel")),
    "scse add": (checks.small, Attention("scse", {"combine": "add"})),
    "gc multiply": (checks.small, Attention("gc", {"fusion": "multiply"})),
    "mixed_float16": (checks.small, CBAM(2, 3)),
    "nested": (checks.nested_twice, CBAM(2, 3)),
    "frames": (checks.wrapped, CBAM(2, 3)),
    "built": (tiny, lambda: tiny(None)),
    "shared": (lambda: shared(CBAM(2, 3)), lambda: shared(lambda x: x)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_all_gates_off_is_the_network_without_attention(name):
    keras.config.set_dtype_policy(name if "float" in name else "float32")
    build, other = PAIRS[name]
    if name in ("built", "shared"):
        model, plain = build(), other()
        for layer in plain.layers[1:]:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    else:
        plain = checks.vary(build())
        model = insert_attention(plain, other, identity=False)
    for layer in checks.attention_of(model):
        randomize(layer)
    result = importance(model)
    off = result.rows[-1].off
    assert of(result, off) == pytest.approx(expected(plain), **SAME)
    assert abs(off.probability) > 1e-5


@pytest.mark.every_backend
@pytest.mark.parametrize("half", ["channel", "spatial"])
def test_a_gate_is_off_where_its_weights_make_it_one(half):
    # `identity_init` doubles the sigmoid, so it is one at 0.
    model = tiny(CBAM(2, 3, identity_init=True))
    before, layer = importance(model), checks.attention_of(model)[1]
    for variable in getattr(layer, f"{half}_attention").variables:
        variable.assign(0 * to_numpy(variable))
    after = importance(model)
    row, own = (x.rows[2 + (half == "spatial")] for x in (before, after))
    assert row.gate == f"{layer.name}/{half}" and row.off.probability != 0
    assert of(before, row.off) == pytest.approx(of(after), **SAME)
    assert (own.spread, own.constant, own.off) == (0, NOTHING, NOTHING)


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["cbam-paper", "se", "eca"])
def test_a_map_that_is_constant_loses_nothing_by_its_mean(kind):
    # Without a sigmoid, whose rounding depends on the place in memory.
    options = {"gate_activation": "linear", "identity_init": False}
    model = tiny(Attention(kind, options))
    for layer in checks.attention_of(model):
        for variable in layer.variables:
            if "kernel" in variable.name:
                variable.assign(0 * to_numpy(variable))
    *rows, total = importance(model).rows
    assert {row.spread for row in rows} == {0.0}
    assert {row.constant for row in (*rows, total)} == {NOTHING}
    assert total.off.probability != 0


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_means_and_spreads_are_those_of_the_maps(data_format):
    gate = CBAM(2, 3, order="parallel", data_format=data_format, name="gate")
    head = [layers.Flatten(), layers.Dense(5)]
    model = keras.Sequential([keras.Input((6, 4, 5)), gate, *head])
    result, x = importance(checks.vary(model)), images(7, 6, 4, 5)
    *rows, total = result.rows
    maps = [*map(to_numpy, gate.attention_maps(x))]
    rest = keras.Sequential(head)
    for row, values, other in zip(rows, maps, maps[::-1], strict=True):
        spread = values.var(axis=0).mean() / values.var()
        assert row.spread == pytest.approx(spread, rel=1e-4)
        found = expected(rest, x * other * values.mean(axis=0))
        assert of(result, row.constant) == pytest.approx(found, abs=1e-6)
    assert of(result) == pytest.approx(expected(model), abs=1e-6)
    assert [row.gate for row in rows] == ["gate/channel", "gate/spatial"]
    assert [row.shape for row in result.rows] == [(6, 4, 5), (6, 4, 5), None]
    assert (total.gate, total.parameters) == ("all gates", gate.count_params())
    assert total.macs == sum(row.macs for row in rows) > 0


def test_intervals_are_those_of_agresti_and_min():
    # Of ten images three are lost and one is gained, whose chance rises.
    before = np.array([(1, 0.5)] * 6 + [(0, 0.5)] * 4)
    after = np.array([(0, 0.5)] * 3 + [(1, 0.5)] * 3 + [(1, 0.6), *before[7:]])
    # With half an image more in each of four cells: 12, 3.5 and 1.5.
    error = 1.96 * (3.5 + 1.5 - (3.5 - 1.5) ** 2 / 12) ** 0.5 / 12
    # One of ten differs by 0.1: a standard deviation of 0.03.
    numbers = (-0.2, error, 0.01, 1.96 * 0.03 / 10**0.5)
    change = vars(Change.of(before, after))
    assert tuple(change.values()) == pytest.approx(numbers)


def test_a_shared_layer_has_a_row_for_each_call_and_is_counted_once():
    gate = CBAM(2, 3, name="own")
    result = importance(checks.vary(shared(gate)))
    *rows, total = result.rows
    calls = ["own/channel", "own/spatial", "own#2/channel", "own#2/spatial"]
    assert [row.gate for row in rows] == calls
    assert total.parameters == gate.count_params()
    assert len({0, *(row.off.probability for row in rows)}) == 5
    assert all(call in result._repr_html_() for call in calls)
    pytest.importorskip("pandas", reason="makes data frames")
    found = result.to_dataframe()[["gate", "off_probability"]].values.tolist()
    assert found == [[x.gate, x.off.probability] for x in result.rows]


def test_what_comes_before_a_gate_runs_once():
    model = tiny()
    stem = model.get_layer("stem_conv")
    with mock.patch.object(stem, "call", wraps=stem.call) as call:
        importance(model, batch_size=7)
    # For the means, both replacements of all gates, and each in turn.
    assert call.call_count == 4


BAD = {
    "must have attention layers of cbam_keras": (checks.small, LABELS),
    r"7 integers .* labels \(3,\)": (tiny, LABELS[:3]),
    r"7 integers .*np.argmax.* labels \(7, 5\)": (tiny, np.ones((7, 5))),
    "`labels` must be an array of numbers.*NoneType": (tiny, None),
    r"7 integers .* of float64": (tiny, LABELS / 2),
    "`labels` must be .* from 0 to 4": (tiny, LABELS + 1),
    "return a value per class": (lambda: tiny(include_top=False), LABELS),
    "`model` must give classes": (lambda: tiny(classes=1), 0 * LABELS),
    "a single output, of classes": (checks.shared_layer, LABELS),
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_are_refused(message):
    model, labels = BAD[message]
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        gate_importance(model(), images(7, 8, 8, 3), labels)
