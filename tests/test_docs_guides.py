"""Tests of what the code of the guides does, beyond that it runs."""

import functools
import re

import keras
import keras_tuner
import numpy as np
import pytest
from layer_checks import to_numpy
from test_docs_pages import ROOT, blocks, run

from cbam_keras import CBAM, insert_attention, models

PRETRAINED = "docs/guides/pretrained.md"
OTHER_TASKS = "docs/guides/other-tasks.md"
SEGMENTATION = "docs/guides/segmentation.md"
TUNE = "docs/guides/tune.md"


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Runs a few steps without compiling, which would take longer."""
    monkeypatch.setattr(
        keras.Model,
        "compile",
        functools.partialmethod(keras.Model.compile, run_eagerly=True),
    )


def blocks_below(file, heading):
    """Returns the Python code blocks of one section of a page."""
    text = (ROOT / file).read_text()
    level = heading.split()[0]
    section = text.split(f"\n{heading}\n")[1].split(f"\n{level} ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.S)


def weights_in(model, kind):
    """Returns the paths of all weights of the layers of a kind."""
    return {
        variable.path
        for layer in model.layers
        if isinstance(layer, kind)
        for variable in layer.weights
    }


def trained_in(model):
    return {variable.path for variable in model.trainable_variables}


def values(model):
    return {variable.path: to_numpy(variable) for variable in model.weights}


def changed_since(before, model):
    after = values(model)
    return {
        path for path in before if not np.array_equal(before[path], after[path])
    }


FINE_TUNING = blocks_below(PRETRAINED, "## Fine-tuning in two stages")


def test_fine_tuning_trains_new_layers_and_then_all(monkeypatch):
    network = functools.partial(
        models.ResNet, (1, 1), block="basic", widths=(4, 8), stem="strided"
    )
    monkeypatch.setattr(keras.applications, "MobileNetV2", network)
    names = {"keras": keras, "insert_attention": insert_attention}
    stage_one, stage_two, freeze_norm, freeze_by_type = FINE_TUNING

    # Each block but the first follows a `fit`.
    run(PRETRAINED, [stage_one], names)
    model = names["model"]
    new = weights_in(model, (CBAM, keras.layers.Dense))
    assert trained_in(model) == new
    assert len([x for x in model.layers if isinstance(x, CBAM)]) == 2

    before = values(model)
    run(PRETRAINED, [stage_two], names)
    averages = {path for path in before if "/moving_" in path}
    assert trained_in(model) == set(before) - averages
    plain = network(include_top=False)
    assert len(trained_in(model)) == len(plain.trainable_variables) + len(new)
    assert {"stem_conv/kernel", *averages} <= changed_since(before, model)

    run(PRETRAINED, [freeze_norm], names)
    norm = weights_in(model, keras.layers.BatchNormalization)
    assert averages < norm
    assert trained_in(model) == set(before) - norm
    before = values(model)
    model.compile("adam", loss="sparse_categorical_crossentropy")
    model.fit(names["images"], names["labels"], verbose=0)
    assert "stem_conv/kernel" in changed_since(before, model)
    assert not norm & changed_since(before, model)

    run(PRETRAINED, [freeze_by_type], names)
    assert trained_in(model) == new


def test_fine_tuning_prints_the_numbers_on_the_page(monkeypatch, capsys):
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: None)
    names = {"keras": keras, "insert_attention": insert_attention}
    run(PRETRAINED, FINE_TUNING[:2], names)
    numbers = re.findall(r"print\(.*# (\d+):", "".join(FINE_TUNING))
    assert capsys.readouterr().out.split() == numbers


def test_class_weights_give_all_classes_the_same_influence():
    names = run(OTHER_TASKS, blocks(OTHER_TASKS)[:1])
    weights = names["class_weight"]
    np.testing.assert_allclose([weights[i] for i in range(3)], [0.5, 4 / 3, 4])
    np.testing.assert_allclose(
        [(names["labels"] == i).sum() * weights[i] for i in range(3)], 20
    )


@pytest.mark.slow
def test_multi_label_and_regression_have_the_heads_that_are_said():
    first, _, multi_label, explain, regression = blocks(OTHER_TASKS)
    names = run(OTHER_TASKS, [first, multi_label, explain])
    assert names["probabilities"].shape == (60, 4)
    # Independent of each other, unlike those of a softmax.
    assert np.ptp(names["probabilities"].sum(axis=-1)) > 1e-3
    assert names["heat_maps"].shape == (2, 32, 32)
    run(OTHER_TASKS, [regression], names)
    assert names["model"].output_shape == (None, 1)
    assert names["model"].get_layer("stage2_block1_attention")
    assert names["model"].optimizer.iterations == 2


def test_unet_has_attention_in_its_skips_alone():
    names = run(SEGMENTATION, blocks(SEGMENTATION)[:1])
    model = names["model"]
    assert model.optimizer.iterations == 1
    for level in (1, 2):
        features = model.get_layer(f"encoder{level}_relu2").output
        gate = model.get_layer(f"skip{level}_attention")
        assert gate.input is features
        (joined,) = readers(model, gate.output)
        assert isinstance(joined, keras.layers.Concatenate)
        pools = set(readers(model, features)) - {gate}
        assert [type(x) for x in pools] == [keras.layers.MaxPooling2D]
    assert model(np.zeros((1, 8, 12, 3))).shape == (1, 8, 12, 2)


def test_attention_inserted_into_a_unet_changes_nothing_at_first():
    names = run(SEGMENTATION, blocks(SEGMENTATION)[:3])
    model = names["model"]
    assert names["same"]
    gates = [x for x in model.layers if isinstance(x, CBAM)]
    assert [gate.name for gate in gates] == [
        "encoder1_relu2_attention",
        "encoder2_relu2_attention",
    ]
    for gate in gates:
        assert {type(x) for x in readers(model, gate.output)} == {
            keras.layers.Concatenate,
            keras.layers.MaxPooling2D,
        }


def readers(model, tensor):
    """Returns the layers of a model that take a tensor as input."""
    return [
        layer
        for layer in model.layers
        if any(x is tensor for x in keras.tree.flatten(layer.input))
    ]


# KerasTuner's own, of a name of the standard library.
@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:getName:DeprecationWarning")
def test_own_build_function_searches_over_attention(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block, _ = blocks(TUNE)
    assert "max_trials=20" in block
    block = block.replace("max_trials=20", "max_trials=2")
    names = run(TUNE, [block.replace("epochs=3", "epochs=1")])
    trials = names["tuner"].oracle.trials.values()
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2

    hp = keras_tuner.HyperParameters()
    options = {"attention": "cbam", "reduction_ratio": 2, "kernel_size": 3}
    hp.values = {**options, "learning_rate": 0.001}
    model = names["build"](hp)
    gates = [x for x in model.layers if isinstance(x, CBAM)]
    assert [(x.reduction_ratio, x.kernel_size) for x in gates] == [(2, 3)] * 2
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)
    hp.values["attention"] = "none"
    assert not weights_in(names["build"](hp), CBAM)
