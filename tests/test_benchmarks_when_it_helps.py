"""The experiment on when attention helps: its networks and intervals."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import when_it_helps, when_it_helps_report
from cbam_keras import layers

QUANTILE = stats.t.ppf(0.975, 3)


def rows(counts):
    """Returns results whose digits are recognized on so many canvases."""
    return [{"right": "".join(map(str, row))} for row in counts]


def test_the_difference_is_the_mean_over_seeds_and_digits():
    own = np.random.default_rng(0).integers(0, 5, (4, 30))
    other = np.random.default_rng(1).integers(0, 5, (4, 30))
    mean, _ = when_it_helps_report.difference(rows(own), rows(other))
    assert mean == pytest.approx((own - other).mean() / 4)


def test_seeds_that_differ_widen_the_interval():
    own = np.repeat([[4], [3], [4], [2]], 30, axis=1)
    _, reach = when_it_helps_report.difference(rows(own), rows(0 * own))
    by_seed = np.array([1, 0.75, 1, 0.5])
    assert reach == pytest.approx(QUANTILE * by_seed.std(ddof=1) / 2)


def test_digits_that_differ_widen_the_interval():
    one = np.random.default_rng(0).integers(0, 5, 30)
    _, reach = when_it_helps_report.difference(
        rows(np.tile(one, (4, 1))), rows(np.zeros((4, 30), int))
    )
    spread = (one / 4).std(ddof=1) / math.sqrt(30)
    assert reach == pytest.approx(QUANTILE * spread)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        by_seed = rng.normal(0, 0.1, (8, 1))
        by_digit = rng.normal(0, 0.3, (1, 60))
        chance = np.clip(0.5 + by_seed + by_digit, 0, 1)
        own = rng.binomial(4, chance)
        mean, reach = when_it_helps_report.difference(
            rows(own), rows(np.full((8, 60), 2))
        )
        inside += abs(mean) <= reach
    assert 0.92 < inside / 400 < 0.99


@pytest.mark.parametrize(
    ("start", "gate"),
    [
        ("identity", 1),
        ("plain identity", 1),
        ("paper", 0.25),
        ("open", 1 / (1 + math.exp(-2)) ** 2),
        ("one plus", 2.25),
    ],
)
def test_gates_start_as_their_names_say(few_digits, start, gate):
    images, _ = when_it_helps.load(4, 1, 0)
    arm = when_it_helps.Arm("cbam", start=start, width=4)
    model = when_it_helps.build(arm, images)
    x = np.random.default_rng(0).random((8, 6, 6, 16), "float32")
    found = np.asarray(model.get_layer("stage3_block1_attention")(x)) / x
    # Random kernels scatter the gates around it.
    assert found.mean() == pytest.approx(gate, rel=0.15)
    if gate == 1:
        np.testing.assert_array_equal(found, 1)


def test_the_authors_start_leaves_the_spatial_gate_even(few_digits):
    images, _ = when_it_helps.load(4, 1, 0)
    arm = when_it_helps.Arm("cbam", start="authors", width=4)
    model = when_it_helps.build(arm, images)
    gate = model.get_layer("stage1_block1_attention").spatial_attention
    x = np.random.default_rng(0).random((2, 6, 6, 4), "float32")
    np.testing.assert_allclose(np.asarray(gate(x)), x / 2, rtol=1e-6)


def test_blocks_with_gamma_at_zero_start_as_their_shortcut(few_digits):
    images, _ = when_it_helps.load(4, 1, 0)
    arm = when_it_helps.Arm(start="zero gamma", width=4)
    model = when_it_helps.build(arm, images)
    for stage in (1, 2, 3):
        norm = model.get_layer(f"stage{stage}_block1_bn2")
        assert not np.asarray(norm.gamma).any()


def test_attention_stands_in_the_stages_that_are_named(few_digits):
    images, _ = when_it_helps.load(4, 1, 0)
    arm = when_it_helps.Arm("se", stages=(2, 3), width=4)
    model = when_it_helps.build(arm, images)
    assert [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.SqueezeExcite)
    ] == ["stage2_block1_attention", "stage3_block1_attention"]


def test_gates_and_units_that_never_fire_are_counted(few_digits):
    images, (shown, _) = when_it_helps.load(4, 1, 0)
    arm = when_it_helps.Arm("cbam", start="identity", width=4)
    model = when_it_helps.build(arm, images)
    second, third = (
        model.get_layer(f"stage{stage}_block1_attention").channel_attention
        for stage in (2, 3)
    )
    second.squeeze_kernel.assign([[0, 0]] * 8)
    second.squeeze_bias.assign([-1, 1])
    third.excite_bias.assign([1] * 16)
    rows = when_it_helps.gates(model, shown.astype("float32"))
    assert [row["hidden"] for row in rows] == [1, 2, 4]
    assert rows[1]["dead"] == 1
    assert rows[1]["channel"] == [1, 0, 0]
    assert rows[1]["spatial"] == [1, 0]
    # Once for each of both pools, and twice a sigmoid.
    assert rows[2]["channel"][0] == pytest.approx(2 / (1 + math.exp(-2)))


def test_what_is_stored_is_not_trained_again(few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(when_it_helps, "RESULTS", tmp_path / "results.jsonl")
    tiny = {"width": 2, "canvases": 1, "epochs": 1}
    arms = {
        "none": when_it_helps.Arm(**tiny),
        "CBAM": when_it_helps.Arm("cbam", **tiny),
    }
    monkeypatch.setattr(when_it_helps_report, "STUDIES", {"main": arms})
    when_it_helps.train(arms.values(), [0, 1])
    before = (tmp_path / "results.jsonl").read_text()
    when_it_helps.train(arms.values(), [1, 0])
    assert (tmp_path / "results.jsonl").read_text() == before
    lines = [json.loads(line) for line in before.splitlines()]
    assert [line["attention"] for line in lines] == 2 * ["none", "cbam"]
    for line in lines:
        counts = [int(count) for count in line["right"]]
        assert len(counts) == 20
        assert sum(counts) / 80 == pytest.approx(line["test_accuracy"])
    tables = when_it_helps_report.tables(when_it_helps.stored())
    error = 100 - 50 * (lines[1]["test_accuracy"] + lines[3]["test_accuracy"])
    assert f" {error:.2f} |" in tables["main"]
    assert len(tables["gates of CBAM"].splitlines()) == 5
